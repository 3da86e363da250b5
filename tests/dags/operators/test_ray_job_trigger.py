"""The trigger against a stand-in for Ray's job API, run by Airflow's own runner where that matters."""

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.jobs.triggerer_job_runner import _USER_ACTION_CANCEL_MSG, TriggerRunner

from dags.operators import ray_job_trigger
from dags.operators.ray_job_trigger import RayJobTrigger
from tests.dags.operators.one_task import Run, fired
from tests.dags.operators.ray_stand_in import StandInJob


@pytest.fixture
def job(run: Run) -> StandInJob:
    """A job that runs, submitted by the operator, with nothing said so far."""
    run.ray.course = ["RUNNING"]
    run.deferral()
    run.said.clear()
    return run.ray.jobs[f"{run.stem}.a1"]


def test_the_end_of_a_job_fires_with_its_status_and_rays_first_line(run: Run) -> None:
    run.ray.course, run.ray.message = ["RUNNING", "FAILED"], "exit code 1\nand more"
    event = asyncio.run(fired(run.trigger()))
    assert event == {"submission_id": f"{run.stem}.a1", "status": "FAILED", "message": "exit code 1"}


def test_a_trigger_holds_what_a_database_can_and_is_made_of_it_again(run: Run, job: StandInJob) -> None:
    path, values = run.deferral().trigger.serialize()
    assert path == "dags.operators.ray_job_trigger.RayJobTrigger"
    again = RayJobTrigger(**json.loads(json.dumps(values)))
    assert again.serialize() == (path, values)
    assert values["connection_id"] == "ray_default"


def test_log_lines_come_once_each_into_the_task_log(run: Run) -> None:
    run.ray.course, run.ray.logs = ["RUNNING", "RUNNING", "SUCCEEDED"], "progress 1/2\nprogress 2/2\nhalf a li"
    asyncio.run(fired(run.trigger()))
    assert run.said[-3:] == ["progress 1/2", "progress 2/2", "half a li"]
    assert len([line for line in run.said if line.startswith("progress")]) == 2


def test_progress_is_noted_where_people_see_it(run: Run, job: StandInJob) -> None:
    async def follow() -> None:
        following = asyncio.create_task(fired(run.trigger()))
        job.logs = "starting\nprogress 3/10 clips\nwarming up\n"
        await until(lambda: run.task.xcoms["ray_job"]["log_bytes"] > 0)
        job.logs += "still warming up\n"
        await until(lambda: run.task.xcoms["ray_job"]["log_bytes"] == len(job.logs))
        following.cancel()

    asyncio.run(follow())
    assert run.task.xcoms["ray_job"] == {"submission_id": f"{run.stem}.a1", "progress": "3/10 clips", "log_bytes": len(job.logs)}


def test_a_restarted_triggerer_goes_on_with_the_log_and_leaves_the_job_alone(run: Run, job: StandInJob) -> None:
    async def ended_and_begun_again() -> None:
        first = asyncio.create_task(fired(run.trigger()))
        job.logs = "one\nprogress 2/4\n"
        await until(lambda: run.task.xcoms["ray_job"]["log_bytes"] > 0)
        first.cancel()  # as when a triggerer stops: no message, no on_kill
        job.logs += "three\n"
        second = asyncio.create_task(fired(run.trigger()))
        await until(lambda: "three" in run.said)
        job.logs, job.statuses = job.logs + "four\n", ["SUCCEEDED"]
        assert (await second)["status"] == "SUCCEEDED"

    asyncio.run(ended_and_begun_again())
    assert run.said == ["one", "progress 2/4", "three", "four"]
    assert run.task.xcoms["ray_job"]["progress"] == "2/4"
    assert not run.ray.stopped
    assert len(run.ray.jobs) == 1


def test_a_note_about_another_job_is_not_taken_for_this_ones(run: Run, job: StandInJob) -> None:
    run.task.xcoms["ray_job"] = {"submission_id": "another", "progress": "", "log_bytes": 4}
    job.logs, job.statuses = "one\ntwo\n", ["SUCCEEDED"]
    asyncio.run(fired(run.trigger()))
    assert run.said[-2:] == ["one", "two"]


@pytest.mark.parametrize("answer_takes_s", [0.0, 0.5], ids=["between two looks", "in the middle of one"])
def test_a_person_who_acts_on_the_deferred_task_stops_the_job(run: Run, job: StandInJob, answer_takes_s: float) -> None:
    run.ray.stop_takes_s = 0.5

    async def cleared() -> None:
        running = in_triggerer(run.trigger(poll_s=30.0 if not answer_takes_s else 0.02))
        await until(lambda: run.ray.requests[-1].startswith("GET /api/v0/logs"))
        run.ray.answer_takes_s = answer_takes_s
        await asyncio.sleep(0.3)
        running.cancel(_USER_ACTION_CANCEL_MSG)
        await asyncio.wait([running])

    asyncio.run(cleared())
    assert job.look() == "STOPPED"
    assert run.said[-1] == f"Ray job {run.stem}.a1 is over: stopped."


def test_the_end_of_a_triggerer_stops_no_job(run: Run, job: StandInJob) -> None:
    async def ended() -> None:
        running = in_triggerer(run.trigger())
        await until(lambda: run.ray.requests[-1].startswith("GET /api/v0/logs"))
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(ended())
    assert not run.ray.stopped


def test_a_job_that_does_not_stop_is_not_waited_for_beyond_airflows_limit(run: Run, job: StandInJob, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ray_job_trigger.STOP_LIMIT_S < 30
    monkeypatch.setattr(ray_job_trigger, "STOP_LIMIT_S", 0.5)
    run.ray.stop_takes_s = 60.0
    before = time.monotonic()
    asyncio.run(run.trigger().on_kill())
    assert time.monotonic() - before < 5
    assert "has not stopped within" in run.said[-1]


def test_the_time_limit_stops_the_job_and_waits_until_it_has_stopped(run: Run, job: StandInJob) -> None:
    run.ray.stop_takes_s = 0.5
    event = asyncio.run(fired(run.trigger(run.deferral(execution_timeout=timedelta(seconds=0.3)))))
    assert event["status"] == "TIMED_OUT"
    assert job.look() == "STOPPED"


def test_the_time_limit_goes_on_while_no_triggerer_runs(run: Run, job: StandInJob) -> None:
    event = asyncio.run(fired(run.trigger(ends_s=time.time() - 60)))
    assert event["status"] == "TIMED_OUT"
    assert job.look() == "STOPPED"


def test_a_head_that_is_away_is_waited_for_with_one_sentence(run: Run, job: StandInJob) -> None:
    run.ray.broken_answers, job.statuses = 4, ["SUCCEEDED"]
    assert asyncio.run(fired(run.trigger()))["status"] == "SUCCEEDED"
    assert [line.partition(" does not")[0].partition(" answers")[0] for line in run.said] == [f"Ray at {run.ray.url}"] * 2


def test_a_head_that_stays_away_is_told_of_and_no_job_is_stopped(run: Run, job: StandInJob) -> None:
    run.ray.broken_answers = 10_000
    event = asyncio.run(fired(run.trigger(patience_s=0.5)))
    assert event["status"] == "AWAY"
    assert event["message"].endswith("did not answer for 0 s (the head is starting).")
    assert not run.ray.stopped


def test_a_404_of_a_proxy_is_no_lost_job(run: Run, job: StandInJob, monkeypatch: pytest.MonkeyPatch) -> None:
    told = run.ray._about
    answers = iter([(404, "default backend - 404")] * 2)
    monkeypatch.setattr(run.ray, "_about", lambda parts: next(answers, None) or told(parts))
    job.statuses = ["SUCCEEDED"]
    assert asyncio.run(fired(run.trigger()))["status"] == "SUCCEEDED"


def test_a_token_that_was_changed_meanwhile_is_read_anew(run: Run, job: StandInJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(token: str) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_RAY_DEFAULT", json.dumps({"conn_type": "http", "host": "127.0.0.1", "port": run.ray.port, "password": token}))

    async def rotated() -> dict[str, Any]:
        connect("old")
        run.ray.token = "old"
        following = asyncio.create_task(fired(run.trigger()))
        await until(lambda: len(run.ray.requests) > 5)
        connect("new")
        run.ray.token = "new"
        count = len(run.ray.requests)
        await until(lambda: len(run.ray.requests) > count + 3)
        job.statuses = ["SUCCEEDED"]
        return await following

    assert asyncio.run(rotated())["status"] == "SUCCEEDED"


def test_a_token_is_changed_in_the_order_that_the_page_on_operations_gives(
    run: Run, job: StandInJob, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (repository / "docs" / "operations.md").read_text(encoding="utf-8")
    assert "stop Ray, write the file on every node, edit the connection, start Ray." in page

    def connect(token: str) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_RAY_DEFAULT", json.dumps({"conn_type": "http", "host": "127.0.0.1", "port": run.ray.port, "password": token}))

    async def rotated() -> dict[str, Any]:
        connect("old")
        run.ray.token = "old"
        following = asyncio.create_task(fired(run.trigger()))
        await until(lambda: len(run.ray.requests) > 3)
        run.ray.broken_answers = 10_000  # Ray is stopped
        run.ray.token = "new"
        await until(lambda: any("does not answer" in line for line in run.said))
        connect("new")
        run.ray.restart_and_forget()
        run.ray.broken_answers = 0
        return await following

    assert asyncio.run(rotated())["status"] == "LOST", "which is retried, with a new job"


def test_a_fresh_job_is_looked_at_often_and_an_old_one_seldom(run: Run, job: StandInJob) -> None:
    now = time.time()

    def pause_s(age_s: float) -> float:
        return run.trigger(began_s=now - age_s, poll_s=1.0)._pause_s()

    assert 0.8 < pause_s(0) < 1.2
    assert 5 < pause_s(60) < 7
    assert 26 < pause_s(3600) < 34


def test_a_long_log_is_not_fetched_at_each_look(run: Run, job: StandInJob) -> None:
    job.logs = "".join(f"line {number}\n" for number in range(5_000))

    async def follow() -> None:
        following = asyncio.create_task(fired(run.trigger()))
        for number in range(20):
            await asyncio.sleep(0.05)
            job.logs += f"more {number}\n"
        job.statuses = ["SUCCEEDED"]
        await following

    asyncio.run(follow())
    assert run.said[-20:] == [f"more {number}" for number in range(20)]
    assert run.ray.log_bytes < 2 * len(job.logs)


def test_a_log_that_is_gone_at_the_end_is_told_of(run: Run, job: StandInJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run.ray, "_log", lambda _: (500, "the node has died"))
    job.statuses = ["SUCCEEDED"]
    assert asyncio.run(fired(run.trigger()))["status"] == "SUCCEEDED"
    assert run.said[-1] == f"The rest of the log of Ray job {run.stem}.a1 cannot be read."


def in_triggerer(trigger: RayJobTrigger) -> "asyncio.Task[None]":
    """The trigger as Airflow's triggerer runs it."""
    runner = TriggerRunner()
    runner.triggers[1] = {"name": "trigger", "events": 0, "is_watcher": False, "task": None}  # type: ignore[typeddict-item]
    return asyncio.create_task(runner.run_trigger(1, trigger, timeout_after=datetime.now(UTC) + timedelta(hours=1)))


async def until(is_so: Callable[[], bool], limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
