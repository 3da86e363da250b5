"""A function spread over a local Ray."""

import os
from collections.abc import Iterator

import pytest
from ray.exceptions import WorkerCrashedError

from ray_jobs.cluster import connect
from ray_jobs.spread import AHEAD_OF_EACH_CORE, over_cluster
from schemas.errors import StoreError


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with connect():
        yield


def work(number: int) -> int:
    if number == 13:
        os._exit(1)
    if number == 17:
        raise StoreError("17 is no batch.")
    return number * number


def test_what_is_made_comes_in_order_and_no_more_is_begun_than_keeps_the_cores_at_work() -> None:
    begun: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(100, 112):
            begun.append(number)
            yield number

    made = over_cluster(work, numbers())
    assert next(made) == 100 * 100
    assert len(begun) <= AHEAD_OF_EACH_CORE * (os.cpu_count() or 1) + 1
    assert list(made) == [number * number for number in range(101, 112)]


def test_an_error_of_ours_is_its_own_sentence() -> None:
    with pytest.raises(StoreError, match=r"^17 is no batch\.$"):
        list(over_cluster(work, [17]))


def test_a_piece_that_kills_its_process_each_time_is_told_and_the_others_are_made() -> None:
    assert list(over_cluster(work, [2, 13, 3], lost=lambda number: -number)) == [4, -13, 9]
    with pytest.raises(WorkerCrashedError):
        list(over_cluster(work, [13]))
