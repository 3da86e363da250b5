"""A function spread over the cores of a cluster, for work that a machine may lose and begin again without harm."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import ray
from ray.exceptions import RayTaskError, WorkerCrashedError

from schemas.errors import DubmillError

AHEAD_OF_EACH_CORE = 2
"""Pieces that wait for each core: so many that none is idle, so few that the pieces of a million fit into memory."""

Piece = TypeVar("Piece")
Outcome = TypeVar("Outcome")


def over_cluster(work: Callable[[Piece], Outcome], pieces: Iterable[Piece], lost: Callable[[Piece], Outcome] | None = None) -> Iterator[Outcome]:
    """What the function makes of each piece, in their order, made on the cores of a cluster.

    A piece whose process dies is begun again, three times; after that `lost` says what became of it, or Ray's own error is raised.
    Errors of dubmill come out as they are.
    """
    remote = ray.remote(num_cpus=1)(work)
    most = AHEAD_OF_EACH_CORE * int(ray.cluster_resources().get("CPU", 1))
    waiting = iter(pieces)
    begun = deque((piece, remote.remote(piece)) for piece in itertools.islice(waiting, most))
    while begun:
        piece, reference = begun.popleft()
        try:
            made = unwrapped(reference)
        except WorkerCrashedError:
            if lost is None:
                raise
            made = lost(piece)
        begun.extend((piece, remote.remote(piece)) for piece in itertools.islice(waiting, 1))
        yield made


def unwrapped(reference: "ray.ObjectRef") -> Any:
    """What a task made. An error of dubmill is raised as it is: Ray's own would wrap its sentence in traces of both sides."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, DubmillError):
            raise error.cause from error
        raise
