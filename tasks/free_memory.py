"""How much memory a process may still take: what the machine has left, and what the limits of containers leave of it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class _Hierarchy(NamedTuple):
    """Where one version of Linux's control groups keeps its memory limits, and how their files are called."""

    root: str
    limit: str
    taken: str
    file_cache: str
    """The line of memory.stat about files that nobody reads at the moment: counted as taken, given back when asked for."""


UNIFIED = _Hierarchy("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file")
FIRST_VERSION = _Hierarchy("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
KIB = 1024


def available_memory_bytes(system: Path = Path("/")) -> int:
    """What this process could take without swapping; files that the system merely keeps in memory count as free.

    system: the folder with `proc` and `sys`.
    """
    return max(0, min([_machine_bytes(system), *_left_by_limits(system)]))


def _machine_bytes(system: Path) -> int:
    meminfo = system / "proc/meminfo"
    available_kib = _named_number(meminfo, "MemAvailable:") if meminfo.is_file() else None
    if available_kib is not None:
        return available_kib * KIB
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")


def _left_by_limits(system: Path) -> Iterator[int]:
    """What each limit leaves that holds for this process: its group's, and those of the groups around it."""
    groups = system / "proc/self/cgroup"
    for line in groups.read_text().splitlines() if groups.is_file() else ():
        _, controllers, group = line.split(":", 2)
        if not controllers or "memory" in controllers.split(","):
            hierarchy = FIRST_VERSION if controllers else UNIFIED
            root = system / hierarchy.root
            innermost = root / group.lstrip("/")
            # In a container the group's own path may be one of the host that is not to be seen; the root is the container's then.
            yield from (_left(folder, hierarchy) for folder in (innermost, *innermost.parents) if folder.is_relative_to(root) and _limited(folder, hierarchy))


def _limited(group: Path, hierarchy: _Hierarchy) -> bool:
    limit = group / hierarchy.limit
    return limit.is_file() and limit.read_text().strip() != "max"


def _left(group: Path, hierarchy: _Hierarchy) -> int:
    limit, taken = (int((group / name).read_text()) for name in (hierarchy.limit, hierarchy.taken))
    return limit - taken + (_named_number(group / "memory.stat", hierarchy.file_cache) or 0)


def _named_number(path: Path, name: str) -> int | None:
    """The number on the line that begins with a name."""
    rows = (line.split() for line in path.read_text().splitlines())
    return next((int(row[1]) for row in rows if row[0] == name), None)
