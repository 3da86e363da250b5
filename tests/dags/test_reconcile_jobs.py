"""The DAG `reconcile_jobs` run by Airflow itself, over tasks in every state; in all tests but the first, what looks through Ray's jobs is pretended."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session

from dags.operators.orphaned_jobs import JobOwner
from dags.operators.ray_jobs_api import RayJobsError
from dags.webhook import WEBHOOK_VARIABLE
from tests.dags.operators.ray_stand_in import RayStandIn, StandInJob
from tests.dags.webhook_stand_in import WebhookStandIn

STATES = (
    None, "scheduled", "queued", "running", "restarting", "deferred", "up_for_retry", "up_for_reschedule", "awaiting_input",
    "success", "failed", "skipped", "upstream_failed", "removed",
)  # fmt: skip
"""Of a task; those from `success` on are final."""
ALIVE = STATES[: STATES.index("success")]
GENERATION = 2
TASK = "ingest"


@dataclass
class Cluster:
    """Running jobs by id and whose they are. It stops what nobody is alive for, as the real one does."""

    jobs: dict[str, JobOwner] = field(default_factory=dict)
    graces_s: list[float] = field(default_factory=list)
    is_away: bool = False

    def stop_orphaned_jobs(
        self, connection_id: str, is_alive: Callable[[JobOwner], bool], say: Callable[[str], object], grace_s: float = 120.0, *, tell_only: bool = False
    ) -> list[str]:
        assert (connection_id, tell_only) == ("ray_default", False)
        if self.is_away:
            raise RayJobsError("Ray did not answer for 600 s.")
        self.graces_s.append(grace_s)
        orphans = [job for job, owner in self.jobs.items() if not is_alive(owner)]
        for job in orphans:
            say(f"Stopping {job}.")
            del self.jobs[job]
        return orphans


@dataclass
class Line:
    """The DAG, its cluster, and a run of another DAG whose mapped task instances are in every state."""

    dag: Any
    cluster: Cluster
    run_id: str

    def reconcile(self, **params: Any) -> tuple[str, list[str]]:
        """State of a run of the DAG, and the jobs that are left after it."""
        return str(self.dag.test(run_conf={"grace_s": 120, "tell_only": False, **params}).state), sorted(self.cluster.jobs)

    def owner(self, state: str | None, generation: int = GENERATION) -> JobOwner:
        """The mapped task instance in that state."""
        return JobOwner("ingest_corpus", self.run_id, TASK, STATES.index(state), generation)


@pytest.fixture(scope="module")
def run_id(database: None, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of `ingest_corpus` that goes on, with an `ingest` in each state. Its first task is real: it fails."""
    dag = DagBag(str(repository / "dags" / "ingest_corpus.py")).dags["ingest_corpus"]
    done = dag.test(run_conf={"settings": str(tmp_path_factory.mktemp("none") / "none.yaml")})
    with create_session() as session:
        run = session.get(DagRun, done.id)
        run.state = "running"
        only = session.query(TaskInstance).filter_by(dag_id=dag.dag_id, run_id=run.run_id, task_id=TASK).one()
        only.map_index, only.state, only.max_tries = 0, STATES[0], GENERATION
        for at, state in enumerate(STATES[1:], start=1):
            instance = TaskInstance(only.task or done.dag.get_task(TASK), run_id=run.run_id, dag_version_id=only.dag_version_id, map_index=at, state=state)
            instance.max_tries = GENERATION
            session.add(instance)
    return str(done.run_id)


@pytest.fixture
def line(run_id: str, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    dag = DagBag(str(repository / "dags" / "reconcile_jobs.py")).dags["reconcile_jobs"]
    cluster = Cluster()
    monkeypatch.setitem(dag.get_task("stop_orphans").python_callable.__globals__, "stop_orphaned_jobs", cluster.stop_orphaned_jobs)
    return Line(dag, cluster, run_id)


def test_jobs_at_ray_are_stopped_when_nobody_waits_for_them(
    run_id: str, repository: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    line = Line(DagBag(str(repository / "dags" / "reconcile_jobs.py")).dags["reconcile_jobs"], Cluster(), run_id)
    with RayStandIn() as ray:
        monkeypatch.setenv("AIRFLOW_CONN_RAY_DEFAULT", ray.url)
        for state in ("deferred", "failed"):
            ray.jobs[f"job.{state}"] = StandInJob("python", ["RUNNING"], metadata=line.owner(state).metadata(), began=time.time() - 200)
        ray.jobs["young"] = StandInJob("python", ["RUNNING"], metadata=line.owner("failed").metadata())
        ray.jobs["of nobody"] = StandInJob("python", ["RUNNING"], began=time.time() - 200)
        assert line.reconcile(tell_only=True)[0] == "success"
        assert f"Would stop Ray job job.failed: its task {line.owner('failed')} is no longer alive." in "".join(capfd.readouterr()) + caplog.text
        assert ray.stopped == []
        assert line.reconcile()[0] == "success"
        assert ray.stopped == ["job.failed"]


def test_a_job_is_left_while_its_task_may_take_it_up_again_and_stopped_after(line: Line) -> None:
    line.cluster.jobs = {str(state): line.owner(state) for state in STATES}
    assert line.reconcile() == ("success", sorted(map(str, ALIVE)))
    assert line.cluster.graces_s[-1] == 120.0


def test_jobs_of_runs_tasks_and_places_that_are_not_there_are_stopped(line: Line) -> None:
    owner = line.owner("running")
    line.cluster.jobs = {
        "alive": owner,
        "run": JobOwner(owner.dag_id, "manual__deleted", owner.task_id, owner.map_index, GENERATION),
        "dag": JobOwner("no_dag", owner.run_id, owner.task_id, owner.map_index, GENERATION),
        "task": JobOwner(owner.dag_id, owner.run_id, "no_task", owner.map_index, GENERATION),
        "place": JobOwner(owner.dag_id, owner.run_id, owner.task_id, 99, GENERATION),
    }
    assert line.reconcile() == ("success", ["alive"])


@pytest.mark.parametrize("state", ["failed", "success"])
def test_a_run_that_is_over_has_no_living_tasks(line: Line, state: str) -> None:
    line.cluster.jobs = {"running": line.owner("running")}
    with create_session() as session:
        session.query(DagRun).filter_by(run_id=line.run_id, dag_id="ingest_corpus").update({"state": state})
    try:
        assert line.reconcile() == ("success", [])
    finally:
        with create_session() as session:
            session.query(DagRun).filter_by(run_id=line.run_id, dag_id="ingest_corpus").update({"state": "running"})


def test_a_ray_that_is_away_fails_the_run_and_tells_nobody(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    line.cluster.is_away = True
    with WebhookStandIn() as hook:
        monkeypatch.setenv(WEBHOOK_VARIABLE, hook.url)
        assert line.reconcile()[0] == "failed"
        assert hook.told == []
