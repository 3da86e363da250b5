import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.evaluation.leak import average_correlation, correlation, leak

SERIES = st.lists(st.floats(-1, 1), min_size=4, max_size=40).map(np.array).filter(lambda series: series.std() > 1e-2)


@given(series=SERIES, scale=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_correlation_knows_no_unit_but_the_sign(series: np.ndarray, scale: float, shift: float) -> None:
    assert correlation(scale * series + shift, series) == pytest.approx(1)
    assert correlation(shift - scale * series, series) == pytest.approx(-1)
    assert leak(shift - scale * series, series) == pytest.approx(-1, abs=1e-6)


def test_known_correlation() -> None:
    assert correlation(np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4])) == pytest.approx(0.8)


def test_what_stands_still_follows_nothing() -> None:
    assert correlation(np.full(9, 0.3), np.arange(9.0)) == 0
    assert correlation(np.array([]), np.array([])) == 0


def test_a_rhythm_that_clips_share_is_no_leak() -> None:
    """Both clips begin and end in silence: a mouth that follows the speech alone goes along with the source all the same."""
    random = np.random.default_rng(0)
    rhythm = np.repeat([0.0, 1.0, 0.0], 30)
    source, speaker = (rhythm * random.uniform(0.2, 1.0, 90) for _ in range(2))
    honest = 0.5 * speaker + random.normal(0, 0.02, 90)
    assert correlation(honest, source) > 0.5
    assert abs(leak(honest, source, [speaker])) < 0.25
    assert leak(honest + 0.3 * source, source, [speaker]) > 0.8
    assert leak(honest - 0.3 * source, source, [speaker]) < -0.8


def test_what_the_speech_explains_whole_leaks_nothing() -> None:
    speaker = np.random.default_rng(0).uniform(0, 1, 50)
    assert leak(2 * speaker + 1, np.arange(50.0), [speaker]) == 0


def test_average_weighs_by_length_and_is_not_of_r() -> None:
    assert average_correlation([0.5, 0.5], [10, 100]) == pytest.approx(0.5)
    assert average_correlation([0.0, 0.9], [13, 13]) == pytest.approx(np.tanh(np.arctanh(0.9) / 2))
    assert average_correlation([1.0, 0.1], [4, 103]) == pytest.approx(0.15, abs=0.02), "four frames say little"
    assert average_correlation([1.0, -1.0], [50, 50]) == pytest.approx(0)
    assert average_correlation([0.3], [3]) is None
    assert average_correlation([], []) is None
