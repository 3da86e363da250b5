"""The processes that were started for a folder, by what /proc says of them: who they are, where they listen, how they end."""

import ipaddress
import os
import signal
import socket
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MARK = "DUBMILL_SERVICES"
"""Environment variable of every process started here: the folder that it was started for."""
COMPONENT = "DUBMILL_COMPONENT"
"""Environment variable of every process of a component: its name."""
SWEEP_LIMIT_S = 10.0
"""Seconds to wait until killed processes are gone."""


@dataclass(frozen=True, order=True)
class Listener:
    """A TCP socket that waits for connections, and whose it is. process: what its program calls itself."""

    component: str
    process: str
    address: str
    port: int

    @property
    def is_inside(self) -> bool:
        """Whether it can be reached from this machine alone."""
        return is_loopback(self.address)


def processes_of(folder: Path, sessions: Collection[int] = (), component: str = "") -> list[int]:
    """Ids of the processes that were started for a folder, or for one component of it, with all their descendants, this one left out.

    Ray's helpers overwrite their environment when they name themselves, and outlive their parents for a while. But they
    stay in the session of the process that was started here. So a process counts when it carries the mark, or when it is
    in one of `sessions` or in the session of one that carries the mark.
    """
    marks = {f"{MARK}={folder}".encode()} | ({f"{COMPONENT}={component}".encode()} if component else set())
    session_of = {process: session for process in all_processes() if (session := session_of_running(process)) is not None}
    marked = {process for process in session_of if _carries(process, marks)}
    ours = {*sessions, *(session_of[process] for process in marked)} - {os.getsid(0)}
    return sorted(process for process, session in session_of.items() if (process in marked or session in ours) and process != os.getpid())


def all_processes() -> list[int]:
    """Ids of all processes of this machine."""
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]


def session_of_running(process: int) -> int | None:
    """The session of a process that runs; None when it has ended."""
    try:
        state, _, _, session = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[:4]
    except OSError:
        return None
    return None if state in "ZX" else int(session)


def kill_all(find: Callable[[], list[int]]) -> None:
    """Kills processes until no more are found."""
    deadline = time.monotonic() + SWEEP_LIMIT_S
    while (left := find()) and time.monotonic() < deadline:
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.1)


def listeners_of(component: str, processes: Sequence[int]) -> set[Listener]:
    """The TCP sockets on which a component's processes listen; one that several share is named once, after the first of them."""
    found: dict[tuple[str, int], Listener] = {}
    for process in processes:
        for address, port in listening_sockets([process]):
            found.setdefault((address, port), Listener(component, program_of(process), address, port))
    return set(found.values())


def listening_sockets(processes: Sequence[int]) -> list[tuple[str, int]]:
    """Address and port of the TCP sockets on which these processes listen, from the kernel's tables."""
    inodes = {inode for process in processes for inode in _socket_inodes(process)}
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)) if inodes else ():
        path = Path("/proc/net") / table
        for line in path.read_text().splitlines()[1:] if path.exists() else []:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:  # 0A: listening
                address, port = fields[1].split(":")
                found.add((_address_text(address, family), int(port, 16)))
    return sorted(found, key=lambda pair: (pair[1], pair[0]))


def is_loopback(address: str) -> bool:
    """Whether an IPv4 or IPv6 address is of this machine alone; IPv4 addresses inside IPv6 ones count as what they are."""
    parsed = ipaddress.ip_address(address)
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback


def command_of(process: int) -> list[str]:
    """The words of a process's command, or what it has named itself; an empty one when it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return [""]


def program_of(process: int) -> str:
    """What a process runs, in a word: its program, or the script or module that an interpreter was given; empty when it has ended."""
    program, *arguments = command_of(process)
    if not Path(program).name.startswith("python"):
        return Path(program.split(" ")[0]).name
    script = next((word for word in arguments if word and not word.startswith("-")), "python")
    return script if "-m" in arguments[:2] else Path(script).name


def _carries(process: int, marks: set[bytes]) -> bool:
    try:
        return marks <= set(Path(f"/proc/{process}/environ").read_bytes().split(b"\0"))
    except OSError:
        return False  # ended meanwhile, or somebody else's


def _address_text(hexadecimal: str, family: socket.AddressFamily) -> str:
    # The kernel prints each 32-bit word in the machine's byte order, least significant byte first.
    words = [bytes.fromhex(hexadecimal[start : start + 8])[::-1] for start in range(0, len(hexadecimal), 8)]
    return socket.inet_ntop(family, b"".join(words))


def _socket_inodes(process: int) -> Iterator[str]:
    try:
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            target = str(descriptor.readlink())
            if target.startswith("socket:["):
                yield target[len("socket:[") : -1]
    except OSError:
        return
