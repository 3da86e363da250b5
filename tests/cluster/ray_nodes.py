"""A Ray cluster of several machines that trust each other by a token: a head, and workers that come and go."""

import importlib
import os
import secrets
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
START_LIMIT_S = 240.0
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
        """Starts the head, and waits until its dashboard answers."""
        if not self.network.apart:
            self.head_port, self.dashboard_port = services.free_ports(2)
        self._start(self.head, "--head", "--port", self.head_port, "--dashboard-host", self.head.address, "--dashboard-port", self.dashboard_port)
        wait_until("Ray's head", lambda: self.answers("/api/jobs/"), START_LIMIT_S)

    def start_worker(self, machine: Machine) -> None:
        """Starts a node on a machine, and waits until the head knows it."""
        before = len(self.nodes())
        self._start(machine, "--address", f"{self.head.address}:{self.head_port}")
        wait_until(f"Ray's node on {machine.name}", lambda: len(self.nodes()) > before, START_LIMIT_S)

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

    def answers(self, path: str) -> bool:
        """Whether the dashboard answers a request."""
        try:
            return self.ask(path).is_success
        except httpx.TransportError:
            return False

    def ask(self, path: str, **parameters: str) -> httpx.Response:
        """A request with the token."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.get(f"{self.url}{path}", params=parameters, headers=headers, trust_env=False, timeout=30)

    def _start(self, machine: Machine, *arguments: object) -> None:
        token = machine.folder / "token"
        if not token.exists():
            descriptor = os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(self.token)
        where = ["--node-ip-address", machine.address, "--temp-dir", machine.temp / "ray"] if self.network.apart else []
        ports = [] if self.network.apart else ["--dashboard-agent-listen-port", services.free_port(), "--ray-client-server-port", services.free_port()]
        size = ["--num-cpus", self.cores, "--num-gpus", 0, "--object-store-memory", OBJECT_STORE_BYTES]
        command = [RAY, "start", "--block", "--disable-usage-stats", *where, *ports, *size, "--min-worker-port", 0, "--max-worker-port", 0, *arguments]
        machine.start([str(word) for word in command], self._environment(machine))

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
