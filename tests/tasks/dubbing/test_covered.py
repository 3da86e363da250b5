from collections.abc import Callable

import cv2
import numpy as np
import pytest

from schemas.face_points import CONTENT_POSITIONS
from tasks.dubbing.covered import PATCHES, mouth_look, usual_look, visibility
from tasks.faces.landmarks import FaceMesh
from tests.footage import portrait, talking_picture

Face = tuple[np.ndarray, np.ndarray]


def mouth_visibility(picture: np.ndarray, points: np.ndarray, usual: np.ndarray) -> float:
    return float(visibility(mouth_look(picture, points)[None], usual)[0])


@pytest.fixture(scope="module")
def faces() -> list[Face]:
    """A talking face: pictures and their landmarks (131, 2)."""
    pictures = [talking_picture(portrait((320, 320)), opening, 0.0) for opening in (0.0, 0.3, 0.6, 1.0, 0.5)]
    with FaceMesh() as mesh:
        return [(picture, points) for picture in pictures if (points := mesh.find(picture)) is not None]


@pytest.fixture(scope="module")
def usual(faces: list[Face]) -> np.ndarray:
    return usual_look(np.stack([mouth_look(*face) for face in faces]))


def lips(points: np.ndarray) -> tuple[int, int, int]:
    """Middle of the lips, and the width of the face."""
    x, y = points[list(CONTENT_POSITIONS)][17:].mean(axis=0)
    return round(x), round(y), round(np.ptp(points[:, 0]))


def microphone(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    x, y, width = lips(points)
    return cv2.circle(picture.copy(), (x, y + width // 8), width // 5, (25, 22, 22), -1)


def sheet(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    x, y, width = lips(points)
    return cv2.rectangle(picture.copy(), (x - width // 3, y - width // 10), (x + width // 3, y + width // 2), (225, 225, 220), -1)


def shaded_hand(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    covered = picture.copy()
    x, y, width = lips(points)
    for finger in range(4):
        centre = (x, y - width // 8 + finger * width // 8)
        cv2.ellipse(covered, centre, (width // 3, width // 16), 8, 0, 360, (70 + 8 * finger, 85 + 8 * finger, 120 + 8 * finger), -1)
    return covered


def test_a_speaking_mouth_is_visible_in_every_frame(faces: list[Face], usual: np.ndarray) -> None:
    assert len(faces) == 5
    assert [mouth_visibility(picture, points, usual) for picture, points in faces] == [1.0] * 5


@pytest.mark.parametrize("cover", [microphone, sheet, shaded_hand])
def test_what_is_before_the_mouth_covers_it(faces: list[Face], usual: np.ndarray, cover: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    for picture, points in faces:
        assert mouth_visibility(cover(picture, points), points, usual) < 0.5


def test_darker_and_warmer_light_covers_nothing(faces: list[Face], usual: np.ndarray) -> None:
    for picture, points in faces:
        in_other_light = (picture * np.array([0.7, 0.75, 0.8])).astype(np.uint8)
        assert mouth_visibility(in_other_light, points, usual) > 0.9


def test_a_microphone_in_some_frames_does_not_spoil_the_usual_look(faces: list[Face]) -> None:
    looks = np.stack(
        [mouth_look(microphone(*faces[0]), faces[0][1]), mouth_look(microphone(*faces[1]), faces[1][1]), *(mouth_look(*face) for face in faces[2:])]
    )
    seen = visibility(looks, usual_look(looks))
    assert seen[:2].max() < 0.5
    assert seen[2:].min() > 0.9


def test_a_beard_that_is_always_there_is_no_cover(faces: list[Face]) -> None:
    looks = np.stack([mouth_look(microphone(*face), face[1]) for face in faces])
    assert visibility(looks, usual_look(looks)).min() > 0.9


def test_frames_without_a_face_are_left_out(faces: list[Face], usual: np.ndarray) -> None:
    nothing = np.full((1, PATCHES, 3), np.nan, np.float32)
    looks = np.concatenate([nothing, np.stack([mouth_look(*face) for face in faces])])
    assert np.array_equal(usual_look(looks), usual)
    assert visibility(nothing, usual).tolist() == [1.0]
    assert np.isnan(usual_look(nothing)).all()


def test_a_face_out_of_the_picture_has_no_look(faces: list[Face]) -> None:
    picture, points = faces[0]
    assert np.isnan(mouth_look(picture, points + 1000)).all()
