"""The order of the 131 points is what people's checkpoints were trained with."""

from pathlib import Path

import numpy as np

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
