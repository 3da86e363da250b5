"""Which detector is asked when, and what comes of it. The astronaut's head far away is what FaceMesh alone misses."""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from schemas.settings import CuttingSettings
from tasks.faces import detect
from tasks.faces.detect import FRAMES_A_LOOK, FaceFinder
from tests.footage import portrait

Picture = npt.NDArray[np.uint8]
BLANK = np.full((360, 640, 3), 90, dtype=np.uint8)


def far_away(head_px: int = 190, x: int = 300) -> Picture:
    picture = np.full((360, 640, 3), 90, dtype=np.uint8)
    picture[120 : 120 + head_px, x : x + head_px] = portrait((head_px, head_px))
    return picture


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Picture]:
    """The pictures that dlib was shown."""
    seen: list[Picture] = []
    boxes = detect._DlibDetector.boxes

    def counted(self: object, picture: Picture) -> list[npt.NDArray[np.float64]]:
        seen.append(picture)
        return boxes(self, picture)

    monkeypatch.setattr(detect._DlibDetector, "boxes", counted)
    return seen


def finder(detector: str, **changes: object) -> FaceFinder:
    return FaceFinder(CuttingSettings(detector=detector, **changes))


def followed(finding: FaceFinder, pictures: list[Picture]) -> list[int]:
    """Faces in each picture, each told of those before it."""
    known: list[npt.NDArray[np.float64]] = []
    counts = []
    for picture in pictures:
        known = finding.find(picture, known)
        counts.append(len(known))
    return counts


def test_dlib_finds_what_facemesh_alone_misses() -> None:
    picture = far_away()
    with finder("mediapipe") as alone, finder("dlib") as dlib, finder("both") as both:
        assert alone.find(picture) == []
        (points,) = dlib.find(picture)
        np.testing.assert_array_equal(both.find(picture)[0], points)
    assert ((points > (300, 120)) & (points < (490, 310))).all()


def test_a_known_face_is_followed_without_dlib(looks: list[Picture]) -> None:
    with finder("dlib") as finding:
        assert followed(finding, [far_away(x=300 + step) for step in range(0, 40, 4)]) == [1] * 10
    assert len(looks) == 1


def test_while_no_face_is_found_dlib_looks_now_and_then(looks: list[Picture]) -> None:
    with finder("dlib") as finding:
        assert followed(finding, [BLANK] * (2 * FRAMES_A_LOOK + 1)) == [0] * (2 * FRAMES_A_LOOK + 1)
        assert len(looks) == 3
        finding.forget()
        finding.find(BLANK)
    assert len(looks) == 4  # at a cut at once


def test_a_lost_face_is_looked_for_at_once(looks: list[Picture]) -> None:
    with finder("dlib") as finding:
        assert followed(finding, [far_away(x=40), far_away(x=400)]) == [1, 1]
    assert len(looks) == 2


def test_both_asks_dlib_only_where_facemesh_finds_none(looks: list[Picture]) -> None:
    near = portrait((360, 360))
    with finder("both") as finding, finder("mediapipe") as alone:
        np.testing.assert_array_equal(finding.find(near)[0], alone.find(near)[0])
        assert looks == []
        assert len(finding.find(far_away())) == 1
    assert len(looks) == 1


def test_the_whole_picture_is_the_last_resort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect._DlibDetector, "boxes", lambda self, picture: [])
    with finder("dlib") as finding:
        assert len(finding.find(portrait((360, 360)))) == 1


@pytest.mark.parametrize("detector", ["mediapipe", "dlib", "both"])
def test_no_more_faces_than_asked_for(detector: str) -> None:
    pair = np.hstack([portrait((320, 320)), portrait((320, 320))])
    with finder(detector, max_faces=1) as one, finder(detector, max_faces=2) as two:
        assert len(one.find(pair)) == 1
        assert len(two.find(pair)) == 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (400, 2), (16, 16)])
def test_tiny_pictures_have_no_faces(shape: tuple[int, int]) -> None:
    with finder("both") as finding:
        assert finding.find(np.zeros((*shape, 3), dtype=np.uint8), [np.array([[0.0, 0.0], [5.0, 5.0]])]) == []


@pytest.fixture
def meshes(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """FaceMesh objects as they are made."""
    made: list[object] = []
    mesh: Callable[..., object] = detect.FaceMesh

    def counted(*arguments: object) -> object:
        made.append(mesh(*arguments))
        return made[-1]

    monkeypatch.setattr(detect, "FaceMesh", counted)
    return made


def test_facemesh_is_made_anew_after_so_many_clips(meshes: list[object]) -> None:
    with FaceFinder(CuttingSettings(), clips_a_mesh=3) as finding:
        for _ in range(7):
            finding.count_clip()
        assert len(meshes) == 3
        assert len(finding.find(portrait((256, 256)))) == 1
    with pytest.raises(ValueError, match="closed"):
        meshes[0].find(BLANK)


def test_a_tracking_facemesh_is_made_anew_only_where_it_forgets_anyway(meshes: list[object]) -> None:
    with FaceFinder(CuttingSettings(mesh="tracking"), clips_a_mesh=1) as finding:
        finding.count_clip()
        assert len(meshes) == 1
        finding.forget()
        assert len(meshes) == 2


def test_small_pictures_are_enlarged_for_dlib_and_large_ones_reduced() -> None:
    dlib = detect._DlibDetector()
    for scale in (0.75, 1.0, 3.0):
        picture = cv2.resize(far_away(), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        (box,) = dlib.boxes(picture)
        middle = (box[:2] + box[2:]) / 2 / scale
        assert np.abs(middle - (396, 203)).max() < 15
