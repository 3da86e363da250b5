import itertools
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from schemas.face_points import CONTENT_INDICES, PATHS, POSE_INDICES
from tasks.faces import draw_sketch

OUTSIDE = 2.0


def hand_made_points(places: dict[int, tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Pose and content with the given MediaPipe points; all others lie outside and are not drawn."""
    full = np.full((2, 131), OUTSIDE, dtype=np.float32)
    for position, index in enumerate(POSE_INDICES + CONTENT_INDICES):
        full[:, position] = places.get(index, (OUTSIDE, OUTSIDE))
    return full[:, :74], full[:, 74:]


def test_two_lines_pixel_by_pixel():
    pose, content = hand_made_points({168: (0.25, 0.25), 6: (0.25, 0.5), 61: (0.5, 0.75), 146: (0.75, 0.75)})
    expected = np.zeros((128, 128, 3), dtype=np.uint8)
    expected[32:65, 32] = 224  # down the nose
    expected[96, 64:97] = 224  # along the lip
    np.testing.assert_array_equal(draw_sketch(pose, content, (200, 200)), expected)
    assert draw_sketch(pose, content, (200, 200), size=256).shape == (256, 256, 3)


def test_a_point_on_the_far_edge_is_drawn_in_the_last_pixel():
    pose, content = hand_made_points({168: (1.0, 0.0), 6: (1.0, 1.0)})
    expected = np.zeros((128, 128, 3), dtype=np.uint8)
    expected[:, 127] = 224
    np.testing.assert_array_equal(draw_sketch(pose, content, (77, 77)), expected)


def test_a_line_with_an_end_outside_is_left_out():
    inside = {168: (0.5, 0.2), 6: (0.5, 0.4)}
    pose, content = hand_made_points({**inside, 197: (0.5, 1.01), 195: (0.4, -0.01)})
    np.testing.assert_array_equal(draw_sketch(pose, content, (90, 90)), draw_sketch(*hand_made_points(inside), (90, 90)))


def test_a_tall_crop_is_drawn_tall_and_then_squeezed():
    """On a canvas of 256 x 128 a level line covers one row of 256: half of one row of 128."""
    pose, content = hand_made_points({61: (0.25, 0.5), 146: (0.75, 0.5)})
    sketch = draw_sketch(pose, content, (200, 100))
    assert sketch.shape == (128, 128, 3)
    np.testing.assert_array_equal(np.flatnonzero(sketch[:, 64, 0]), [64])
    assert sketch[64, 64, 0] == 112
    np.testing.assert_array_equal(draw_sketch(*hand_made_points({61: (0.5, 0.25), 146: (0.5, 0.75)}), (100, 200))[:, :, 0], sketch[:, :, 0].T)


def test_the_canvas_takes_the_ratio_of_an_uncut_box():
    """259.465 / 255.526 is a canvas of 129 rows, the cut box's 260 / 255 would be one of 130: the lines move."""
    pose, content = np.random.default_rng(3).random((2, 2, 74))[0], np.random.default_rng(4).random((2, 57))
    assert (draw_sketch(pose, content, (259.465, 255.526)) != draw_sketch(pose, content, (260, 255))).any()
    np.testing.assert_array_equal(draw_sketch(pose, content, (259.465, 255.526)), draw_sketch(pose, content, (129, 128)))


relative = st.integers(-50, 250).map(lambda share: share / 200)


@settings(deadline=None)
@given(arrays.arrays(np.float64, (2, 131), elements=relative), st.integers(20, 300), st.integers(20, 300))
def test_it_is_the_contracts_lines_one_by_one(points, height, width):
    shorter = min(height, width)
    canvas = np.zeros((height * 128 // shorter, width * 128 // shorter))
    rows, columns = canvas.shape
    names = POSE_INDICES + CONTENT_INDICES
    for path in PATHS:
        for first, second in itertools.pairwise(points[:, names.index(index)].astype(float) for index in path):
            if all(0 <= value <= 1 for value in (*first, *second)):
                ends = [(min(int(x * columns), columns - 1), min(int(y * rows), rows - 1)) for x, y in (first, second)]
                cv2.line(canvas, *ends, 224, 1)
    expected = np.rint(cv2.resize(canvas, (128, 128)))
    sketch = draw_sketch(points[:, :74], points[:, 74:], (height, width))
    assert sketch.dtype == np.uint8
    assert (np.abs(sketch - expected[:, :, None]) <= 1).all()


@pytest.mark.parametrize("module", ["tasks.faces", "tasks.faces.sketch"])
def test_importing_it_brings_no_media_library(module):
    code = f"import sys, {module}; print([name for name in ('mediapipe', 'dlib', 'librosa', 'av', 'matplotlib', 'torch') if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
