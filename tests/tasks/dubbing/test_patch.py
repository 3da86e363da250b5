"""What an editor gets: laid over the source, the pictures are the dub."""

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from schemas.errors import StoreError
from tasks.dubbing.patch import PatchWriter, with_alpha
from tasks.faces.crop import Box

NTSC = Fraction(30000, 1001)


def laid_over(source: np.ndarray, png: Path, box: list[int]) -> np.ndarray:
    """What an editor does."""
    face = cv2.imread(str(png), cv2.IMREAD_UNCHANGED).astype(float)
    x0, y0, x1, y1 = box
    alpha = face[:, :, 3:] / 255
    shown = source.astype(float)
    shown[y0:y1, x0:x1] += alpha * (face[:, :, :3] - shown[y0:y1, x0:x1])
    return shown


def test_laid_over_the_source_it_is_the_dub(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    source = random.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    box = Box(10.6, 20.2, 41.9, 55.5)
    face = random.uniform(0, 255, (35, 31, 3)).astype(np.float32)
    mask = cv2.GaussianBlur(np.pad(np.ones((19, 15), np.float32), 8), (9, 9), 3)
    with PatchWriter(str(tmp_path / "patch"), NTSC, 80, 60) as writer:
        writer.write(1234, with_alpha(face, mask), box)
    index = json.loads((tmp_path / "patch" / "patch.json").read_text())
    assert index == {"fps": "30000/1001", "width": 80, "height": 60, "frames": [{"frame": 1234, "file": "001234.png", "box": [10, 20, 41, 55]}]}
    dub = source.astype(float)
    dub[20:55, 10:41] = mask[:, :, None] * face + (1 - mask[:, :, None]) * dub[20:55, 10:41]
    assert np.abs(laid_over(source, tmp_path / "patch" / "001234.png", [10, 20, 41, 55]) - dub).max() < 1.6


def test_values_beyond_the_range_of_a_picture_are_cut() -> None:
    face = np.array([[[-20.0, 300.0, 99.6]]], dtype=np.float32)
    assert with_alpha(face, np.ones((1, 1), np.float32)).tolist() == [[[0, 255, 100, 255]]]


def test_the_index_is_there_only_when_all_pictures_are(tmp_path: Path) -> None:
    face = np.zeros((2, 2, 4), np.uint8)

    def broken() -> None:
        with PatchWriter(str(tmp_path), NTSC, 8, 8) as writer:
            writer.write(0, face, Box(0, 0, 2, 2))
            raise RuntimeError("out of memory")

    with PatchWriter(str(tmp_path), NTSC, 8, 8) as writer:
        writer.write(0, face, Box(0, 0, 2, 2))
    assert (tmp_path / "patch.json").exists()
    with pytest.raises(RuntimeError):
        broken()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000.png"]


def test_a_dub_that_shows_no_new_face_has_an_index_without_frames(tmp_path: Path) -> None:
    with PatchWriter(str(tmp_path / "new"), Fraction(25), 8, 8):
        pass
    assert json.loads((tmp_path / "new" / "patch.json").read_text())["frames"] == []


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError), PatchWriter(str(tmp_path / "file"), NTSC, 8, 8) as writer:
        writer.write(0, np.zeros((2, 2, 4), np.uint8), Box(0, 0, 2, 2))
    with pytest.raises(ValueError, match="does not fill"):
        PatchWriter(str(tmp_path), NTSC, 8, 8).write(0, np.zeros((2, 3, 4), np.uint8), Box(0, 0, 2, 2))
