"""Many tasks at once through a real Airflow (api-server, scheduler, triggerer, dag-processor) and a stand-in for Ray's job API.

`.venv-airflow/bin/python -m tests.bench.many_tasks --tasks 100 --job-seconds 20` prints what Airflow adds to a job's time, CPU seconds of each
component, requests to Ray, and whether each job was submitted once and each task succeeded. `--postgres` keeps Airflow's
database in a Postgres server of its own instead of SQLite. `--slots` puts the tasks into a pool of so many, which counts
deferred ones. The jobs cost nothing here: they print a line a second and are over when their time is.
"""

import argparse
import importlib
import json
import re
import shlex
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from tests.airflow_api import AirflowApi
from tests.dags.operators.ray_stand_in import RayStandIn, StandInJob

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "docker" / "local"))
environments = importlib.import_module("environments")
services = importlib.import_module("services")  # plain scripts: the folder `docker` is no package

DAG_ID = "many_tasks"
TASK_ID = "follow_job"
DAG = """
from datetime import datetime

from airflow.sdk import DAG

from dags.operators.ray_job import RayJobOperator
from schemas.settings import IngestSettings

with DAG({dag_id!r}, schedule=None, start_date=datetime(2025, 1, 1), catchup=False, max_active_tasks={tasks}) as dag:
    RayJobOperator.partial(task_id={task_id!r}, job="ingest", settings_class=IngestSettings, results={results!r}, retries=0, pool={pool!r}).expand(
        overrides=[{{"store": "/store", "sources": [f"/footage/{{number}}"]}} for number in range({tasks})]
    )
"""
POOL = "ray"
OVER = ("success", "failed", "skipped", "upstream_failed", "removed")
PARSE_LIMIT_S = 300.0
RUN_LIMIT_S = 3600.0
IDLE_S = 20.0
"""Seconds for which the components are watched before the run: what they cost doing nothing."""


@dataclass(frozen=True)
class Task:
    """What became of one task. All in seconds of the epoch, on this machine's clock."""

    state: str
    submitted: float
    followed: float
    job_over: float
    ended: float


@dataclass(frozen=True)
class Figures:
    """What a run showed. cpu_s: by component, of the run. idle_cpu_s: the same of a second in which nothing is to do."""

    began: float
    seconds: float
    tasks: list[Task]
    states: Counter[str]
    submissions: Counter[str]
    requests: Counter[str]
    cpu_s: dict[str, float]
    idle_cpu_s: dict[str, float]
    lines_noted: int

    @property
    def most_at_once(self) -> int:
        """Jobs that ran side by side, at most."""
        return max(sum(other.submitted <= task.submitted < other.job_over for other in self.tasks) for task in self.tasks)


def measured(tasks: int, job_seconds: float, parallelism: int, *, slots: int | None = None, postgres: bool = False) -> Figures:
    """Starts everything, runs the DAG once, and ends everything. slots: of a pool for the tasks; None: none."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dubmill-many-", dir="/tmp")))
        _write_dag(folder, tasks, POOL if slots else "default_pool")
        ray = stack.enter_context(RayStandIn(course=["RUNNING"], runs_for_s=job_seconds, on_submit=_work))
        started = stack.enter_context(services.Services(folder))
        environment = _environment(folder, ray, tasks, parallelism)
        if postgres:
            environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = stack.enter_context(_postgres())
        password = environments.admin_password(folder / "airflow")
        started.start_airflow(environment)
        api = stack.enter_context(AirflowApi(environment["AIRFLOW__API__BASE_URL"], environments.ADMIN, password))
        if slots:
            api.client.post("/pools", json={"name": POOL, "slots": slots, "include_deferred": True}).raise_for_status()
        return _run(started, api, ray, job_seconds)


def _run(started: Any, api: AirflowApi, ray: RayStandIn, job_seconds: float) -> Figures:
    _until(lambda: DAG_ID in api.dags(), PARSE_LIMIT_S)
    api.unpause(DAG_ID)
    before = _cpu_s(started)
    time.sleep(IDLE_S)
    idle = {name: (after - before[name]) / IDLE_S for name, after in _cpu_s(started).items()}
    before, began = _cpu_s(started), time.time()
    run = str(api.begin(DAG_ID))
    _until(lambda: api.run_state(DAG_ID, run) in OVER, RUN_LIMIT_S)
    cpu = {name: after - before[name] for name, after in _cpu_s(started).items()}
    instances = _instances(api, run)
    followed = _first_looks(ray)
    tasks = [_task(instance, ray, followed, job_seconds) for instance in instances if instance["map_index"] >= 0]
    return Figures(
        began=began,
        seconds=max(task.ended for task in tasks) - began,
        tasks=tasks,
        states=Counter(task.state for task in tasks),
        submissions=ray.submissions,
        requests=Counter(_kind(request) for request in ray.requests),
        cpu_s=cpu,
        idle_cpu_s=idle,
        lines_noted=_noted(api, run),
    )


def _write_dag(folder: Path, tasks: int, pool: str) -> None:
    for name in ("dags", "results", "settings"):
        (folder / name).mkdir()
    (folder / "dags" / "many_tasks.py").write_text(DAG.format(dag_id=DAG_ID, task_id=TASK_ID, tasks=tasks, results=str(folder / "results"), pool=pool))


def _work(job: StandInJob) -> None:
    """What the job does: its result is there at once, and counts when the job is over."""
    words = shlex.split(job.entrypoint)
    Path(words[words.index("--result") + 1]).write_text(json.dumps({"store": "/store", "clips": 1}))
    job.prints_every_s = 1.0


def _environment(folder: Path, ray: RayStandIn, tasks: int, parallelism: int) -> dict[str, str]:
    environment: dict[str, str] = environments.airflow_environment(folder / "airflow", folder / "settings", ray.url, services.free_port())
    return environment | {
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
        "AIRFLOW__CORE__PARALLELISM": str(parallelism),
        "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": str(tasks),
        "AIRFLOW__CORE__MAX_MAP_LENGTH": str(max(tasks, 1024)),
        "DUBMILL_CLUSTER_PYTHON": "python",
    }


@contextmanager
def _postgres() -> Iterator[str]:
    from tests.postgres_server import postgres_server  # only where it is asked for: it needs pytest

    with postgres_server() as server:
        yield server.url


def _until(is_so: Callable[[], bool], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so after {limit_s:.0f} s")
        time.sleep(1.0)


def _instances(api: AirflowApi, run: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = api.client.get(f"/dags/{DAG_ID}/dagRuns/{run}/taskInstances", params={"limit": 50, "offset": len(found)}).raise_for_status().json()
        found += page["task_instances"]
        if len(found) >= page["total_entries"] or not page["task_instances"]:
            return found


def _noted(api: AirflowApi, run: str) -> int:
    """How many tasks show their progress in Airflow."""
    query: Mapping[str, str | int] = {"xcom_key": "ray_job", "limit": 1}
    return int(api.client.get(f"/dags/{DAG_ID}/dagRuns/{run}/taskInstances/{TASK_ID}/xcomEntries", params=query).raise_for_status().json()["total_entries"])


def _first_looks(ray: RayStandIn) -> dict[str, float]:
    """When each job was first asked for after its submission: by its trigger."""
    first: dict[str, float] = {}
    for when, what in ray.asked:
        name = what.rpartition("/")[2]
        if what.startswith("GET /api/jobs/") and name in ray.jobs and when > ray.jobs[name].began:
            first.setdefault(name, when)
    return first


def _task(instance: Mapping[str, Any], ray: RayStandIn, followed: Mapping[str, float], job_seconds: float) -> Task:
    index = str(instance["map_index"])
    name, job = next((name, job) for name, job in ray.jobs.items() if job.metadata["map_index"] == index)
    ended = datetime.fromisoformat(instance["end_date"]).timestamp()
    return Task(instance["state"], job.began, followed[name], job.began + job_seconds, ended)


def _cpu_s(started: Any) -> dict[str, float]:
    """CPU seconds so far of each component, with what it has started; a child that has ended counts in its parent."""
    return {service.name: _tree_cpu_s(service.process.pid) for service in started.started}


def _tree_cpu_s(pid: int) -> float:
    total, root = 0.0, psutil.Process(pid)
    for process in [root, *root.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _kind(request: str) -> str:
    path = request.partition("?")[0]
    return re.sub(r"(/api/jobs/)[^/]+", r"\1…", path)


def _report(figures: Figures, job_seconds: float) -> None:
    count = len(figures.tasks)
    minutes = count * job_seconds / 60
    print(f"{count} tasks of {job_seconds:.0f} s at once: {dict(figures.states)}, all over after {figures.seconds:.1f} s")
    print(f"jobs submitted: {sum(figures.submissions.values())}, more than once: {sum(number > 1 for number in figures.submissions.values())}")
    print(f"jobs side by side, at most: {figures.most_at_once}")
    print(f"tasks whose progress Airflow shows: {figures.lines_noted}")
    delays = {
        "run begins → job submitted": [task.submitted - figures.began for task in figures.tasks],
        "job submitted → deferred, trigger looks": [task.followed - task.submitted for task in figures.tasks],
        "job over → task success": [task.ended - task.job_over for task in figures.tasks],
    }
    for name, seconds in delays.items():
        print(f"{name:<42} median {statistics.median(seconds):6.1f} s, longest {max(seconds):6.1f} s")
    last = max(task.submitted for task in figures.tasks) - figures.began
    print(f"{'submissions a second':<42} {count / last:6.2f}")
    for name, seconds in figures.cpu_s.items():
        idle = figures.idle_cpu_s[name] * figures.seconds
        print(f"{'CPU of ' + name:<42} {seconds:6.1f} s, {(seconds - idle) / count:.3f} s a task beyond the {idle:.1f} s of idling")
    triggerer = figures.cpu_s["triggerer"] - figures.idle_cpu_s["triggerer"] * figures.seconds
    print(f"{'CPU of triggerer a minute of a job':<42} {triggerer / minutes:6.3f} s")
    print(f"{'requests to Ray a task':<42} {sum(figures.requests.values()) / count:6.1f}: {dict(figures.requests)}")


def main() -> int:
    """Prints the figures; 1 when a task was lost or a job submitted twice."""
    parser = argparse.ArgumentParser(description="Many deferred tasks at once.")
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--job-seconds", type=float, default=20.0)
    parser.add_argument("--parallelism", type=int, default=4, help="worker processes of the executor")
    parser.add_argument("--slots", type=int, help="of a pool for the tasks")
    parser.add_argument("--postgres", action="store_true", help="Airflow's database in Postgres instead of SQLite")
    options = parser.parse_args()
    figures = measured(options.tasks, options.job_seconds, options.parallelism, slots=options.slots, postgres=options.postgres)
    _report(figures, options.job_seconds)
    is_well = figures.states == {"success": options.tasks} and set(figures.submissions.values()) == {1}
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
