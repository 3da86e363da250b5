"""A function spread over a local Ray."""

import os
import time
from collections.abc import Iterator

import pytest
import ray

from ray_jobs.cluster import connect
from ray_jobs.spread import AHEAD_OF_EACH_CORE, over_cluster
from schemas.errors import StoreError


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with connect():
        yield


def slow_if_even(number: int) -> int:
    time.sleep(0.0 if number % 2 else 5.0)
    return number


def work(number: int) -> int:
    if number == 13:
        os._exit(1)
    if number == 17:
        raise StoreError("17 is no batch.")
    return number * number


def test_all_is_made_once_and_no_more_is_begun_than_keeps_the_cores_at_work() -> None:
    begun: list[int] = []
    most = AHEAD_OF_EACH_CORE * int(ray.cluster_resources()["CPU"])
    pieces = range(100, 100 + 2 * most)

    def numbers() -> Iterator[int]:
        for number in pieces:
            begun.append(number)
            yield number

    made = over_cluster(work, numbers())
    first = next(made)
    assert len(begun) == most + 1
    assert sorted([first, *made]) == [number * number for number in pieces]


def test_one_that_takes_long_holds_up_no_other() -> None:
    assert list(over_cluster(slow_if_even, [2, 1, 3]))[-1] == 2


def test_an_error_of_ours_is_its_own_sentence() -> None:
    with pytest.raises(StoreError, match=r"^17 is no batch\.$"):
        list(over_cluster(work, [17]))


def test_a_piece_that_kills_its_process_each_time_is_told_and_the_others_are_made() -> None:
    assert sorted(over_cluster(work, [2, 13, 3], lost=lambda number: -number)) == [-13, 4, 9]
    with pytest.raises(StoreError, match="Workers die at one and the same piece"):
        list(over_cluster(work, [13]))
