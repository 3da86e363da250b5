import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.evaluation.closures import Closures, closed_moments, compare_closures, widened
from tasks.evaluation.lips import lips_are_closed
from tests.tasks.evaluation.mouths import mouth

FLAGS = st.lists(st.booleans(), min_size=1, max_size=40).map(lambda flags: np.array(flags, bool))


def flags(text: str) -> np.ndarray:
    return np.array([letter == "#" for letter in text])


def test_known_moments() -> None:
    real = "....##......#......###.."
    seen = ".......#............#..#"
    counts = compare_closures(flags(seen), flags(real))
    assert counts == Closures(predicted_frames=3, right_frames=3, real_moments=3, met_moments=2)
    assert (counts.precision, counts.recall, counts.f1) == (1, pytest.approx(2 / 3), pytest.approx(0.8))


def test_tolerance_is_two_frames() -> None:
    real = flags("#....")
    assert [compare_closures(flags(seen), real).recall for seen in (".#...", "..#..", "...#.")] == [1, 1, 0]


def test_runs_and_what_lies_near_them() -> None:
    assert closed_moments(flags("##..#.#")) == [(0, 2), (4, 5), (6, 7)]
    assert widened(flags("..#....#"), 1).tolist() == flags(".###..##").tolist()


@given(real=FLAGS)
def test_perfect_prediction(real: np.ndarray) -> None:
    counts = compare_closures(real, real)
    if real.any():
        assert (counts.precision, counts.recall, counts.f1) == (1, 1, 1)
    else:
        assert (counts.precision, counts.recall, counts.f1) == (0, None, None)


@given(real=FLAGS.filter(lambda flags: bool(flags.any())))
def test_a_mouth_that_stands_still_closes_never_or_always(real: np.ndarray) -> None:
    never = compare_closures(lips_are_closed(mouth(np.full(len(real), 5.0))), real)
    assert (never.precision, never.recall, never.f1) == (0, 0, 0)
    always = compare_closures(lips_are_closed(mouth(np.zeros(len(real)))), real)
    assert always.recall == 1
    assert always.precision == widened(real, 2).mean()


@given(first=st.tuples(FLAGS, FLAGS), second=st.tuples(FLAGS, FLAGS))
def test_clips_add_up(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> None:
    counts = []
    for predicted, real in (first, second):
        length = min(len(predicted), len(real))
        counts.append(compare_closures(predicted[:length], real[:length]))
        assert counts[-1].right_frames <= counts[-1].predicted_frames
        assert counts[-1].met_moments <= counts[-1].real_moments
    both = counts[0] + counts[1]
    assert both.real_moments == counts[0].real_moments + counts[1].real_moments
    assert both + Closures() == both
