"""Landmarks, crops and sketches against what the original's preprocessing gives on real clips."""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from schemas.face_points import CONTENT_INDICES, ORDER, POSE_INDICES
from schemas.settings import CropSettings
from tasks.faces import draw_sketch
from tasks.faces.crop import crop_face, face_box, relative_points, split_points
from tasks.faces.landmarks import FaceMesh
from tasks.media.decode import Frame, read_frames

CLIPS = ("c07", "c09", "c19", "c28")
CROP = CropSettings(padding="iplap-train")


@pytest.fixture(scope="module")
def mesh() -> Iterator[FaceMesh]:
    with FaceMesh() as face_mesh:
        yield face_mesh


def clip_path(shared: Path, clip: str) -> Path:
    return shared / "reference" / "iplap" / "c28.mp4" if clip == "c28" else next((shared / "data" / "corpus").glob(f"{clip}_*"))


def frames_as_the_original_reads_them(path: Path) -> Iterator[Frame]:
    """OpenCV's fast conversion to BGR: dubmill's own is finer, which alone is 1 to 2 grey levels."""
    capture = cv2.VideoCapture(str(path))
    for index in itertools.count():
        is_there, picture = capture.read()
        if not is_there:
            return
        yield Frame(index, index / 25, picture)


class Comparison:
    """What dubmill finds in frames, and what the reference has for them."""

    def __init__(self, shared: Path, clip: str, mesh: FaceMesh) -> None:
        with np.load(shared / "reference" / "iplap" / f"{clip}.npz") as arrays:
            self.reference = dict(arrays)
        self.mesh = mesh
        self.with_pictures = self.reference["picture_frame"].tolist()
        self.distances: list[np.ndarray] = []
        self.grey_differences: list[float] = []
        self.equal_sketch_pixels: list[float] = []

    def take(self, frames: Iterable[Frame], every: int) -> None:
        for frame in frames:
            if frame.index in self.with_pictures or frame.index % every == 0:
                self._take_one(frame)

    def _take_one(self, frame: Frame) -> None:
        points = self.mesh.find(frame.picture)
        box = face_box(points, frame.picture.shape[:2], CROP)
        found = np.concatenate(split_points(relative_points(points, box, CROP)), axis=1)
        row = self.reference["frame"].tolist().index(frame.index)
        pose, content = self.reference["pose"][row], self.reference["content"][row]
        self.distances.append(np.abs(found - np.concatenate([pose, content], axis=1)))
        if frame.index in self.with_pictures:
            picture = self.with_pictures.index(frame.index)
            self.grey_differences.append(np.abs(crop_face(frame.picture, box, 128).astype(float) - self.reference["face"][picture]).mean())
            self.equal_sketch_pixels.append((draw_sketch(pose, content, (box.height, box.width)) == self.reference["sketch"][picture]).mean())


@pytest.mark.parametrize("clip", CLIPS)
def test_landmarks_of_decoded_clips_are_the_originals(shared, mesh, clip):
    comparison = Comparison(shared, clip, mesh)
    comparison.take(read_frames(clip_path(shared, clip), 25), every=5)
    assert_landmarks_agree(comparison)
    assert max(comparison.grey_differences) < 6  # the colours' conversion, and boxes whose edge falls on the other side of a whole pixel


@pytest.mark.parametrize("clip", CLIPS)
def test_crops_and_sketches_are_the_originals_on_the_same_pictures(shared, mesh, clip):
    comparison = Comparison(shared, clip, mesh)
    comparison.take(frames_as_the_original_reads_them(clip_path(shared, clip)), every=50)
    assert_landmarks_agree(comparison)
    assert max(comparison.grey_differences) < 2
    assert min(comparison.equal_sketch_pixels) >= 0.995


@pytest.mark.soak
@pytest.mark.parametrize("clip", CLIPS)
def test_landmarks_of_whole_clips_are_the_originals(shared, mesh, clip):
    comparison = Comparison(shared, clip, mesh)
    comparison.take(read_frames(clip_path(shared, clip), 25), every=1)
    assert len(comparison.distances) == len(comparison.reference["frame"])
    assert_landmarks_agree(comparison)


def assert_landmarks_agree(comparison: Comparison) -> None:
    assert len(comparison.grey_differences) == len(comparison.with_pictures)
    assert np.mean(comparison.distances) < 0.01
    assert np.max(comparison.distances) < 0.03


def test_the_points_are_numbered_as_in_the_original(shared):
    with np.load(shared / "reference" / "iplap" / "c07.npz") as reference:
        assert tuple(reference["order"]) == ORDER
        assert tuple(reference["pose_idx"]) == POSE_INDICES
        assert tuple(reference["content_idx"]) == CONTENT_INDICES
