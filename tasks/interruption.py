"""Work that is stopped from outside: by Ctrl-C, or by SIGTERM, which a machine gets that is about to be taken away."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)
EXIT_CODE_OF_FIRST_SIGNAL = 128
"""As shells count: a process that signal 15 ended has the exit code 143."""


class Interruption(KeyboardInterrupt):
    """Whoever catches KeyboardInterrupt to clean up or to add a note does so for every signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = EXIT_CODE_OF_FIRST_SIGNAL + number

    @property
    def sentence(self) -> str:
        """What was noted on how far the work is; empty when nobody noted anything."""
        return "; ".join(getattr(self, "__notes__", ()))


class _Hold:
    """How many `held_back` the main thread is within, and the signal that waits for their end."""

    depth = 0
    waiting: int | None = None


@contextmanager
def held_back() -> Iterator[None]:
    """Within it no Interruption is raised; one that came is raised at its end. For the main thread, in calls that must not be left halfway.

    Python's locks are such: a queue that a thread waits for, left within `put`, may wake nobody ever after.
    """
    _Hold.depth += 1
    try:
        yield
    finally:
        _Hold.depth -= 1
        if _Hold.depth == 0 and _Hold.waiting is not None:
            number, _Hold.waiting = _Hold.waiting, None
            raise Interruption(number)


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Within it Ctrl-C and SIGTERM raise Interruption in the main thread.

    The same signal again ends the process at once, as somebody is in a hurry; the other one is ignored: after Ctrl-C in a
    terminal torchrun sends its workers SIGTERM too. Must be entered in the main thread.
    """

    def _interrupt(number: int, _: object) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL if each == number else signal.SIG_IGN)
        if _Hold.depth:
            _Hold.waiting = number
        else:
            raise Interruption(number)

    before = [signal.signal(number, _interrupt) for number in SIGNALS]
    try:
        yield
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)
