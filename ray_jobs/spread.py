"""A function spread over the cores of a cluster, for work that a machine may lose and begin again without harm."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import ray
from ray.exceptions import RayTaskError

from ray_jobs.actors import Death, given_first, outcome
from schemas.errors import DubmillError, StoreError

AHEAD_OF_EACH_CORE = 2
"""Pieces that wait for each core: so many that none is idle, so few that the pieces of a million fit into memory."""

Piece = TypeVar("Piece")
Outcome = TypeVar("Outcome")


def over_cluster(work: Callable[[Piece], Outcome], pieces: Iterable[Piece], lost: Callable[[Piece], Outcome] | None = None) -> Iterator[Outcome]:
    """What the function makes of each piece, as each is finished, made on the cores of a cluster.

    Ray begins a piece whose process dies again, three times. After that `lost` says what became of it; without it, StoreError.
    Errors of dubmill come out as they are.
    """
    remote = ray.remote(num_cpus=1)(work)
    waiting = iter(pieces)
    begun = {remote.remote(piece): piece for piece in itertools.islice(waiting, _most_begun())}
    while begun:
        for reference in given_first(list(begun)):
            piece = begun.pop(reference)
            begun |= {remote.remote(following): following for following in itertools.islice(waiting, 1)}
            made = unwrapped(reference)
            yield _of_lost(piece, lost) if isinstance(made, Death) else made


def _most_begun() -> int:
    return AHEAD_OF_EACH_CORE * int(ray.cluster_resources().get("CPU", 1))


def _of_lost(piece: Piece, lost: Callable[[Piece], Outcome] | None) -> Outcome:
    if lost is None:
        raise StoreError("Workers die at one and the same piece of the work, several times; look at the cluster's memory and its logs, then run again.")
    return lost(piece)


def unwrapped(reference: "ray.ObjectRef") -> Any:
    """What a task made, or the Death of its process. An error of dubmill is raised as it is: Ray's own would wrap its sentence in traces of both sides."""
    try:
        return outcome(reference)
    except RayTaskError as error:
        if isinstance(error.cause, DubmillError):
            raise error.cause from error
        raise
