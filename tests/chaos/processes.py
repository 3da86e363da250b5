"""Processes of this machine: those of a session, what they are called, and their sudden end."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path


def session_of(leader: int) -> list[int]:
    """The processes of a session, which keeps together what one command has started, also what has left its process group."""
    return [process for process in _all() if _session(process) == leader]


def command_lines() -> Iterator[tuple[int, str]]:
    """Every process with its command line, or with what it has named itself."""
    for process in _all():
        if name := name_of(process):
            yield process, name


def name_of(process: int) -> str:
    """A process's command line; empty when it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def named(leader: int, is_meant: Callable[[str], bool]) -> list[int]:
    """Processes of a session whose names are meant."""
    return [process for process in session_of(leader) if is_meant(name_of(process))]


def kill(process: int) -> None:
    """SIGKILL; one that has ended already is no error."""
    send(process, signal.SIGKILL)


def send(process: int, number: signal.Signals) -> None:
    """A signal; to one that has ended already it is no error."""
    with suppress(ProcessLookupError):
        os.kill(process, number)


def kill_session(leader: int) -> None:
    """SIGKILL to all of a session, until nothing of it is left: one that is just being forked would live on."""
    while left := session_of(leader):
        for process in left:
            kill(process)
        time.sleep(0.02)


def _all() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _session(process: int) -> int | None:
    """None for one that has ended and is only waited for."""
    try:
        state, _, _, session = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[:4]
    except OSError:
        return None
    return None if state in "ZX" else int(session)
