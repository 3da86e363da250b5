"""Telling a person how far the work is: a bar on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

LINE_EVERY_S = 5.0
"""Seconds between two plain lines: a log of hours stays readable."""


class Progress(Protocol):
    """Called after each piece of work."""

    def __call__(self, done: int, total: int | None = None, note: str = "") -> None:
        """Says what is done, how much there is in all (None: not known) and a short note."""


def silent(done: int, total: int | None = None, note: str = "") -> None:
    """Progress for nobody."""


class ProgressLines:
    """Plain lines `TITLE 12/77 note` (`12/?`: the total is not known), at most one in `every_s` seconds and always the last."""

    def __init__(self, title: str, every_s: float = LINE_EVERY_S, stream: TextIO | None = None) -> None:
        self.title = title
        self.every_s = every_s
        self.stream = stream or sys.stderr
        self._said_at = float("-inf")

    def __call__(self, done: int, total: int | None = None, note: str = "") -> None:
        """Prints a line when the last one is old enough."""
        now = time.monotonic()
        if now - self._said_at < self.every_s and done != total:
            return
        self._said_at = now
        print(f"{self.title} {done}/{'?' if total is None else total} {note}".rstrip(), file=self.stream, flush=True)


@contextmanager
def show_progress(title: str) -> Iterator[Progress]:
    """A rich bar where standard error is a terminal, `ProgressLines` where it is not."""
    if not sys.stderr.isatty():
        yield ProgressLines(title)
        return
    from rich import progress as rich_progress  # only where a person looks: training code imports without rich
    from rich.console import Console

    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TextColumn("{task.fields[note]}"),
    )
    with rich_progress.Progress(*columns, console=Console(stderr=True)) as bars:
        bar = bars.add_task(title, total=None, note="")
        yield lambda done, total=None, note="": bars.update(bar, completed=done, total=total, note=note)
