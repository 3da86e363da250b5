"""Processes that are meant by what they are called, and signals to them."""

import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "docker" / "local"))
of_machine = importlib.import_module("processes")  # a plain script: the folder `docker` is no package


def command_lines() -> Iterator[tuple[int, str]]:
    """Every process with its command line, or with what it has named itself."""
    for process in of_machine.all_processes():
        if name := _name_of(process):
            yield process, name


def named(processes: Iterable[int], is_meant: Callable[[str], bool]) -> list[int]:
    """Those of the processes whose names are meant."""
    return [process for process in processes if is_meant(_name_of(process))]


def send(process: int, number: signal.Signals) -> None:
    """A signal; to one that has ended already it is no error."""
    with suppress(ProcessLookupError):
        os.kill(process, number)


def _name_of(process: int) -> str:
    return " ".join(of_machine.command_of(process)).strip()
