"""Looks at footage: what is seen, how often, and that their number does not grow with the length."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from schemas.settings import CropSettings
from tasks.dubbing import looks
from tasks.dubbing.looks import looks_at
from tasks.media.encode import VideoWriter
from tasks.media.probe import probe
from tests.footage import make_talking_clip, portrait


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds; the face is hidden from the second second to the third."""
    return make_talking_clip(tmp_path_factory.mktemp("looks") / "clip.mp4", seconds=4.0, hidden_frames=range(25, 50))


def seen(path: Path, until_s: float | None = None, face: str = "largest") -> list[looks.Glance]:
    return looks_at(path, probe(path), until_s, CropSettings(), face)


def test_a_video_is_looked_at_twice_a_second_and_its_faces_are_measured(clip: Path) -> None:
    told = seen(clip)
    assert [look.time_s for look in told] == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]
    assert [look.face is not None for look in told] == [True, True, False, False, True, True, True, True]
    assert [look.persons for look in told] == [1, 1, 0, 0, 1, 1, 1, 1]
    assert [look.is_cut for look in told] == [False, False, True, False, True, False, False, False]
    face = told[0].face
    assert face is not None
    assert 60 < face.face_px < 130
    assert face.yaw_deg < 30
    assert 60 < face.brightness < 200


def test_no_more_is_looked_at_than_is_dubbed(clip: Path) -> None:
    assert [look.time_s for look in seen(clip, until_s=1.2)] == [0, 0.5]
    assert len(seen(clip, until_s=0.1)) == 1


def test_a_long_video_is_looked_at_in_stretches(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "WHOLE_UP_TO_S", 2.0)
    monkeypatch.setattr(looks, "STRETCHES", 2)
    monkeypatch.setattr(looks, "STRETCH_S", 1)
    assert [look.time_s for look in seen(clip)] == [0, 0.5, 3, 3.5]


def test_a_still_picture_is_looked_at_once_and_two_faces_are_two_persons(tmp_path: Path) -> None:
    two = np.hstack([portrait(), portrait()[:, ::-1]])
    cv2.imwrite(str(tmp_path / "two.png"), two)
    (look,) = seen(tmp_path / "two.png")
    assert (look.persons, look.seen) == (2, 2)


def test_the_face_at_a_place_is_looked_at(tmp_path: Path) -> None:
    larger = cv2.resize(portrait(), (300, 300))[22:278]
    cv2.imwrite(str(tmp_path / "two.png"), np.hstack([portrait() // 2, larger]))
    largest, left, right, first, second, third = (seen(tmp_path / "two.png", face=face)[0] for face in ("largest", "left", "right", "0", "1", "2"))
    assert (first, second) == (left, right)
    assert largest == right
    assert left.face is not None
    assert right.face is not None
    assert left.face.brightness == pytest.approx(right.face.brightness / 2, rel=0.1)
    assert left.face.face_px < right.face.face_px
    assert (third.face, third.seen) == (None, 2)


def test_where_fewer_faces_are_seen_than_elsewhere_the_last_of_them_is_looked_at(tmp_path: Path) -> None:
    two, alone = np.hstack([portrait() // 2, portrait()]), np.hstack([np.full_like(portrait(), 90), portrait()])
    with VideoWriter(str(tmp_path / "two.mp4"), 512, 256, 2, None) as writer:
        for picture in (two, alone):
            writer.write(picture)
    both, one = seen(tmp_path / "two.mp4", face="1")
    assert (both.seen, one.seen) == (2, 1)
    assert both.face is not None
    assert one.face is not None
    assert both.face.brightness == pytest.approx(one.face.brightness, rel=0.1)


def test_a_blurred_and_darkened_face_is_told_from_a_sharp_one(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "sharp.png"), portrait())
    cv2.imwrite(str(tmp_path / "blurred.png"), cv2.GaussianBlur(portrait(), (0, 0), 2.5) // 2)
    sharp, blurred = (seen(tmp_path / name)[0].face for name in ("sharp.png", "blurred.png"))
    assert sharp is not None
    assert blurred is not None
    assert blurred.sharpness < 0.1 * sharp.sharpness
    assert blurred.brightness == pytest.approx(sharp.brightness / 2, rel=0.1)


def test_a_video_of_one_frame_is_looked_at(tmp_path: Path) -> None:
    with VideoWriter(str(tmp_path / "one.mp4"), 256, 256, 25, None) as writer:
        writer.write(portrait())
    assert len(seen(tmp_path / "one.mp4")) == 1
