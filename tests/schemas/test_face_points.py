"""The order of the 131 points is what people's checkpoints were trained with."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from schemas import face_points


def test_pose_and_content_share_the_points_without_remainder() -> None:
    assert len(face_points.ORDER) == len(set(face_points.ORDER)) == 131
    assert sorted(face_points.POSE_POSITIONS + face_points.CONTENT_POSITIONS) == list(range(131))
    assert (len(face_points.POSE_INDICES), len(face_points.CONTENT_INDICES)) == (74, 57)


def test_content_is_the_jaw_and_then_the_lips() -> None:
    assert face_points.CONTENT_INDICES[:17] == (132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361)
    assert set(face_points.CONTENT_INDICES[17:]) == {index for path in face_points.LIPS for index in path}
    assert face_points.CONTENT_INDICES[face_points.UPPER_LIP] == 0
    assert face_points.CONTENT_INDICES[face_points.LOWER_LIP] == 17


def test_every_path_runs_over_points_that_are_kept() -> None:
    full_face = face_points.POSE_INDICES + face_points.CONTENT_INDICES
    for path, positions in zip(face_points.PATHS, face_points.PATH_POSITIONS, strict=True):
        assert tuple(full_face[position] for position in positions) == path


def test_order_is_that_of_the_reference(shared: Path) -> None:
    reference = np.load(shared / "reference/iplap/c07.npz")
    assert tuple(reference["order"]) == face_points.ORDER
    assert tuple(reference["pose_idx"]) == face_points.POSE_INDICES
    assert tuple(reference["content_idx"]) == face_points.CONTENT_INDICES


def test_a_mirror_of_a_mirror_is_the_face_itself() -> None:
    assert sorted(face_points.MIRRORED) == sorted(face_points.ORDER)
    assert all(face_points.MIRRORED[partner] == index for index, partner in face_points.MIRRORED.items())
    assert all(face_points.MIRRORED_POSE[partner] == place for place, partner in enumerate(face_points.MIRRORED_POSE))
    assert all(face_points.MIRRORED_CONTENT[partner] == place for place, partner in enumerate(face_points.MIRRORED_CONTENT))
    in_the_middle = {index for index, partner in face_points.MIRRORED.items() if index == partner}
    assert in_the_middle == {168, 6, 197, 195, 5, 4, 0, 13, 14, 17, 152}


def test_a_mirror_joins_the_points_that_were_joined() -> None:
    lines = {frozenset(ends) for path in face_points.PATHS for ends in itertools.pairwise(path)}
    assert {frozenset(face_points.MIRRORED[end] for end in line) for line in lines} == lines


def mirror_distances(pose: np.ndarray, content: np.ndarray) -> np.ndarray:
    """How far each of 131 points (2, 131) of a face is from its place in the mirror, laid over the face as well as may be; in face widths."""
    face = np.concatenate([pose, content], axis=1)
    plane = face[0] + 1j * face[1]
    order = np.concatenate([face_points.MIRRORED_POSE, 74 + np.array(face_points.MIRRORED_CONTENT)])
    turned = -plane.real[order] + 1j * plane.imag[order]
    plane, turned = plane - plane.mean(), turned - turned.mean()
    turned *= (turned.conj() * plane).sum() / (turned.conj() * turned).sum()
    return np.abs(turned - plane) / np.ptp(plane.real)


@pytest.mark.parametrize("clip", ["c07", "c09", "c19", "c28"])
def test_real_faces_are_nearly_the_same_in_a_mirror(shared: Path, clip: str) -> None:
    assert most_frontal(shared, clip).mean() < 0.04


def test_each_point_of_a_frontal_face_lies_where_its_mirrored_one_does(shared: Path) -> None:
    assert most_frontal(shared, "c07").max() < 0.02, "neighbours on a lip are further apart than that"


def most_frontal(shared: Path, clip: str) -> np.ndarray:
    reference = np.load(shared / f"reference/iplap/{clip}.npz")
    frames = [mirror_distances(pose, content) for pose, content in zip(reference["pose"], reference["content"], strict=True)]
    return min(frames, key=np.mean)
