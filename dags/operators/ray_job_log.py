"""The log of a Ray job, line by line, each line once, without fetching the whole log at each look.

Ray gives the last n lines of a log, and nothing that says where in the log they begin. So the end of what was shown is looked
for in them. Where that cannot tell (it is not there, or twice) more lines are asked for, up to the whole log, in which
the count of bytes shown so far says where the new ones begin. Of a log that is too long for that, a reader that takes over
from another shows the last lines alone.
"""

import time
from dataclasses import dataclass

from dags.operators.ray_jobs_api import RayJob, RayJobsApi

WINDOWS_LINES = (200, 5_000, 50_000)
"""How many last lines are asked for, one after another, until the new ones are found among them."""
ANCHOR_BYTES = 1024
"""How much of the end of what was shown is looked for."""
LONGEST_LOG_PAUSE_S = 30.0
"""Seconds between two looks at the log of a job that prints nothing."""
BYTES_A_SECOND = 100_000
"""How much of a log to read on average: what brought much is looked at less often."""
RESUMED_LINES = 300
"""How many last lines are shown where nothing tells which were shown before: enough to see how a job is, and no log twice."""
LEFT_OUT = "(The job has printed more than can be followed; lines are left out here. Ray's own log has them all.)"
RESUMED = "(Another process follows the job from here, too far on in its log to tell where the former one was: its last lines. Ray's own log has them all.)"


class JobLog:
    """What a job has printed and was not shown yet.

    Args:
        api: where the log is read.
        shown_bytes: how much of the log was shown before, by another of these.
        pause_s: seconds between two looks; more while the job prints nothing.
    """

    def __init__(self, api: RayJobsApi, shown_bytes: int = 0, pause_s: float = 0.0) -> None:
        self.shown_bytes = shown_bytes
        self._api = api
        self._anchor = b""
        self._least_pause_s = self._pause_s = pause_s
        self._due_at = 0.0

    async def new_lines(self, job: RayJob) -> list[str] | None:
        """Whole lines that are new, and when the job is over what is left; none while it is too early for another look.

        None: the log cannot be had just now.
        """
        if not job.is_over and time.monotonic() < self._due_at:
            return []
        found = await self._look(job)
        if found is None:
            self._wait(self._pause_s)
            return None
        new = found.new if job.is_over else found.new[: found.new.rfind(b"\n") + 1]  # a half-written line is left for the next look
        self.shown_bytes += len(new)
        self._anchor = (found.shown + new)[-ANCHOR_BYTES:]
        self._pause_s = self._least_pause_s if new else 2 * self._pause_s
        self._wait(max(self._pause_s, found.read_bytes / BYTES_A_SECOND))
        return ([found.remark] if found.remark else []) + _lines(new)

    def _wait(self, seconds: float) -> None:
        self._due_at = time.monotonic() + min(seconds, LONGEST_LOG_PAUSE_S)

    async def _look(self, job: RayJob) -> "_Found | None":
        window, read_bytes = b"", 0
        for lines in WINDOWS_LINES if self._anchor else WINDOWS_LINES[-1:]:
            read = await self._api.log_end(job, lines)
            if read is None:
                return None
            window, read_bytes = read, read_bytes + len(read)
            is_whole = _line_count(window) < lines
            begin = self.shown_bytes if is_whole else _only_end_of(self._anchor, window)
            if begin is not None:
                return _Found(window[:begin], window[begin:], read_bytes)
        if self.shown_bytes and not self._anchor:
            begin = _begin_of_last(RESUMED_LINES, window)
            return _Found(window[:begin], window[begin:], read_bytes, RESUMED)
        return _Found(b"", window, read_bytes, LEFT_OUT)


@dataclass(frozen=True)
class _Found:
    """The end of a log: what was shown of it, and what is new; and how much was read to find it. remark: what is said before the new."""

    shown: bytes
    new: bytes
    read_bytes: int
    remark: str = ""


def _line_count(window: bytes) -> int:
    return window.count(b"\n") + (not window.endswith(b"\n") and bool(window))


def _only_end_of(anchor: bytes, window: bytes) -> int | None:
    """Where the one place ends at which the anchor is in the window; None when there is none or more than one."""
    first = window.find(anchor) if anchor else -1
    return None if first < 0 or window.find(anchor, first + 1) >= 0 else first + len(anchor)


def _begin_of_last(lines: int, window: bytes) -> int:
    """Where the last lines of a window begin that has more of them."""
    return len(window.rsplit(b"\n", lines + 1)[0]) + 1


def _lines(content: bytes) -> list[str]:
    """Lines as a terminal would show them: what a progress bar wrote over is left out."""
    lines = content.removesuffix(b"\n").split(b"\n") if content else []
    return [line.decode("utf-8", errors="replace").rstrip("\r").rpartition("\r")[2] for line in lines]
