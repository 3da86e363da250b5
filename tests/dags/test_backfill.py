"""Runs of the past, of the same time and at the same time: Airflow's own scheduler decides which may work at once, and no DAG asks for the date."""

import ast
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.exceptions import DagRunTypeNotAllowed
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.backfill import DagNonPeriodicScheduleException, ReprocessBehavior, _create_backfill
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import select

from tests.dags.scheduled_dags import runs_by_hand

DATES = {"logical_date", "execution_date", "data_interval", "data_interval_start", "data_interval_end", "ds", "ds_nodash", "ts", "run_after"}
"""What Airflow calls the time that a run is for."""


@pytest.fixture
def scheduler() -> SchedulerJobRunner:
    return SchedulerJobRunner(job=Job())


def backfilled(dag_id: str) -> list[str]:
    """Begins three days of the past at once, and gives the ids of their runs."""
    first, last = datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 3, 3, tzinfo=UTC)
    _create_backfill(
        dag_id=dag_id, from_date=first, to_date=last, max_active_runs=10, reverse=False, dag_run_conf={}, triggering_user_name=None,
        reprocess_behavior=ReprocessBehavior.NONE,
    )  # fmt: skip
    with create_session() as session:
        return [run.run_id for run in session.scalars(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_type == "backfill"))]


def running(scheduler: SchedulerJobRunner, dag_id: str, run_type: str) -> int:
    """How many runs go on once the scheduler has started what it may."""
    with create_session() as session:
        scheduler._start_queued_dagruns(session)
    with create_session() as session:
        return session.query(DagRun).filter_by(dag_id=dag_id, run_type=run_type, state="running").count()


def started_at_once(scheduler: SchedulerJobRunner, dag_id: str, task_id: str, state_of_the_first: str) -> int:
    """How many instances of a task the scheduler starts, of those of several runs that are all ready, while the first is in some state."""
    with create_session() as session:
        instances = session.scalars(select(TaskInstance).where(TaskInstance.dag_id == dag_id, TaskInstance.task_id == task_id)).all()
        for at, instance in enumerate(instances):
            instance.state = "scheduled" if at else state_of_the_first
        session.flush()
        return len(scheduler._executable_task_instances_to_queued(max_tis=32, session=session))


@pytest.mark.parametrize(("dag_id", "most"), [("ingest_corpus", 1), ("train_renderer", 1), ("maintain_store", 1), ("release_dubs", 1), ("bulk_dubbing", 4)])
def test_no_more_runs_go_on_at_once_than_a_dag_allows(scheduled: None, scheduler: SchedulerJobRunner, dag_id: str, most: int) -> None:
    runs_by_hand(dag_id, 5)
    assert running(scheduler, dag_id, "manual") == most


def test_a_backfill_of_many_days_at_once_ingests_one_after_the_other(scheduled: None, scheduler: SchedulerJobRunner) -> None:
    runs = backfilled("ingest_corpus")
    assert len(runs) == 3
    assert running(scheduler, "ingest_corpus", "backfill") == 3, "its own limit is another than that of the DAG"
    assert started_at_once(scheduler, "ingest_corpus", "ingest", "scheduled") == 1
    for state in ("running", "deferred"):
        assert started_at_once(scheduler, "ingest_corpus", "ingest", state) == 0, "the first is at it"


def test_a_backfill_looks_for_job_lists_one_run_after_the_other(scheduled: None, scheduler: SchedulerJobRunner) -> None:
    backfilled("bulk_dubbing")
    assert running(scheduler, "bulk_dubbing", "backfill") == 3
    assert started_at_once(scheduler, "bulk_dubbing", "find_lists", "scheduled") == 1


@pytest.mark.parametrize(
    ("dag_id", "refusal"),
    [
        ("train_renderer", DagNonPeriodicScheduleException),
        ("maintain_store", DagRunTypeNotAllowed),
        ("reconcile_jobs", DagRunTypeNotAllowed),
        ("release_dubs", DagRunTypeNotAllowed),
    ],
)
def test_what_has_no_past_is_not_backfilled(scheduled: None, dag_id: str, refusal: type[Exception]) -> None:
    with pytest.raises(refusal):
        backfilled(dag_id)


def test_no_dag_asks_for_the_time_that_a_run_is_for(repository: Path) -> None:
    asked: dict[str, set[str]] = {}
    for path in sorted((repository / "dags").glob("*.py")):
        tree: Any = ast.parse(path.read_text())
        names = {getattr(node, "attr", getattr(node, "id", getattr(node, "arg", None))) for node in ast.walk(tree)}
        templates = {word for node in ast.walk(tree) if isinstance(node, ast.Constant) and "{{" in str(node.value) for word in str(node.value).split()}
        if found := (names | templates) & DATES:
            asked[path.name] = found
    assert asked == {}
