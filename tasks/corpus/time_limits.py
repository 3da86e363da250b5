"""Time limits of a source: one that is looked at between frames, and one for what cannot be interrupted."""

import faulthandler
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

FOOTAGE_PER_TIME_LIMIT_S = 600.0
"""The time limit holds for so much footage; a longer source has as many times more."""

Item = TypeVar("Item")


class OutOfTimeError(Exception):
    """It took longer than its time limit."""


def time_limit_s(limit_s: float, duration_s: float | None) -> float:
    """The time limit of a source of that length; `limit_s` where it is short or unknown."""
    return limit_s * max(1.0, (duration_s or 0.0) / FOOTAGE_PER_TIME_LIMIT_S)


def in_time(items: Iterable[Item], started_s: float, limit_s: float) -> Iterator[Item]:
    """Passes items on; OutOfTimeError at the first one more than `limit_s` after `started_s` of the monotonic clock."""
    for item in items:
        if time.monotonic() - started_s > limit_s:
            raise OutOfTimeError(f"It took longer than {limit_s:g} s.")
        yield item


@contextmanager
def hang_guard(limit_s: float) -> Iterator[None]:
    """Ends this PROCESS, with every thread's stack on standard error, when the block takes longer: exit code 1.

    For worker processes only: compiled code that hangs (MediaPipe is known to) cannot be interrupted, but its process can be
    ended and its work be given to another. Not to be nested: there is one such clock a process.
    """
    faulthandler.dump_traceback_later(limit_s, exit=True, file=sys.__stderr__ or sys.stderr)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
