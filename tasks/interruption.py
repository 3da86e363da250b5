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


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Within it Ctrl-C and SIGTERM raise Interruption in the main thread.

    The same signal again ends the process at once, as somebody is in a hurry; the other one is ignored: after Ctrl-C in a
    terminal torchrun sends its workers SIGTERM too. Must be entered in the main thread.
    """

    def interrupt(number: int, _: object) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL if each == number else signal.SIG_IGN)
        raise Interruption(number)

    before = [signal.signal(number, interrupt) for number in SIGNALS]
    try:
        yield
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)
