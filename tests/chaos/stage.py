"""The real thing on one machine, to be disturbed: Airflow's four components, a Ray head, an S3 server with bad days, and a database.

Airflow keeps its data in Postgres where that is installed, and in SQLite where not. Settings, footage, stores, results and dubs all
lie in one bucket. Each component leads a session of its own, so that all of it can be killed at once, and be started again as it was.
"""

import importlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from tests.airflow_api import AirflowApi
from tests.chaos.processes import kill_session
from tests.postgres_server import postgres_server
from tests.s3_server import Request, s3_bucket, troubled_s3

sys.path.insert(0, str(Path(__file__).parents[2] / "docker" / "local"))
environments = importlib.import_module("environments")
services = importlib.import_module("services")  # a plain script: the folder `docker` is no package

DAGS = ("ingest_corpus", "bulk_dubbing")
UP_LIMIT_S = 600.0
PORT_LIMIT_S = 60.0
HEAD_CPUS = 3
"""What the Ray head says it has: room for one actor that ingests and two that dub, whatever the machine has."""
SECOND_CPUS = 2
NEVER_READ_AGAIN_S = "600"
"""The DAG files do not change here, and to read them again and again costs a core that the jobs want."""
RAY_PATIENCE = {"RAY_DASHBOARD_STARTUP_TIMEOUT_S": "180"}
"""A head whose dashboard is not there within a minute gives up, which is too soon with every core at work."""
DIRECT = httpx.Client(trust_env=False, timeout=10.0)
"""For what is asked again and again: to make a client costs as much as many requests."""


class StageError(Exception):
    """The set-up does not come up or does not do what it must. One sentence."""


@dataclass
class Component:
    """A command that runs until it is killed, and can be started again as it was."""

    name: str
    command: Sequence[str | Path]
    environment: Mapping[str, str]
    folder: Path
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def log(self) -> Path:
        """Where its output goes, that of all its lives."""
        return self.folder / "logs" / f"{self.name}.log"

    @property
    def leader(self) -> int:
        """The id of its session."""
        if self.process is None:
            raise StageError(f"{self.name} was never started.")
        return self.process.pid

    def start(self) -> None:
        """Starts it in a session of its own."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(part) for part in self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.environment),
                cwd=self.folder,
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL to all its processes: what a power cut or a lost container does."""
        if self.process is not None:
            kill_session(self.leader)
            self.process.wait()

    def require_running(self) -> None:
        """Raises StageError when it has ended by itself."""
        if self.process is not None and (code := self.process.poll()) is not None:
            raise StageError(f"{self.name} ended by itself with exit code {code}; see {self.log}.")


class BadDays:
    """An object store that can be made to fail: by turns it answers 503, or does what is asked and its answer is lost.

    puts: how often each object was written with an answer, by path.
    """

    def __init__(self) -> None:
        self.are_now = False
        self.puts: Counter[str] = Counter()
        self.failed = 0

    def __call__(self, request: Request) -> str:
        if self.are_now:
            self.failed += 1
            return ("throttle", "lose")[request.number % 2]
        if request.method == "PUT":
            self.puts[unquote(request.path.partition("?")[0])] += 1
        return ""


@dataclass
class Stage:
    """What is set up. place: the bucket."""

    folder: Path
    place: str
    database: str
    ray_url: str
    bad_days: BadDays
    components: dict[str, Component]
    airflow: AirflowApi

    def restart_ray(self) -> None:
        """Starts the Ray head again where it was, once its ports are free, and waits until it answers."""
        head = self.components["ray"]
        port = int(_option(head.command, "--port"))
        wait_until(lambda: services.free_port(port) == port, PORT_LIMIT_S, "the port of the Ray head is free")
        head.start()
        _wait_for_ray(head, self.ray_url)

    def start_second_node(self) -> Component:
        """Starts a second raylet on this machine as a node of its own, and waits until Ray counts it."""
        nodes = self.nodes()
        head = self.components["ray"]
        # What keeps a head on loopback forbids a second node, which goes where it is told to find the head: on loopback, too.
        environment = {name: value for name, value in head.environment.items() if name != "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"}
        node = Component(f"ray-node-{secrets.token_hex(2)}", _node_command(head.command), environment, self.folder)
        self.components[node.name] = node
        node.start()
        wait_until(lambda: self.nodes() > nodes, UP_LIMIT_S, "the second Ray node is there", node.require_running)
        return node

    def nodes(self) -> int:
        """How many nodes Ray holds for alive."""
        return _ray_nodes(self.ray_url)

    def remove(self, component: Component) -> None:
        """Ends a component for good."""
        component.kill()
        del self.components[component.name]


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """The whole set-up, in a folder that keeps the logs. Everything is ended afterwards."""
    with ExitStack() as ending:
        place = ending.enter_context(s3_bucket(f"chaos-{secrets.token_hex(4)}"))
        bad_days = BadDays()
        ending.enter_context(troubled_s3(os.environ["AWS_ENDPOINT_URL"], bad_days))
        begun = ending.enter_context(services.Services(folder))
        url, database = _database(ending)
        ray = _ray(begun, ending)
        ray_url = f"http://{services.LOOPBACK}:{_option(ray.command, '--dashboard-port')}"
        environment = _airflow_environment(begun, place, ray_url, url)
        components = {component.name: component for component in [ray, *_airflow(begun, environment)]}
        ending.callback(lambda: [component.kill() for component in components.values()])
        ray.start()
        services.migrate_airflow(begun, environment)  # while Ray comes up, which gives up when Airflow does so beside it on a busy machine
        _wait_for_ray(ray, ray_url)
        airflow = _started_airflow(components, environment)
        ending.callback(airflow.close)
        yield Stage(begun.folder, place, database, ray_url, bad_days, components, airflow)


def wait_until(is_so: Callable[[], bool], limit_s: float, what: str, look: Callable[[], object] = lambda: None, pause_s: float = 0.1) -> float:
    """Waits until something is so; the seconds that it took. look: raises when there is nothing to wait for any more. Raises StageError."""
    began_s = time.monotonic()
    while not is_so():
        look()
        if time.monotonic() - began_s > limit_s:
            raise StageError(f"It did not come about within {limit_s:.0f} s that {what}.")
        time.sleep(pause_s)
    return time.monotonic() - began_s


def _database(ending: ExitStack) -> tuple[str, str]:
    """URL and name of Airflow's database; no URL for that which Airflow brings."""
    try:
        server = ending.enter_context(postgres_server())
    except pytest.skip.Exception as reason:
        return "", f"SQLite ({reason.msg})"
    return server.url, f"Postgres {server.programs.parent.name}"


def _ray(begun: Any, ending: ExitStack) -> Component:
    temp = Path(tempfile.mkdtemp(prefix="dubmill-", dir="/tmp"))
    ending.callback(shutil.rmtree, temp, ignore_errors=True)
    command = services.ray_command(temp, services.free_ports(4), HEAD_CPUS)
    return Component("ray", command, begun.marked(services.ray_environment() | RAY_PATIENCE), begun.folder)


def _wait_for_ray(head: Component, url: str) -> None:
    """Waits until Ray's job API answers and the head counts itself. One that gives up, as it does where all is slow, is started again."""

    def look() -> None:
        if head.process is not None and head.process.poll() is not None:
            kill_session(head.leader)
            head.start()

    wait_until(lambda: _ray_nodes(url) > 0 and _answers(lambda: DIRECT.get(f"{url}/api/jobs/").is_success), UP_LIMIT_S, "the Ray head answers", look)


def _ray_nodes(url: str) -> int:
    """How many nodes Ray holds for alive; none while it is away."""
    try:
        told = DIRECT.get(f"{url}/nodes", params={"view": "summary"}).raise_for_status().json()
    except (httpx.HTTPError, json.JSONDecodeError):
        return 0
    return sum(node["raylet"].get("state") == "ALIVE" for node in told["data"]["summary"])


def _node_command(head: Sequence[str | Path]) -> list[str | Path]:
    return [
        *(head[0], "start", "--address", f"{services.LOOPBACK}:{_option(head, '--port')}", "--block", "--disable-usage-stats"),
        *("--num-cpus", str(SECOND_CPUS), "--object-store-memory", _option(head, "--object-store-memory")),
        *("--dashboard-agent-listen-port", str(services.free_port()), "--min-worker-port", "0", "--max-worker-port", "0"),
    ]


def _airflow_environment(begun: Any, place: str, ray_url: str, database: str) -> dict[str, str]:
    made = environments.airflow_environment(begun.folder / "airflow", f"{place}/settings", ray_url, services.free_port())
    quiet = {"AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": NEVER_READ_AGAIN_S, "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": NEVER_READ_AGAIN_S}
    return dict(begun.marked(made)) | quiet | ({"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database} if database else {})


def _airflow(begun: Any, environment: Mapping[str, str]) -> list[Component]:
    """Airflow's four components, as `Services` starts them."""
    port = environment["AIRFLOW__API__PORT"]
    arguments = {
        "api-server": ["--host", services.LOOPBACK, "--port", port, "--workers", "1", "--worker-timeout", "5"],
        "scheduler": ["--skip-serve-logs"],
        "triggerer": ["--skip-serve-logs"],
        "dag-processor": [],
    }
    return [Component(name, [services.AIRFLOW, name, *given], environment, begun.folder) for name, given in arguments.items()]


def _started_airflow(components: Mapping[str, Component], environment: Mapping[str, str]) -> AirflowApi:
    password = environments.admin_password(Path(environment["AIRFLOW_HOME"]))
    own = [components[name] for name in ("api-server", "scheduler", "triggerer", "dag-processor")]
    for component in own:
        component.start()

    def look() -> None:
        for component in own:
            component.require_running()

    url = environment["AIRFLOW__API__BASE_URL"]
    wait_until(lambda: _answers(lambda: _is_well(url)), UP_LIMIT_S, "Airflow is well", look, 0.3)
    api = AirflowApi(url, environments.ADMIN, password)
    for dag_id in DAGS:
        wait_until(lambda dag_id=dag_id: dag_id in api.dags(), UP_LIMIT_S, f"Airflow knows the DAG {dag_id}", look, 0.3)
        api.unpause(dag_id)
    return api


def _is_well(url: str) -> bool:
    parts = DIRECT.get(f"{url}/api/v2/monitor/health").raise_for_status().json()
    return all((parts.get(name) or {}).get("status") == "healthy" for name in ("metadatabase", "scheduler", "triggerer", "dag_processor"))


def _answers(ask: Callable[[], bool]) -> bool:
    try:
        return ask()
    except (httpx.HTTPError, json.JSONDecodeError):
        return False


def _option(command: Sequence[str | Path], name: str) -> str:
    return str(command[list(command).index(name) + 1])
