import threading
import time

import pytest

from tasks.training.batches import batches_ahead


def test_batches_come_in_order_whatever_takes_longer() -> None:
    def make(step: int) -> int:
        time.sleep(0.02 if step % 3 == 0 else 0)
        return step

    with batches_ahead(make, range(5, 25), 4) as batches:
        assert list(batches) == list(range(5, 25))
        assert next(batches, None) is None


def test_so_many_are_made_ahead_and_no_more() -> None:
    made: list[int] = []
    with batches_ahead(lambda step: made.append(step) or step, range(100), 3) as batches:
        assert next(batches) == 0
        time.sleep(0.1)
        assert sorted(made) == [0, 1, 2, 3]


def test_several_are_made_at_once() -> None:
    together = threading.Barrier(3, timeout=5)
    with batches_ahead(lambda _: together.wait(), range(6), 3) as batches:
        assert sorted(batches) == [0, 0, 1, 1, 2, 2]


def test_only_what_had_to_be_waited_for_counts_as_waiting() -> None:
    with batches_ahead(lambda _: time.sleep(0.1), range(2), 2) as batches:
        next(batches)
        waited_s = batches.waited_s
        assert 0.05 < waited_s < 0.5
        time.sleep(0.15)
        next(batches)
        assert batches.waited_s - waited_s < 0.05


def test_an_error_comes_where_its_batch_would_have_come() -> None:
    def make(step: int) -> int:
        if step == 2:
            raise ValueError("damaged")
        return step

    with batches_ahead(make, range(10), 2) as batches:
        assert [next(batches), next(batches)] == [0, 1]
        with pytest.raises(ValueError, match="damaged"):
            next(batches)


def test_leaving_early_ends_the_threads_and_makes_nothing_more() -> None:
    made: list[int] = []
    before = threading.active_count()

    def make(step: int) -> int:
        made.append(step)
        time.sleep(0.02)
        return step

    with batches_ahead(make, range(1000), 4) as batches:
        next(batches)
    count = len(made)
    assert count <= 5
    assert threading.active_count() == before
    forgotten = batches_ahead(make, range(1000), 2)
    next(forgotten)
    del forgotten
    time.sleep(0.2)
    assert threading.active_count() == before, "one that is just dropped ends as well"
    assert len(made) <= count + 4
