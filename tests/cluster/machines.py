"""Machines for a test of a cluster: network namespaces of this one, joined by a bridge, each with processes, /tmp and memory of its own.

They see this machine's disk (that is the image: code and libraries), but not its /tmp, where a test keeps all it makes. So a place of one
machine that another is asked to read is not there, as in production.
"""

import ctypes
import importlib
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

LOCAL = Path(__file__).parents[2] / "docker" / "local"
sys.path.insert(0, str(LOCAL))
processes = importlib.import_module("processes")  # a plain script: the folder `docker` is no package

INIT = Path(__file__).with_name("machine_init.py")
NETWORK = "198.18.{}"
"""Addresses that are set apart for tests of networks: no real one has them."""
PREFIX = "dm"
"""Begins the names of bridge, cables and namespaces; what runs at once tells its own apart by the number behind it."""
SWITCH = "DUBMILL_TEST_NAMESPACES"
"""Environment variable: 0 has the test do without namespaces."""
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


@dataclass
class Machine:
    """One machine. folder: its /tmp, seen from outside. namespace: empty where it is only a name for processes of this machine."""

    name: str
    address: str
    folder: Path
    namespace: str = ""
    started: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def temp(self) -> Path:
        """Its /tmp as its own processes see it."""
        return Path("/tmp") if self.namespace else self.folder  # noqa: S108

    def start(self, command: Sequence[str | Path], environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        """Starts a command as the machine's own; it ends, with all its descendants, when the test's process does. Its output is in `<folder>/log`."""
        words = [str(word) for word in command]
        if self.namespace:
            words = [*_entry(self.namespace), sys.executable, str(INIT), str(self.folder), self.name, self.address, *words]
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**environment, processes.MARK: str(self.folder)},
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - of one call into the kernel
            )
        self.started.append(process)
        return process

    def pids(self) -> list[int]:
        """Ids of its processes."""
        if self.namespace:
            listed = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True)
            return [int(word) for word in listed.stdout.split()]
        found: list[int] = processes.processes_of(self.folder, [process.pid for process in self.started])
        return found

    def kill(self, program: str) -> None:
        """SIGKILL to its processes of that name."""
        for pid in self.pids():
            with suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().strip() == program:
                    os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        """Cuts its power."""
        for process in self.started:
            process.kill()
        processes.kill_all(self.pids)
        for process in self.started:
            process.wait()


@dataclass(frozen=True)
class Network:
    """Machines that reach each other, and this one at `gateway`."""

    gateway: str
    machines: dict[str, Machine]
    apart: bool
    """Whether they are in namespaces; else all are this machine under several names."""


@contextmanager
def network(folder: Path, names: Sequence[str]) -> Iterator[Network]:
    """Machines of those names, with nothing running yet. Everything of theirs is ended and taken away afterwards."""
    number = secrets.randbelow(254) + 1
    apart = os.environ.get(SWITCH) != "0" and _permitted(number)
    if not apart:
        print("cluster: no namespaces here; the nodes are processes of one machine, which share its disk and its network.")
    prefix = NETWORK.format(number)
    machines = {name: Machine(name, f"{prefix}.{2 + at}" if apart else "127.0.0.1", folder / name) for at, name in enumerate(names)}
    try:
        for at, machine in enumerate(machines.values()):
            machine.folder.mkdir(parents=True)
            machine.folder.chmod(0o1777)
            if apart:
                _plug_in(machine, number, at)
        yield Network(f"{prefix}.1" if apart else "127.0.0.1", machines, apart)
    finally:
        for machine in machines.values():
            machine.end()
            if machine.namespace:
                _ip("netns", "delete", machine.namespace)
        if apart:
            _ip("link", "delete", _bridge(number))


def _permitted(number: int) -> bool:
    """Makes the bridge, and tries what a machine needs; False, and nothing made, where that is not permitted."""
    probe = f"{PREFIX}{number}-probe"
    try:
        _ip("link", "add", _bridge(number), "type", "bridge")
    except (OSError, subprocess.CalledProcessError):
        return False
    try:
        _ip("address", "add", f"{NETWORK.format(number)}.1/24", "dev", _bridge(number))
        _ip("link", "set", _bridge(number), "up")
        _ip("netns", "add", probe)
        try:
            subprocess.run([*_entry(probe), "mount", "-t", "tmpfs", "tmpfs", "/tmp"], check=True, capture_output=True)  # noqa: S108 - its own
        finally:
            _ip("netns", "delete", probe)
    except (OSError, subprocess.CalledProcessError):
        _ip("link", "delete", _bridge(number))
        return False
    return True


def _plug_in(machine: Machine, number: int, at: int) -> None:
    """Makes a namespace, and lays a cable from it to the bridge."""
    inside, outside = f"{PREFIX}{number}i{at}", f"{PREFIX}{number}o{at}"
    _ip("netns", "add", f"{PREFIX}{number}-{machine.name}")
    machine.namespace = f"{PREFIX}{number}-{machine.name}"
    _ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", machine.namespace)
    _ip("link", "set", outside, "master", _bridge(number), "up")
    _ip("-n", machine.namespace, "address", "add", f"{machine.address}/24", "dev", inside)
    for device in (inside, "lo"):
        _ip("-n", machine.namespace, "link", "set", device, "up")


def _bridge(number: int) -> str:
    return f"{PREFIX}{number}br"


def _entry(namespace: str) -> list[str]:
    """What a command in a namespace begins with; when the process of it is killed, the kernel ends the whole machine."""
    return ["ip", "netns", "exec", namespace, "unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
