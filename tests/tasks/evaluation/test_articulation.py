import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.evaluation.articulation import articulation, spread

OPENINGS = st.lists(st.floats(0, 1), min_size=2, max_size=30).map(np.array)


def test_spread_is_within_clips() -> None:
    assert spread([np.array([1.0, 3.0])]) == 1
    assert spread([np.array([1.0, 3.0]), np.array([11.0, 13.0])]) == 1, "that one mouth hangs open is no movement"
    assert spread([]) == 0


def test_a_mouth_that_opens_a_third_as_far() -> None:
    real = [np.array([0.1, 0.4, 0.1, 0.4]), np.array([0.2, 0.2])]
    assert articulation([0.3 + opening / 3 for opening in real], real) == pytest.approx(1 / 3)


@given(real=OPENINGS.filter(lambda opening: opening.std() > 1e-3), scale=st.floats(0.1, 10), shift=st.floats(-1, 1))
def test_perfect_prediction_in_any_unit(real: np.ndarray, scale: float, shift: float) -> None:
    assert articulation([real], [real]) == 1
    assert articulation([scale * real + shift], [scale * real]) == pytest.approx(1)
    assert articulation([np.full(len(real), 0.3)], [real]) == pytest.approx(0, abs=1e-6)
    assert articulation([real.max() - real], [real]) == pytest.approx(1), "it moves as much, at the wrong time"


def test_real_mouths_that_do_not_move_tell_nothing() -> None:
    assert articulation([np.array([0.0, 1.0])], [np.array([0.3, 0.3])]) is None
