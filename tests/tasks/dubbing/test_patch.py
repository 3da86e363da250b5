"""What an editor gets: laid over the source, the pictures are the dub."""

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from schemas.errors import StoreError
from tasks import places
from tasks.dubbing.patch import PatchWriter, with_alpha
from tasks.faces.crop import Box
from tests.s3_server import s3_bucket

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


FACE = np.zeros((2, 2, 4), np.uint8)


def write_patch(location: str, frames: int, parts: int = 1, breaks: type[BaseException] | None = None) -> None:
    """A patch of so many frames and speakers, that breaks off after them if an error is given."""
    with PatchWriter(location, NTSC, 8, 8) as writer:
        for frame in range(frames):
            for part in range(parts):
                writer.write(frame, FACE, Box(0, 0, 2, 2), part)
        if breaks is not None:
            raise breaks("stopped")


def names_in(location: str) -> set[str]:
    return {places.name_of(file.path) for file in places.list_objects(location)}


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_bucket("patches") as prefix:
        yield prefix


@pytest.fixture(params=["folder", "s3"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a patch is written: a folder of its own, and a prefix of a bucket."""
    if request.param == "folder":
        return str(tmp_path / "patch")
    return f"{request.getfixturevalue('bucket')}/{tmp_path.name}"


@pytest.mark.parametrize("breaks", [RuntimeError, KeyboardInterrupt])
def test_a_patch_that_broke_off_leaves_nothing(location: str, breaks: type[BaseException]) -> None:
    write_patch(location, frames=2)
    with pytest.raises(breaks, match="stopped"):
        write_patch(location, frames=3, parts=2, breaks=breaks)
    assert names_in(location) == set()


def test_what_a_killed_dub_left_goes_with_the_next_and_what_is_not_of_a_patch_stays(location: str) -> None:
    others = {"000003_graded.png", "3.png", "logo.png", "000003.jpg", "notes.txt"}
    for name in (*others, "000007.png", "000007-1.png", "1000000.png", "patch.unfinished"):  # nobody was left to write an index
        places.write_bytes(places.join(location, name), b"")
    write_patch(location, frames=2)
    assert names_in(location) == others | {"000000.png", "000001.png", "patch.json"}
    write_patch(location, frames=1, parts=2)
    assert names_in(location) == others | {"000000.png", "000000-1.png", "patch.json"}


def test_pictures_of_somebodys_own_are_left_alone(location: str) -> None:
    places.write_bytes(places.join(location, "000007.png"), b"")
    with pytest.raises(StoreError, match=r"000007\.png that are of no patch; give the patch another folder"):
        write_patch(location, frames=1)
    assert names_in(location) == {"000007.png"}


def test_when_removing_fails_too_the_error_that_broke_it_off_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(location: str) -> None:
        raise StoreError("it cannot be removed")

    monkeypatch.setattr("tasks.dubbing.patch.remove", refused)
    with pytest.raises(RuntimeError, match="stopped"):
        write_patch(str(tmp_path), frames=1, breaks=RuntimeError)


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
