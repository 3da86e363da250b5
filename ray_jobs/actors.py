"""Ray actors that work on pieces of a job: how large each is, what each gives first, and how one that died is known. Of no one kind of work."""

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ray_jobs.cluster import ADDRESS_VARIABLE
from tasks.interruption import held_back

log = logging.getLogger(__name__)

LOOK_UP_S = 1.0
"""A signal is heeded so late at most while workers are waited for."""

Resources = dict[str, float]
"""What a node of the cluster has: CPU, GPU and more, by Ray's names."""


@dataclass(frozen=True)
class Pool:
    """How many actors there are, and the CPU cores and GPUs of each."""

    workers: int
    cores: int
    gpus: int


@dataclass(frozen=True)
class Death:
    """What came of a worker's call: its end. preempted: the cluster took its machine away; evicted: Ray ended it, because memory ran short."""

    preempted: bool
    evicted: bool


def starts_in_vain(workers: int) -> int:
    """How many actors may die one after the other before any of them is ready: a machine that is lost takes all with it that start there,
    and they may meet the same on the next; more are a fault of the cluster.
    """
    return max(3, 2 * workers)


def given_first(references: list[Any]) -> list[Any]:
    """The first of them that has something to give; none, when for LOOK_UP_S nothing has."""
    import ray

    with held_back():  # Ray would make a KeyboardInterrupt of an Interruption, which no longer says what signal it was
        first: list[Any] = ray.wait(references, timeout=LOOK_UP_S)[0]
    return first


def outcome(reference: Any) -> Any:
    """What a call gave, or the Death of its process. An error in it is raised."""
    import ray
    from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

    try:
        return ray.get(reference)
    except RayError as error:
        if isinstance(error, RayTaskError) and not isinstance(error, RayActorError):  # the process lived to tell it
            raise
        return Death(isinstance(error, RayActorError) and error.preempted, isinstance(error, OutOfMemoryError))


def gpus_will_come(device: str) -> bool:
    """Whether work may wait for more GPUs than there are: a cluster that grows does so by what waits. What was started here does not grow."""
    return device == "cuda" and bool(os.environ.get(ADDRESS_VARIABLE))


def gpus_for(device: str, nodes: Iterable[Resources]) -> int:
    """How many GPUs work on a device (auto, cpu or cuda) counts on: those that are there, and one at the least where that will come."""
    there = 0 if device == "cpu" else int(sum(node.get("GPU", 0) for node in nodes))
    if there or not gpus_will_come(device):
        return there
    log.warning("The cluster has no GPU yet; what is to run on one waits until one comes. Set device to auto to do without where there is none.")
    return 1


def cores_a_worker(nodes: list[Resources], workers: int, gpus: int) -> int:
    """The most CPU cores that each worker can have when as many work at once as there is room for; a worker lies on one node, with its GPUs."""
    largest = int(max((node.get("CPU", 0) for node in nodes), default=0))
    with_room = max(1, min(workers, sum(_fitting(node, 1, gpus) for node in nodes)))
    return max((cores for cores in range(1, largest + 1) if sum(_fitting(node, cores, gpus) for node in nodes) >= with_room), default=1)


def _fitting(node: Resources, cores: int, gpus: int) -> int:
    """How many workers of that size a node holds."""
    by_cores = int(node.get("CPU", 0) // cores)
    return min(by_cores, int(node.get("GPU", 0) // gpus)) if gpus else by_cores
