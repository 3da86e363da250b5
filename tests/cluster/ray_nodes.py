"""A Ray cluster of several machines that trust each other by a token: a head, and workers that come and go."""

import importlib
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.cluster.machines import Machine, Network

environments = importlib.import_module("environments")
services = importlib.import_module("services")

RAY = environments.DATA_PYTHON.with_name("ray")
OBJECT_STORE_BYTES = 128 * 1024 * 1024
START_LIMIT_S = 420.0
"""A head is up after 10 s where nothing else runs; the tests' machine is seldom that."""


@dataclass
class RayCluster:
    """What the test knows of the cluster. cores: CPU cores that each node gives out. ports: of the head; others are free to choose where they are."""

    network: Network
    head: Machine
    cores: int
    extra_environment: Mapping[str, str]
    token: str = field(default_factory=lambda: secrets.token_hex(32))
    head_port: int = 6379
    dashboard_port: int = 8265

    @property
    def url(self) -> str:
        """Of dashboard and job API."""
        return f"http://{self.head.address}:{self.dashboard_port}"

    def start_head(self) -> None:
        """Starts the head, and waits until it takes jobs."""
        if not self.network.apart:
            self.head_port, self.dashboard_port = services.free_ports(2)
        where = ["--port", self.head_port, "--dashboard-host", self.head.address, "--dashboard-port", self.dashboard_port]
        self._start_until(self.head, lambda: len(self.nodes()) == 1, "--head", *where)

    def start_worker(self, machine: Machine) -> None:
        """Starts a node on a machine, and waits until the head knows it."""
        before = set(self.nodes())
        self._start_until(machine, lambda: bool(set(self.nodes()) - before), "--address", f"{self.head.address}:{self.head_port}")

    def nodes(self) -> dict[str, str]:
        """The nodes that are alive: their addresses by their ids."""
        return {node["node_id"]: node["node_ip"] for node in self.listed("nodes") if node["state"] == "ALIVE"}

    def actors(self, kind: str) -> list[dict[str, Any]]:
        """Actors of a class, also those that have ended."""
        return [actor for actor in self.listed("actors") if actor["class_name"] == kind]

    def listed(self, what: str) -> list[dict[str, Any]]:
        """What Ray's state API lists under that name; nothing while it does not answer."""
        try:
            response = self.ask(f"/api/v0/{what}", limit="1000", detail="true")
        except httpx.TransportError:
            return []
        listed: list[dict[str, Any]] = response.json()["data"]["result"]["result"] if response.is_success else []
        return listed

    def ask(self, path: str, **parameters: str) -> httpx.Response:
        """A request with the token."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.get(f"{self.url}{path}", params=parameters, headers=headers, trust_env=False, timeout=30)

    def _start_until(self, machine: Machine, is_up: Callable[[], bool], *arguments: object) -> None:
        """Starts a node; again where it ends by itself, which it does when Ray's own limits of 30 s are too short for a busy machine."""
        started = [self._start(machine, *arguments)]

        def look() -> bool:
            if started[-1].poll() is not None:
                print(f"cluster: Ray on {machine.name} ended while it came up, and is started again.", flush=True)
                started.append(self._start(machine, *arguments))
            return is_up()

        wait_until(f"Ray on {machine.name}", look, START_LIMIT_S)

    def _start(self, machine: Machine, *arguments: object) -> "subprocess.Popen[bytes]":
        token = machine.folder / "token"
        if not token.exists():
            descriptor = os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(self.token)
        where = ["--node-ip-address", machine.address, "--temp-dir", machine.temp / "ray"] if self.network.apart else []
        ports = [] if self.network.apart else ["--dashboard-agent-listen-port", services.free_port(), "--ray-client-server-port", services.free_port()]
        size = ["--num-cpus", self.cores, "--num-gpus", 0, "--object-store-memory", OBJECT_STORE_BYTES]
        command = [RAY, "start", "--block", "--disable-usage-stats", *where, *ports, *size, "--min-worker-port", 0, "--max-worker-port", 0, *arguments]
        return machine.start([str(word) for word in command], self._environment(machine))

    def _environment(self, machine: Machine) -> dict[str, str]:
        """That of the embedded Ray but for the token, the way to the object store, and a home of the machine's own."""
        environment = dict(environments.ray_environment())
        if self.network.apart:
            del environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"]  # which keeps a node on loopback
        trust = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(machine.temp / "token"), "HOME": str(machine.temp)}
        return environment | trust | dict(self.extra_environment)


def wait_until(what: str, is_so: Callable[[], bool], limit_s: float, pause_s: float = 0.5) -> None:
    """Waits until it is so. Raises AssertionError, naming it, after limit_s."""
    deadline = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < deadline, f"{what} within {limit_s:.0f} s"
        time.sleep(pause_s)


def log_tail(machine: Machine, lines: int = 40) -> str:
    """The last lines of what a machine's first process printed."""
    log = Path(machine.folder / "log")
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""
