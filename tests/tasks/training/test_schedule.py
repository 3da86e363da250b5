import itertools

import pytest

from schemas.settings import LandmarkGeneratorTraining
from tasks.training.schedule import learning_rate

CONSTANT = LandmarkGeneratorTraining(store="s", out="o", steps=101, learning_rate=2.0)
COSINE = CONSTANT.replaced(schedule="cosine", final_rate_share=0.1)


def test_a_constant_rate_stays() -> None:
    assert [learning_rate(CONSTANT, step) for step in (0, 50, 100, 5000)] == [2.0] * 4


def test_a_rate_rises_evenly_to_its_height() -> None:
    rising = CONSTANT.replaced(rate_warm_up_steps=3)
    assert [learning_rate(rising, step) for step in range(5)] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])


def test_a_cosine_begins_whole_and_ends_at_its_share() -> None:
    assert learning_rate(COSINE, 0) == pytest.approx(2.0)
    assert learning_rate(COSINE, 50) == pytest.approx(1.1)
    assert learning_rate(COSINE, 100) == pytest.approx(0.2)
    assert learning_rate(COSINE, 5000) == pytest.approx(0.2)


def test_a_cosine_falls_from_the_end_of_the_rise() -> None:
    both = COSINE.replaced(rate_warm_up_steps=10)
    rates = [learning_rate(both, step) for step in range(101)]
    assert max(rates) == rates[10] == pytest.approx(2.0)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[10:]))
    assert rates[-1] == pytest.approx(0.2)
