"""The real thing on one machine, to be disturbed: Airflow's four components, a Ray head, an S3 server with bad days, and a database.

Airflow keeps its data in Postgres where that is installed, and in SQLite where not. Settings, footage, stores, results and dubs all
lie in one bucket. Each component leads a session of its own, so that all of it can be killed at once, and be started again as it was.
"""

import importlib
import json
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from tests.airflow_api import AirflowApi
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
DIRECT = httpx.Client(trust_env=False, timeout=10.0)
"""For what is asked again and again: to make a client costs as much as many requests."""


class StageError(Exception):
    """The set-up does not come up or does not do what it must. One sentence."""


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

    begun: Any
    """Its components, as `services.Services`."""
    place: str
    database: str
    ray_url: str
    bad_days: BadDays
    airflow: AirflowApi

    @property
    def folder(self) -> Path:
        """Where the components keep what is theirs."""
        return Path(self.begun.folder)

    def processes_of(self, name: str) -> list[int]:
        """The processes of a component."""
        return list(self.begun.processes_of(self._component(name)))

    def kill(self, name: str) -> None:
        """SIGKILL to all of a component."""
        self.begun.kill(self._component(name))

    def start_again(self, name: str) -> None:
        """Starts a component that was killed, once its ports are free."""
        wait_until(lambda: self.begun.start_again(self._component(name)) is not None, PORT_LIMIT_S, f"{name} finds its ports free")

    def restart_ray(self) -> None:
        """Starts the Ray head again where it was, and waits until it answers."""
        self.start_again(services.RAY)
        _wait_for_ray(self.begun, self.ray_url)

    def start_second_node(self) -> str:
        """Starts a second raylet on this machine as a node of its own, and waits until Ray counts it. Gives its name."""
        before, head, name = _ray_nodes(self.ray_url), self._component(services.RAY), f"ray-node-{secrets.token_hex(2)}"
        # What keeps a head on loopback forbids a second node, which goes where it is told to find the head: on loopback, too.
        environment = {name: value for name, value in head.environment.items() if name != "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"}
        self.begun.start(name, _node_command(head.command), environment, with_group=False)
        try:
            wait_until(lambda: bool(_ray_nodes(self.ray_url) - before), UP_LIMIT_S, "the second Ray node is there", self.begun.require_running)
        except (StageError, services.ServiceError) as error:
            self.remove(name)
            raise StageError(str(error)) from error
        return name

    def remove(self, name: str) -> None:
        """Ends a component for good."""
        component = self._component(name)
        self.begun.kill(component)
        self.begun.forget(component)

    def _component(self, name: str) -> Any:
        return next(component for component in self.begun.started if component.name == name)


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """The whole set-up, in a folder that keeps the logs. Everything is ended afterwards."""
    with ExitStack() as ending:
        place = ending.enter_context(s3_bucket(f"chaos-{secrets.token_hex(4)}"))
        bad_days = BadDays()
        ending.enter_context(troubled_s3(os.environ["AWS_ENDPOINT_URL"], bad_days))
        url, database = _database(ending)
        begun = ending.enter_context(services.Services(folder))
        ray_url = begun.begin_ray(HEAD_CPUS)
        environment = _airflow_environment(begun, place, ray_url, url)
        services.migrate_airflow(begun, environment)  # while Ray comes up, which gives up when Airflow does so beside it on a busy machine
        _wait_for_ray(begun, ray_url)
        airflow = ending.enter_context(_started_airflow(begun, environment))
        yield Stage(begun, place, database, ray_url, bad_days, airflow)


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


def _wait_for_ray(begun: Any, url: str) -> None:
    """Waits until Ray's job API answers and the head counts itself. One that gives up, as it does where all is slow, is started again."""

    def _look() -> None:
        for component in begun.started:
            if component.name == services.RAY and component.process.poll() is not None:
                begun.start_again(component)

    wait_until(lambda: bool(_ray_nodes(url)) and _answers(lambda: DIRECT.get(f"{url}/api/jobs/").is_success), UP_LIMIT_S, "the Ray head answers", _look)


def _ray_nodes(url: str) -> set[str]:
    """The ids of the nodes that Ray holds for alive; none while it is away."""
    try:
        told = DIRECT.get(f"{url}/nodes", params={"view": "summary"}).raise_for_status().json()
    except (httpx.HTTPError, json.JSONDecodeError):
        return set()
    return {str(node["raylet"]["nodeId"]) for node in told["data"]["summary"] if node["raylet"].get("state") == "ALIVE"}


def _node_command(head: Sequence[str | Path]) -> list[str | Path]:
    return [
        *(
            sys.executable,
            "-m",
            "tests.chaos.loopback_node",
            "start",
            "--address",
            f"{services.LOOPBACK}:{_option(head, '--port')}",
            "--block",
            "--disable-usage-stats",
        ),
        *("--num-cpus", str(SECOND_CPUS), "--object-store-memory", _option(head, "--object-store-memory")),
        *("--dashboard-agent-listen-port", str(services.free_port()), "--min-worker-port", "0", "--max-worker-port", "0"),
    ]


def _airflow_environment(begun: Any, place: str, ray_url: str, database: str) -> dict[str, str]:
    made = environments.airflow_environment(begun.folder / "airflow", f"{place}/settings", ray_url, services.free_port())
    quiet = {"AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": NEVER_READ_AGAIN_S, "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": NEVER_READ_AGAIN_S}
    return dict(begun.marked(made)) | quiet | ({"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database} if database else {})


def _started_airflow(begun: Any, environment: Mapping[str, str]) -> AirflowApi:
    password = environments.admin_password(Path(environment["AIRFLOW_HOME"]))
    begun.begin_airflow(environment)
    is_well = partial(services.airflow_is_well, environment["AIRFLOW__API__PORT"])
    wait_until(lambda: _answers(is_well), UP_LIMIT_S, "Airflow is well", begun.require_running, 0.3)
    api = AirflowApi(environment["AIRFLOW__API__BASE_URL"], environments.ADMIN, password)
    for dag_id in DAGS:
        wait_until(lambda dag_id=dag_id: dag_id in api.dags(), UP_LIMIT_S, f"Airflow knows the DAG {dag_id}", begun.require_running, 0.3)
        api.unpause(dag_id)
    return api


def _answers(ask: Callable[[], bool]) -> bool:
    try:
        return ask()
    except (httpx.HTTPError, json.JSONDecodeError):
        return False


def _option(command: Sequence[str | Path], name: str) -> str:
    return str(command[list(command).index(name) + 1])
