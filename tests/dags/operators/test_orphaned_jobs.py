"""Jobs whose task is no longer alive are stopped, and no others."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace

import pytest

from dags.operators import orphaned_jobs
from dags.operators.job_owner import DEPLOYMENT_VARIABLE
from dags.operators.orphaned_jobs import JobOwner, stop_orphaned_jobs
from dags.operators.ray_jobs_api import RayJobsError
from tests.dags.operators.one_task import Run
from tests.dags.operators.ray_stand_in import RayStandIn, StandInJob

OWNER = JobOwner("ingest_corpus", "manual__1", "ingest", 3, 2)


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[RayStandIn]:
    with RayStandIn() as ray:
        monkeypatch.setenv("AIRFLOW_CONN_RAY_DEFAULT", json.dumps({"conn_type": "http", "host": "127.0.0.1", "port": ray.port}))
        yield ray


def add(ray: RayStandIn, name: str, owner: JobOwner | None = OWNER, *, status: str = "RUNNING", age_s: float = 600.0) -> StandInJob:
    job = StandInJob("python", [status], metadata=owner.metadata() if owner else {})
    job.began -= age_s
    ray.jobs[name] = job
    return job


def stop(is_alive: Callable[[JobOwner], bool] = lambda _: False, grace_s: float = 120.0, *, tell_only: bool = False) -> tuple[list[str], list[str]]:
    said: list[str] = []
    return stop_orphaned_jobs("ray_default", is_alive, said.append, grace_s, tell_only=tell_only), said


def test_a_job_whose_task_is_not_alive_is_stopped_with_one_sentence(ray: RayStandIn) -> None:
    ray.stop_takes_s = 0.5
    job = add(ray, "orphan")
    stopped, said = stop()
    assert stopped == ["orphan"]
    assert job.look() == "STOPPED"
    assert said == ["Stopping Ray job orphan: its task ingest_corpus/manual__1/ingest[3] is no longer alive."]


def test_who_is_alive_is_decided_by_whole_owners_with_their_generation(ray: RayStandIn) -> None:
    add(ray, "alive", OWNER)
    add(ray, "of-before-a-clear", replace(OWNER, max_tries=1))
    add(ray, "of-another-map-index", replace(OWNER, map_index=4))
    stopped, _ = stop(lambda owner: owner == OWNER)
    assert stopped == ["of-before-a-clear", "of-another-map-index"]


@pytest.mark.parametrize("successor", ["RUNNING", "PENDING", "SUCCEEDED"])
def test_an_older_generation_is_stopped_once_its_successor_has_a_job(ray: RayStandIn, successor: str) -> None:
    add(ray, "old", replace(OWNER, max_tries=1))
    assert stop(lambda _: True)[0] == [], "nobody tells which generation is alive before"
    add(ray, "new", status=successor, age_s=1.0)
    add(ray, "other", replace(OWNER, map_index=4, max_tries=1))
    assert stop(lambda _: True)[0] == ["old"]


def test_it_can_tell_what_it_would_stop(ray: RayStandIn) -> None:
    add(ray, "orphan")
    assert stop(tell_only=True) == ([], ["Would stop Ray job orphan: its task ingest_corpus/manual__1/ingest[3] is no longer alive."])
    assert not ray.stopped


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "STOPPED"])
def test_what_is_over_is_left_alone(ray: RayStandIn, status: str) -> None:
    add(ray, "over", status=status)
    assert stop() == ([], [])
    assert not ray.stopped


def test_what_waits_for_its_turn_is_stopped_too(ray: RayStandIn) -> None:
    add(ray, "waiting", status="PENDING")
    assert stop()[0] == ["waiting"]


def test_what_was_submitted_just_now_is_left_alone(ray: RayStandIn) -> None:
    add(ray, "young", age_s=60)
    assert stop()[0] == []
    assert stop(grace_s=30)[0] == ["young"]


def test_jobs_of_another_airflow_or_of_nobody_are_left_alone(ray: RayStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    add(ray, "of-nobody", None)
    monkeypatch.setenv(DEPLOYMENT_VARIABLE, "production")
    add(ray, "of-production")
    monkeypatch.setenv(DEPLOYMENT_VARIABLE, "staging")
    assert stop()[0] == []
    monkeypatch.setenv(DEPLOYMENT_VARIABLE, "production")
    assert stop()[0] == ["of-production"]


def test_a_job_that_does_not_stop_keeps_no_other_running(ray: RayStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphaned_jobs, "STOP_LIMIT_S", 2.0)
    add(ray, "stubborn")
    add(ray, "second")
    ray.jobs["stubborn"].stops_at = float("inf")
    told = ray._about

    def deaf(parts: list[str]) -> tuple[int, object]:
        return (200, {"stopped": True}) if parts == ["stubborn", "stop"] else told(parts)

    monkeypatch.setattr(ray, "_about", deaf)
    stopped, said = stop()
    assert stopped == ["second"]
    assert "Ray job stubborn has not stopped within 2 s." in said


def test_a_ray_that_refuses_is_told_of(ray: RayStandIn) -> None:
    ray.token = "swordfish"
    with pytest.raises(RayJobsError, match="refuses the token"):
        stop()


def test_jobs_of_the_operator_name_their_owner(run: Run) -> None:
    run.ray.course = ["RUNNING"]
    run.deferral()
    asked: list[JobOwner] = []

    def is_alive(owner: JobOwner) -> bool:
        asked.append(owner)
        return True

    assert stop(is_alive, grace_s=0.0)[0] == []
    task = asdict(run.task)
    assert asked == [JobOwner(*(task[name] for name in ("dag_id", "run_id", "task_id", "map_index", "max_tries")))]
