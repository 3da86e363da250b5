import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import MediaError
from schemas.face_points import CONTENT_INDICES, CONTENT_POSITIONS, LOWER_LIP, ORDER, POSE_INDICES, POSE_POSITIONS, UPPER_LIP
from schemas.reasons import Reason
from schemas.settings import CropSettings
from tasks.faces.crop import UPPER_FACE, Box, crop_face, face_box, lip_opening, relative_points, split_points

PADDINGS = (0.0, 0.08, 0.5, "iplap-train", "iplap-dub")
PICTURE = (400, 600)


def points_within(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """131 points whose bounds are exactly these."""
    shares = np.random.default_rng(0).random((131, 2))
    shares[0], shares[1] = (0, 0), (1, 1)
    return shares * (x1 - x0, y1 - y0) + (x0, y0)


@pytest.mark.parametrize(
    ("padding", "box"),
    [
        (0.0, Box(100, 90, 201, 221)),
        (0.1, Box(87, 77, 214, 234)),  # 13 px on each side of 100.25..200.5 and 90.25..220.25, rounded outwards
        ("iplap-train", Box(95.25, 85.25, 205.5, 225.25)),
        ("iplap-dub", Box(75, 65, 225, 245)),
    ],
)
def test_the_box_is_padded_as_its_setting_says(padding, box):
    assert face_box(points_within(100.25, 90.25, 200.5, 220.25), PICTURE, CropSettings(anchor="all-points", padding=padding)) == box


def test_the_box_ends_at_the_picture():
    points = points_within(-20.0, 300.0, 80.0, 420.5)
    assert face_box(points, PICTURE, CropSettings(padding="iplap-dub")) == Box(0, 275, 105, 400)
    assert face_box(points, PICTURE, CropSettings(anchor="all-points", padding=0.08)) == Box(0, 290, 90, 400)


def test_the_uncut_box_is_cut_by_whole_pixels():
    assert Box(95.25, 85.75, 205.5, 225.99).pixels == (95, 85, 205, 225)


@pytest.mark.parametrize("padding", PADDINGS)
def test_a_face_outside_the_picture_has_no_box(padding):
    with pytest.raises(MediaError, match="outside") as error:
        face_box(points_within(-200, 10, -50, 90), PICTURE, CropSettings(padding=padding))
    assert error.value.reason == Reason.NO_FACE


def test_a_face_without_extent_has_no_box():
    with pytest.raises(MediaError, match="smaller than a pixel"):
        face_box(np.full((131, 2), 50.0), PICTURE, CropSettings(padding=0.0))


corners = st.floats(min_value=-300, max_value=900, allow_nan=False)


@settings(deadline=None)
@given(corners, corners, st.floats(0.01, 700), st.floats(0.01, 700), st.sampled_from(PADDINGS))
def test_every_box_lies_in_the_picture_and_holds_the_points_that_do(x, y, width, height, padding):
    points, crop = points_within(x, y, x + width, y + height), CropSettings(anchor="all-points", padding=padding)
    try:
        box = face_box(points, PICTURE, crop)
    except MediaError:
        return
    x0, y0, x1, y1 = box.pixels
    assert 0 <= x0 < x1 <= PICTURE[1]
    assert 0 <= y0 < y1 <= PICTURE[0]
    in_picture = ((points >= 0) & (points <= (PICTURE[1], PICTURE[0]))).all(axis=1)
    relative = relative_points(points, box, crop)[in_picture]
    assert ((relative >= -1e-9) & (relative <= 1 + 1e-9)).all()


@pytest.mark.parametrize("padding", [0.0, 0.08, "iplap-dub"])
def test_points_and_picture_agree(padding):
    """A white dot on a black picture is found where its relative point says."""
    points, crop = points_within(100.25, 90.25, 227.5, 217.25), CropSettings(padding=padding)
    picture = np.zeros((*PICTURE, 3), dtype=np.uint8)
    column, row = 150, 130
    picture[row, column] = 255
    box = face_box(points, PICTURE, crop)
    face = crop_face(picture, box, 256)[:, :, 0].astype(float)
    centre = np.array([(np.arange(256) + 0.5) @ face.sum(axis=axis) / face.sum() / 256 for axis in (0, 1)])
    np.testing.assert_allclose(centre, relative_points(np.array([[column + 0.5, row + 0.5]]), box, crop)[0], atol=0.004)


def test_relative_points_of_the_originals_training_use_the_uncut_box():
    box = Box(10.5, 20.25, 110.75, 220.75)
    points = np.array([[10.5, 20.25], [110.75, 220.75]])
    np.testing.assert_allclose(relative_points(points, box, CropSettings(padding="iplap-train")), [[0, 0], [1, 1]])
    np.testing.assert_allclose(relative_points(points, box, CropSettings(padding="iplap-dub")), [[0.005, 0.00125], [1.0075, 1.00375]])


def test_pose_and_content_hold_each_point_once():
    numbered = np.stack([np.arange(131), np.arange(131) + 1000], axis=1).astype(float)
    pose, content = split_points(numbered)
    assert pose.shape == (2, 74)
    assert content.shape == (2, 57)
    assert pose.dtype == content.dtype == np.float32
    assert tuple(pose[0]) == POSE_POSITIONS
    assert tuple(content[0]) == CONTENT_POSITIONS
    np.testing.assert_array_equal(pose[1], pose[0] + 1000)
    assert sorted(POSE_INDICES + CONTENT_INDICES) == sorted(ORDER)


def test_lip_opening_is_the_distance_of_the_outer_middles():
    content = np.zeros((2, 57), dtype=np.float32)
    content[:, UPPER_LIP], content[:, LOWER_LIP] = (0.5, 0.6), (0.53, 0.64)
    assert lip_opening(content) == pytest.approx(0.05)


@pytest.mark.parametrize("size", [128, 256])
def test_a_crop_is_square_whatever_the_box(size):
    picture = np.full((*PICTURE, 3), (10, 120, 250), dtype=np.uint8)
    for box in (Box(0, 0, 1, 1), Box(590, 0, 600, 400), Box(3.7, 2.2, 599.9, 399.5)):
        face = crop_face(picture, box, size)
        assert face.shape == (size, size, 3)
        assert (face == (10, 120, 250)).all()


def mouth_opened(points: np.ndarray, by_px: float, aside_px: float = 0.0) -> np.ndarray:
    """Jaw and lips moved down, and aside."""
    opened = points.copy()
    opened[list(CONTENT_POSITIONS)] += (aside_px, by_px)
    return opened


@pytest.mark.parametrize("padding", [0.0, 0.08, "iplap-dub"])
def test_a_box_on_the_upper_face_stays_where_the_jaw_moves(padding):
    face = np.array(json.loads((Path(__file__).parent / "astronaut_points.json").read_text()))
    upper, every = CropSettings(anchor="upper-face", padding=padding), CropSettings(anchor="all-points", padding=padding)
    for aside_px in (-30.0, 0.0, 30.0):
        assert face_box(mouth_opened(face, 6.0, aside_px), (512, 512), upper) == face_box(face, (512, 512), upper)
    assert face_box(mouth_opened(face, 6.0), (512, 512), every) != face_box(face, (512, 512), every)


def test_a_box_on_the_upper_face_has_room_for_an_open_mouth():
    face = np.array(json.loads((Path(__file__).parent / "astronaut_points.json").read_text()))
    crop = CropSettings(anchor="upper-face")
    relative = relative_points(mouth_opened(face, 6.0), face_box(face, (512, 512), crop), crop)
    assert ((relative >= 0) & (relative <= 1)).all()


def test_the_upper_face_is_above_the_nose_tip_and_without_jaw_and_lips():
    assert not set(UPPER_FACE) & set(CONTENT_POSITIONS)
    assert not {ORDER[position] for position in UPPER_FACE} & {4, 48, 115, 220, 275, 344, 440, 278, 45}
