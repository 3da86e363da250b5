"""The operator against a stand-in for Ray's job API."""

import asyncio
import json
import threading
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTimeout, TaskDeferralError

from dags.operators import ray_job
from dags.operators.job_owner import DEPLOYMENT_VARIABLE
from dags.operators.ray_job import submission_stem
from schemas.job_log import CLUSTER_PYTHON_VARIABLE, DAG_RUN_VARIABLE, RUN_VARIABLE, SUBMISSION_VARIABLE
from schemas.settings import IngestSettings, check_settings, read_settings
from tests.dags.operators.one_task import CORPUS, Run, Task, fired
from tests.dags.operators.ray_stand_in import StandInJob

RESULT = {"store": "/store", "clips": 8, "batches": 2, "rejects": {"no-face": 1}}


def test_a_job_is_submitted_followed_and_its_result_returned(run: Run) -> None:
    run.write_result()
    assert run.to_end() == RESULT
    assert list(run.ray.jobs) == [f"{run.stem}.a1"]
    command = run.ray.jobs[f"{run.stem}.a1"].entrypoint
    assert command == f"python -m ray_jobs.ingest --settings {run.folder}/ingest.yaml --result {run.folder}/results/{run.stem}.a1.json"


def test_a_job_knows_its_task_its_submission_and_its_run(run: Run) -> None:
    run.deferral()
    job = run.ray.jobs[f"{run.stem}.a1"]
    assert job.environment == {
        RUN_VARIABLE: run.stem,
        SUBMISSION_VARIABLE: f"{run.stem}.a1",
        DAG_RUN_VARIABLE: "ingest_corpus/manual__2026-01-01T00:00:00+00:00/ingest",
    }
    assert {**job.metadata, "airflow": ""} == {
        "dag_id": "ingest_corpus",
        "run_id": "manual__2026-01-01T00:00:00+00:00",
        "task_id": "ingest",
        "map_index": "-1",
        "max_tries": "2",
        "airflow": "",
    }


def test_jobs_run_in_the_code_of_the_image_unless_a_working_directory_is_set(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.deferral()
    monkeypatch.setenv(ray_job.WORKING_DIR_VARIABLE, "file:///code.zip")
    run.deferral({**run.context, "ti": replace(run.task, run_id="another")})
    first, second = run.ray.jobs.values()
    assert "working_dir" not in first.runtime_env
    assert second.runtime_env["working_dir"] == "file:///code.zip"


def test_an_empty_name_of_the_clusters_python_is_none(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CLUSTER_PYTHON_VARIABLE, "")
    run.deferral()
    assert run.ray.jobs[f"{run.stem}.a1"].entrypoint.startswith("python -m ray_jobs.ingest ")


def test_paths_with_spaces_are_one_word_of_the_command(run: Run) -> None:
    folder = run.folder / "my results"
    folder.mkdir()
    with pytest.raises(AirflowException, match="cannot be read"):
        run.to_end(results=str(folder))
    assert f"'{folder}/{run.stem}.a1.json'" in run.ray.jobs[f"{run.stem}.a1"].entrypoint


def test_overrides_give_the_job_a_copy_of_its_settings(run: Run) -> None:
    run.write_result()
    run.to_end(overrides={"sources": ["/other"]})
    copy = run.folder / "results" / f"{run.stem}.a1.settings.yaml"
    assert f"--settings {copy} --result" in run.ray.jobs[f"{run.stem}.a1"].entrypoint
    copied = check_settings(IngestSettings, read_settings(str(copy)))
    assert copied == IngestSettings(store="/store", sources=("/other",))


def test_without_a_file_the_overrides_are_all(run: Run) -> None:
    run.write_result()
    run.to_end(settings=None, overrides={"store": "/store", "sources": ["/other"]})
    copied = check_settings(IngestSettings, read_settings(f"{run.folder}/results/{run.stem}.a1.settings.yaml"))
    assert copied == IngestSettings(store="/store", sources=("/other",))
    with pytest.raises(AirflowFailException, match="ingest: These settings cannot be used: store is not given"):
        run.to_end(settings=None)


def test_overrides_that_are_no_settings_fail_at_once(run: Run) -> None:
    with pytest.raises(AirflowFailException, match="source is no setting"):
        run.to_end(overrides={"source": "/other"})
    assert not run.ray.requests


def test_the_outlet_asset_event_carries_the_counts(run: Run) -> None:
    run.write_result()
    run.to_end(outlets=[CORPUS])
    assert run.context["outlet_events"][CORPUS].extra["clips"] == 8


def test_a_retry_follows_the_job_that_runs(run: Run) -> None:
    run.write_result()
    submitted = run.stem + ".a1"
    run.ray.jobs[submitted] = _job(["RUNNING", "RUNNING", "SUCCEEDED"])
    assert run.to_end() == RESULT
    assert list(run.ray.jobs) == [submitted]
    assert "POST /api/jobs/" not in run.ray.requests


def test_a_retry_takes_the_result_of_a_job_that_succeeded_meanwhile_without_a_deferral(run: Run) -> None:
    run.write_result()
    run.ray.jobs[f"{run.stem}.a1"] = _job(["SUCCEEDED"])
    assert run.operator().execute(run.context)["clips"] == 8
    assert "POST /api/jobs/" not in run.ray.requests


@pytest.mark.parametrize("ended", ["FAILED", "STOPPED"])
def test_a_retry_after_a_failed_job_takes_the_next_id(run: Run, ended: str) -> None:
    run.write_result(attempt=2)
    run.ray.jobs[f"{run.stem}.a1"] = _job([ended])
    run.to_end()
    assert list(run.ray.jobs) == [f"{run.stem}.a1", f"{run.stem}.a2"]


def test_a_job_that_a_restarted_head_has_forgotten_fails_in_one_sentence_and_its_retry_takes_the_next_id(run: Run) -> None:
    run.ray.course = ["RUNNING"]
    deferral = run.deferral()
    run.ray.restart_and_forget()
    event = asyncio.run(fired(run.trigger(deferral)))
    with pytest.raises(AirflowException, match=r"^Ray no longer knows job \S+: its head was restarted; a retry submits it afresh\.$"):
        run.operator().resume(run.context, event)
    run.ray.course = ["SUCCEEDED"]
    run.write_result(attempt=2)
    assert run.to_end() == RESULT
    assert run.ray.submissions == {f"{run.stem}.a1": 1, f"{run.stem}.a2": 1}


def test_a_head_that_was_restarted_twice_never_sees_an_id_again(run: Run) -> None:
    run.ray.course = ["RUNNING"]
    for _ in range(3):
        run.deferral()
        run.ray.restart_and_forget()
    assert list(run.ray.submissions) == [f"{run.stem}.a{number}" for number in (1, 2, 3)]


def test_an_id_that_was_never_taken_is_used_by_the_retry(run: Run) -> None:
    run.ray.on_submit = lambda _: run.ray.jobs.clear()  # as if the process died before Ray had it
    run.ray.submit_answers_error = True
    with pytest.raises(AirflowException, match="did not answer"):
        run.operator(patience_s=0.5).execute(run.context)
    run.ray.on_submit, run.ray.submit_answers_error = lambda _: None, False
    run.write_result()
    assert run.to_end() == RESULT
    assert list(run.ray.jobs) == [f"{run.stem}.a1"]


def test_a_clear_begins_afresh_and_first_stops_the_job_of_before(run: Run) -> None:
    run.ray.course, run.ray.stop_takes_s = ["RUNNING"], 0.4
    run.deferral()
    was_over: list[bool] = []
    run.ray.on_submit = lambda _: was_over.append(run.ray.jobs[f"{run.stem}.a1"].look() == "STOPPED")
    cleared = replace(run.task, max_tries=5)
    run.deferral({**run.context, "ti": cleared})
    assert list(run.ray.jobs) == [f"{run.stem}.a1", f"{submission_stem(cleared)}.a1"]
    assert was_over == [True]


def test_attempts_share_the_name_of_a_run_and_a_clear_or_another_dag_run_has_its_own(run: Run) -> None:
    def name_of(task: Task) -> str:
        run.ray.course = ["FAILED"]
        with pytest.raises(AirflowException, match="failed"):
            run.to_end({**run.context, "ti": task})
        return list(run.ray.jobs.values())[-1].environment[RUN_VARIABLE]

    first = name_of(run.task)
    assert name_of(replace(run.task, try_number=2)) == first
    assert len(run.ray.jobs) == 2
    cleared = name_of(replace(run.task, max_tries=5))
    next_run = name_of(replace(run.task, run_id="asset_triggered__2026-01-02T00:00:00+00:00"))
    assert len({first, cleared, next_run}) == 3


def test_a_failed_job_raises_its_own_sentence_and_last_lines(run: Run) -> None:
    run.ray.course, run.ray.message = ["RUNNING", "FAILED"], "Job entrypoint command failed with exit code 1"
    run.ray.logs = "progress 1/2\nerror The store /store cannot be written: no space left.\n"
    with pytest.raises(AirflowException) as caught:
        run.to_end()
    lines = str(caught.value).splitlines()
    assert lines[0] == f"Ray job {run.stem}.a1 failed: The store /store cannot be written: no space left."
    assert lines[-2:] == ["progress 1/2", "error The store /store cannot be written: no space left."]


def test_a_failed_job_without_a_sentence_gives_rays_and_its_last_line(run: Run) -> None:
    run.ray.course = ["FAILED"]
    run.ray.message = "Job entrypoint command failed with exit code 1, last available logs (truncated to 20,000 chars):\nmore"
    run.ray.logs = "Traceback (most recent call last):\nZeroDivisionError: division by zero\n"
    with pytest.raises(AirflowException, match="failed with exit code 1; the last line of its log is: ZeroDivisionError: division by zero\n"):
        run.to_end()


def test_an_answer_of_error_to_a_job_that_was_taken_does_no_harm(run: Run) -> None:
    run.write_result()
    run.ray.submit_answers_error = True
    assert run.to_end()["clips"] == 8
    assert run.ray.requests.count("POST /api/jobs/") == 1


def test_a_head_that_is_away_for_a_while_is_waited_for_with_one_sentence(run: Run) -> None:
    run.write_result()
    run.ray.broken_answers = 3
    assert run.to_end()["clips"] == 8
    told = [line for line in run.said if line.startswith("Ray at ")]
    assert [line.partition("(")[0].rpartition(":")[0] or line for line in told]
    assert len(told) == 2
    assert "does not answer (the head is starting); it is waited for, 20 s at most." in told[0]
    assert "answers again after" in told[1]


def test_a_refused_connection_is_waited_for(run: Run) -> None:
    run.write_result()
    run.ray.server.shutdown()
    run.ray.server.server_close()
    threading.Timer(1.0, run.ray.__enter__).start()
    assert run.to_end()["clips"] == 8


def test_a_head_that_stays_away_fails_in_one_sentence(run: Run) -> None:
    run.ray.broken_answers = 10_000
    with pytest.raises(AirflowException, match=r"did not answer for 1 s \(the head is starting\)\.$"):
        run.to_end(patience_s=1.0)


def test_bad_settings_fail_at_once_without_a_job_or_a_retry(run: Run) -> None:
    (run.folder / "ingest.yaml").write_text("stoer: /store\n")
    with pytest.raises(AirflowFailException, match="stoer"):
        run.to_end()
    assert not run.ray.requests


def test_missing_settings_say_so(run: Run) -> None:
    with pytest.raises(AirflowFailException, match="is not there"):
        run.to_end(settings=str(run.folder / "nowhere.yaml"))


def test_settings_whose_place_is_away_are_tried_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("schemas.settings.fsspec.open", _refused)
    with pytest.raises(AirflowException, match="cannot be read: Connection refused") as caught:
        run.to_end()
    assert not isinstance(caught.value, AirflowFailException)


def test_a_refused_token_is_one_sentence_and_not_waited_for(run: Run) -> None:
    run.ray.token = "swordfish"
    before = time.monotonic()
    with pytest.raises(AirflowException, match="refuses the token"):
        run.to_end()
    assert time.monotonic() - before < 5


def test_the_token_is_sent_and_in_nothing_that_is_kept_or_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write_result()
    run.ray.token = "swordfish"
    monkeypatch.setenv("AIRFLOW_CONN_RAY_DEFAULT", json.dumps({"conn_type": "http", "host": "127.0.0.1", "port": run.ray.port, "password": "swordfish"}))
    deferral = run.deferral()
    event = asyncio.run(fired(run.trigger(deferral)))
    result = run.operator().resume(run.context, event)
    kept = [deferral.trigger.serialize(), repr(deferral.trigger), event, result, run.context["task_state_store"].values, run.task.xcoms, run.said]
    assert "swordfish" not in repr(kept)
    assert result["clips"] == 8


def test_on_kill_stops_the_job_and_waits_until_it_has_stopped(run: Run) -> None:
    run.ray.course, run.ray.stop_takes_s = ["RUNNING"], 0.5
    operator = run.operator()
    over: list[str] = []

    def kill() -> None:
        operator.on_kill()
        over.append(run.ray.jobs[f"{run.stem}.a1"].look())

    run.ray.on_submit = lambda _: kill()  # in the middle of the submission, as a signal would
    with pytest.raises(AirflowException, match="was stopped before its end"):
        operator.execute(run.context)
    assert run.ray.stopped
    assert set(run.ray.stopped) == {f"{run.stem}.a1"}
    assert over == ["STOPPED"]


def test_on_kill_does_not_wait_for_longer_than_airflow_lets_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_job, "STOP_PATIENCE_S", 0.5)
    run.ray.course, run.ray.stop_takes_s = ["RUNNING"], 60.0
    operator = run.operator()
    run.ray.on_submit = lambda _: operator.on_kill()
    before = time.monotonic()
    with pytest.raises(AirflowException, match="was stopped before its end"):
        operator.execute(run.context)
    assert time.monotonic() - before < 5
    assert any("has not stopped within" in line for line in run.said)


def test_on_kill_without_a_job_does_nothing_and_none_is_submitted_any_more(run: Run) -> None:
    operator = run.operator()
    operator.on_kill()
    assert not run.ray.requests
    with pytest.raises(AirflowException, match="was stopped before its end"):
        operator.execute(run.context)
    assert not run.ray.jobs


def test_the_time_limit_of_the_task_stops_the_job(run: Run) -> None:
    run.ray.course = ["RUNNING"]
    with pytest.raises(AirflowTaskTimeout, match="had not ended when its time was over"):
        run.to_end(execution_timeout=timedelta(seconds=0.5))
    assert run.ray.jobs[f"{run.stem}.a1"].look() == "STOPPED"


def test_a_deferral_that_airflow_itself_ends_stops_the_job_too(run: Run) -> None:
    run.ray.course = ["RUNNING"]
    deferral = run.deferral(execution_timeout=timedelta(seconds=60))
    assert deferral.timeout == timedelta(seconds=60) + ray_job.TIMEOUT_MARGIN
    with pytest.raises(AirflowTaskTimeout, match="had not ended"):
        run.operator().resume_execution("__fail__", {"error": "Trigger timeout"}, run.context)
    assert run.ray.jobs[f"{run.stem}.a1"].look() == "STOPPED"


def test_a_trigger_that_broke_leaves_the_job_to_the_retry(run: Run) -> None:
    run.ray.course = ["RUNNING"]
    run.deferral()
    with pytest.raises(TaskDeferralError):
        run.operator().resume_execution("__fail__", {"error": "Trigger failure", "traceback": ["boom"]}, run.context)
    assert not run.ray.stopped


def test_the_submission_id_stays_over_retries_and_changes_with_everything_else() -> None:
    task = Task()
    assert submission_stem(replace(task, try_number=2)) == submission_stem(task)
    others = [replace(task, max_tries=5), replace(task, run_id="other"), replace(task, map_index=3), replace(task, task_id="t"), replace(task, dag_id="d")]
    assert len({submission_stem(other) for other in [task, *others]}) == len(others) + 1


def test_two_airflows_on_one_ray_do_not_take_each_others_jobs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.ray.course = ["RUNNING"]
    for name in ("production", "staging", "production"):
        monkeypatch.setenv(DEPLOYMENT_VARIABLE, name)
        run.context["task_state_store"].values.clear()  # each Airflow has a database of its own
        run.deferral()
    production, staging = run.ray.jobs.items()
    assert production[0] != staging[0]
    assert [job.metadata["airflow"] for _, job in (production, staging)] == ["production", "staging"]
    assert (list(run.ray.submissions.values()), run.ray.stopped) == ([1, 1], [])


def test_the_submission_id_fits_file_names_and_urls() -> None:
    stem = submission_stem(Task(dag_id="d/" + "x" * 200, run_id="scheduled__2026-01-01T00:00:00+00:00 ü"))
    assert len(stem) < 120
    assert set(stem) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def _refused(*_: object, **__: object) -> Any:
    raise ConnectionRefusedError("Connection refused")


def _job(statuses: list[str]) -> StandInJob:
    return StandInJob("python", statuses)
