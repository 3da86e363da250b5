import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.face_points import CONTENT_INDICES
from tasks.evaluation.lips import in_pixels, inner_opening, lips_are_closed, mouth_width, opening_share, outer_opening
from tests.tasks.evaluation.mouths import mouth


def test_a_mouth_of_40_pixels() -> None:
    content = mouth(np.array([0.0, 1.0, 8.0]), width=40, lip=6)
    assert mouth_width(content).tolist() == [40, 40, 40]
    assert inner_opening(content).tolist() == [0, 1, 8]
    assert outer_opening(content).tolist() == [12, 13, 20]
    assert opening_share(content) == pytest.approx([0, 0.025, 0.2])
    assert lips_are_closed(content).tolist() == [True, True, False], "a pixel of 40 is closed, 3 % of the width the line"


def test_points_are_those_of_facemesh() -> None:
    content = np.zeros((1, 2, 57), np.float32)
    content[0, 1, CONTENT_INDICES.index(14)] = 3  # inner middle of the lower lip
    content[0, 0, CONTENT_INDICES.index(61)] = 50  # the person's right corner
    assert (inner_opening(content)[0], mouth_width(content)[0], outer_opening(content)[0]) == (3, 50, 0)


def test_a_mouth_of_no_width_is_closed_and_no_error() -> None:
    assert opening_share(np.zeros((2, 2, 57), np.float32)).tolist() == [0, 0]


def test_shares_of_a_box_become_pixels() -> None:
    """The same mouth in a box that the open jaw makes higher: other shares, the same pixels."""
    pixels = mouth(np.full(2, 8.0))
    boxes = np.array([(100.0, 120.0), (100.0, 150.0)])
    shares = pixels / boxes[:, :, None].astype(np.float32)
    assert inner_opening(shares)[0] != inner_opening(shares)[1]
    assert inner_opening(in_pixels(shares, boxes)) == pytest.approx([8, 8])
    assert in_pixels(shares[:1], boxes[0]) == pytest.approx(pixels[:1])


@given(openings=st.lists(st.floats(0, 30), min_size=1, max_size=10), scale=st.floats(0.1, 10), x=st.floats(-300, 300), y=st.floats(-300, 300))
def test_shares_are_the_same_near_and_far_and_anywhere(openings: list[float], scale: float, x: float, y: float) -> None:
    content = mouth(np.array(openings))
    moved = content * scale + np.array([x, y], np.float32)[:, None]
    assert opening_share(moved) == pytest.approx(opening_share(content), abs=1e-3)
    assert outer_opening(moved) == pytest.approx(outer_opening(content) * scale, abs=1e-2)
