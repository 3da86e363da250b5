import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

from schemas.settings import CropSettings
from tasks.dubbing.appearance import SAME_PERSON, Look, likeness, look_of
from tasks.faces.crop import crop_face, face_box, relative_points, split_points
from tasks.faces.landmarks import FaceMesh
from tests.tasks.dubbing.edited_footage import admiral

POINTS = np.array(json.loads((Path(__file__).parents[1] / "faces/astronaut_points.json").read_text()))
PICTURE = np.ascontiguousarray(skimage.data.astronaut()[:, :, ::-1])


def seen(picture: np.ndarray, points: np.ndarray, crop: CropSettings | None = None) -> Look:
    crop = crop or CropSettings()
    box = face_box(points, (picture.shape[0], picture.shape[1]), crop)
    return look_of(crop_face(picture, box, crop.size), *split_points(relative_points(points, box, crop)), (box.height, box.width))


def test_a_face_is_alike_in_another_light_size_place_and_crop() -> None:
    look = seen(PICTURE, POINTS)
    assert likeness([look], [look]) == pytest.approx(1.0, abs=1e-6)
    darker = (PICTURE * 0.85).astype(np.uint8)
    half = cv2.resize(PICTURE, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    turn = cv2.getRotationMatrix2D((220.0, 120.0), 15.0, 1.0)
    leaning = cv2.warpAffine(PICTURE, turn, (512, 512))
    others = seen(darker, POINTS), seen(half, POINTS / 2), seen(leaning, POINTS @ turn[:, :2].T + turn[:, 2]), seen(PICTURE, POINTS, CropSettings(padding=0.3))
    for other in others:
        assert likeness([look], [other]) > 0.93


def test_two_persons_are_not() -> None:
    picture = admiral(0)
    with FaceMesh() as mesh:
        points = mesh.find(picture)
    assert points is not None
    assert likeness([seen(PICTURE, POINTS)], [seen(picture, points)]) < SAME_PERSON - 0.1


def test_the_most_alike_looks_decide_and_none_is_like_nobody() -> None:
    look, other = seen(PICTURE, POINTS), seen(255 - PICTURE, POINTS)
    assert likeness([look, other], [other]) == pytest.approx(1.0, abs=1e-6)
    assert likeness([look], [other]) < 0
    assert likeness([], [look]) == -np.inf
