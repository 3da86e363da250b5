"""What is free of a machine's memory, as its /proc and the limits of control groups say."""

import os
from pathlib import Path

import pytest

from tasks.free_memory import available_memory_bytes

MIB = 2**20
UNLIMITED = 9223372036854771712


def a_machine(root: Path, files: dict[str, str]) -> Path:
    """A machine of which 8 GiB are available, most of it held by files that were read, and what else its files say."""
    kib = "MemTotal: 16000000 kB\nMemFree: 100000 kB\nMemAvailable: 8388608 kB\nCached: 8000000 kB\n"
    for name, text in {"proc/meminfo": kib, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def unified(group: str, limit: object, taken: int, inactive_file: int = 0) -> dict[str, str]:
    stat = f"anon 5\nfile 77\nactive_file 12\ninactive_file {inactive_file}\n"
    return {f"sys/fs/cgroup{group}/memory.{name}": f"{text}\n" for name, text in (("max", limit), ("current", taken), ("stat", stat))}


def first_version(group: str, limit: int, taken: int, inactive_file: int = 0) -> dict[str, str]:
    named = (("limit_in_bytes", limit), ("usage_in_bytes", taken), ("stat", f"inactive_file 1\ntotal_inactive_file {inactive_file}\n"))
    return {f"sys/fs/cgroup/memory{group}/memory.{name}": f"{text}\n" for name, text in named}


def test_files_that_are_merely_kept_in_memory_count_as_free(tmp_path: Path) -> None:
    assert available_memory_bytes(a_machine(tmp_path, {})) == 8192 * MIB


@pytest.mark.parametrize(
    ("groups", "limits", "free_mib"),
    [
        ("0::/\n", unified("", 4096 * MIB, 1024 * MIB, 512 * MIB), 3584),  # a container
        ("0::/job\n", unified("/job", "max", 1024 * MIB), 8192),
        ("0::/jobs/one\n", unified("/jobs/one", 6000 * MIB, 0) | unified("/jobs", 4096 * MIB, 3000 * MIB), 1096),  # the group around it
        ("0::/job\n", unified("/job", 20000 * MIB, 0), 8192),  # more than the machine has
        ("0::/job\n", unified("/job", 1024 * MIB, 1025 * MIB), 0),
        ("4:cpu,memory:/job\n0::/\n", first_version("/job", 4096 * MIB, 1024 * MIB, 512 * MIB) | first_version("", UNLIMITED, 0), 3584),
        ("4:memory:/docker/6f1d\n", first_version("", 4096 * MIB, 1024 * MIB), 3072),  # a container, named by its host
        ("4:cpu:/job\n", first_version("/job", 1, 1), 8192),  # no group of memory
    ],
)
def test_what_limits_leave(tmp_path: Path, groups: str, limits: dict[str, str], free_mib: int) -> None:
    assert available_memory_bytes(a_machine(tmp_path, {"proc/self/cgroup": groups, **limits})) == free_mib * MIB


def test_a_system_without_such_files_is_asked(tmp_path: Path) -> None:
    assert 0 < available_memory_bytes(tmp_path) <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_this_machine_has_some() -> None:
    assert 0 < available_memory_bytes() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
