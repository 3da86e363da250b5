"""The operator against a stand-in for Ray's job API."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from dags.operators import ray_job
from dags.operators.ray_job import RayJobOperator, submission_stem
from dags.operators.ray_jobs_api import RayAddress, RayJobsApi
from schemas.job_log import RUN_VARIABLE
from schemas.settings import IngestSettings, check_settings, read_settings
from tests.dags.operators.ray_stand_in import RayStandIn, StandInJob

CORPUS = Asset("corpus")


@dataclass(frozen=True)
class Task:
    """What the operator reads of a task instance."""

    dag_id: str = "ingest_corpus"
    run_id: str = "manual__2026-01-01T00:00:00+00:00"
    task_id: str = "ingest"
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 2


@dataclass
class Run:
    """A stand-in cluster, an operator for it, and one task instance."""

    ray: RayStandIn
    folder: Path
    context: dict[str, Any]
    task: Task = field(default_factory=Task)

    @property
    def stem(self) -> str:
        return submission_stem(self.task)

    def name_of(self, task: Task) -> str:
        """The name of the run that the latest job of a task, which fails, has in its environment."""
        self.ray.course = ["FAILED"]
        with pytest.raises(AirflowException, match="failed"):
            self.operator().execute({**self.context, "ti": task})
        return list(self.ray.jobs.values())[-1].environment[RUN_VARIABLE]

    def operator(self, **changes: Any) -> RayJobOperator:
        values: dict[str, Any] = {
            "task_id": "ingest",
            "job": "ingest",
            "settings": str(self.folder / "ingest.yaml"),
            "settings_class": IngestSettings,
            "results": str(self.folder / "results"),
            "poll_s": 0.02,
            "patience_s": 20.0,
        }
        return RayJobOperator(**values | changes)

    def write_result(self, attempt: int = 1) -> None:
        (self.folder / "results").mkdir(exist_ok=True)
        result = {"store": "/store", "clips": 8, "batches": ["a", "b"], "rejects": {"no-face": 1}}
        (self.folder / "results" / f"{self.stem}.a{attempt}.json").write_text(json.dumps(result))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    (tmp_path / "ingest.yaml").write_text("store: /store\nsources: [/footage]\n")
    task = Task()
    with RayStandIn() as ray:
        monkeypatch.setattr(ray_job, "ray_address", lambda _: RayAddress(ray.url))
        yield Run(ray, tmp_path, {"ti": task, "outlet_events": {CORPUS: SimpleNamespace(extra={})}}, task)


def test_a_job_is_submitted_followed_and_its_result_returned(run: Run) -> None:
    run.write_result()
    result = run.operator().execute(run.context)
    assert result == {"store": "/store", "clips": 8, "batches": 2, "rejects": {"no-face": 1}}
    assert list(run.ray.jobs) == [f"{run.stem}.a1"]
    command = run.ray.jobs[f"{run.stem}.a1"].entrypoint
    assert command == f"python -m ray_jobs.ingest --settings {run.folder}/ingest.yaml --result {run.folder}/results/{run.stem}.a1.json"


def test_paths_with_spaces_are_one_word_of_the_command(run: Run) -> None:
    folder = run.folder / "my results"
    folder.mkdir()
    with pytest.raises(AirflowException, match="cannot be read"):
        run.operator(results=str(folder)).execute(run.context)
    assert f"'{folder}/{run.stem}.a1.json'" in run.ray.jobs[f"{run.stem}.a1"].entrypoint


def test_overrides_give_the_job_a_copy_of_its_settings(run: Run) -> None:
    run.write_result()
    run.operator(overrides={"sources": ["/other"]}).execute(run.context)
    copy = run.folder / "results" / f"{run.stem}.a1.settings.yaml"
    assert f"--settings {copy} --result" in run.ray.jobs[f"{run.stem}.a1"].entrypoint
    copied = check_settings(IngestSettings, read_settings(str(copy)))
    assert copied == IngestSettings(store="/store", sources=("/other",))


def test_without_a_file_the_overrides_are_all(run: Run) -> None:
    run.write_result()
    run.operator(settings=None, overrides={"store": "/store", "sources": ["/other"]}).execute(run.context)
    copied = check_settings(IngestSettings, read_settings(f"{run.folder}/results/{run.stem}.a1.settings.yaml"))
    assert copied == IngestSettings(store="/store", sources=("/other",))
    with pytest.raises(AirflowFailException, match="ingest: These settings cannot be used: store is not given"):
        run.operator(settings=None).execute(run.context)


def test_overrides_that_are_no_settings_fail_at_once(run: Run) -> None:
    with pytest.raises(AirflowFailException, match="source is no setting"):
        run.operator(overrides={"source": "/other"}).execute(run.context)
    assert not run.ray.requests


def test_the_outlet_asset_event_carries_the_counts(run: Run) -> None:
    run.write_result()
    run.operator(outlets=[CORPUS]).execute(run.context)
    assert run.context["outlet_events"][CORPUS].extra["clips"] == 8


def test_log_lines_come_once_each_into_the_task_log(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write_result()
    run.ray.logs = "progress 1/2\nprogress 2/2\nhalf a li"
    said: list[str] = []
    monkeypatch.setattr(RayJobOperator, "log", SimpleNamespace(info=lambda text, *values: said.append(text % values), warning=said.append))
    run.operator().execute(run.context)
    assert [line for line in said if line.startswith(("progress", "half"))] == ["progress 1/2", "progress 2/2", "half a li"]


def test_a_retry_follows_the_job_that_runs(run: Run) -> None:
    run.write_result()
    submitted = run.stem + ".a1"
    run.ray.jobs[submitted] = _job(["RUNNING", "RUNNING", "SUCCEEDED"])
    run.operator().execute(run.context)
    assert list(run.ray.jobs) == [submitted]
    assert "POST /api/jobs/" not in run.ray.requests


def test_a_retry_takes_the_result_of_a_job_that_succeeded_meanwhile(run: Run) -> None:
    run.write_result()
    run.ray.jobs[f"{run.stem}.a1"] = _job(["SUCCEEDED"])
    assert run.operator().execute(run.context)["clips"] == 8
    assert "POST /api/jobs/" not in run.ray.requests


@pytest.mark.parametrize("ended", ["FAILED", "STOPPED"])
def test_a_retry_after_a_failed_job_takes_the_next_id(run: Run, ended: str) -> None:
    run.write_result(attempt=2)
    run.ray.jobs[f"{run.stem}.a1"] = _job([ended])
    run.operator().execute(run.context)
    assert list(run.ray.jobs) == [f"{run.stem}.a1", f"{run.stem}.a2"]


def test_attempts_share_the_name_of_a_run_and_a_clear_or_another_dag_run_has_its_own(run: Run) -> None:
    first = run.name_of(run.task)
    assert run.name_of(replace(run.task, try_number=2)) == first
    assert len(run.ray.jobs) == 2
    cleared = run.name_of(replace(run.task, max_tries=5))
    next_run = run.name_of(replace(run.task, run_id="asset_triggered__2026-01-02T00:00:00+00:00"))
    assert len({first, cleared, next_run}) == 3


def test_a_job_that_prints_nothing_is_asked_for_its_log_less_and_less_often(run: Run) -> None:
    run.write_result()
    run.ray.course = ["RUNNING"] * 40 + ["SUCCEEDED"]
    run.operator().execute(run.context)
    looks = run.ray.requests
    assert sum(request.endswith("/logs") for request in looks) < 12
    assert len(looks) - sum(request.endswith("/logs") for request in looks) > 40  # its status is looked at as before


def test_a_long_log_is_read_less_often_and_whole_in_the_end() -> None:
    log = ray_job._JobLog(cast(RayJobsApi, _Logs(["a\n" * 50_000] * 2 + ["a\n" * 50_001])), "job", poll_s=0.01)
    assert len(log.new_lines(is_over=False)) == 50_000
    time.sleep(0.05)
    assert log.new_lines(is_over=False) == []  # too early: no look
    time.sleep(1)
    assert log.new_lines(is_over=False) == []  # nothing new
    assert log.new_lines(is_over=True) == ["a"]


def test_a_failed_job_raises_its_own_sentence_and_last_lines(run: Run) -> None:
    run.ray.course, run.ray.message = ["RUNNING", "FAILED"], "Job entrypoint command failed with exit code 1"
    run.ray.logs = "progress 1/2\nerror The store /store cannot be written: no space left.\n"
    with pytest.raises(AirflowException) as caught:
        run.operator().execute(run.context)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"Ray job {run.stem}.a1 failed: The store /store cannot be written: no space left."
    assert lines[-2:] == ["progress 1/2", "error The store /store cannot be written: no space left."]


def test_a_failed_job_without_a_sentence_gives_rays_and_its_last_line(run: Run) -> None:
    run.ray.course = ["FAILED"]
    run.ray.message = "Job entrypoint command failed with exit code 1, last available logs (truncated to 20,000 chars):\nmore"
    run.ray.logs = "Traceback (most recent call last):\nZeroDivisionError: division by zero\n"
    with pytest.raises(AirflowException, match="failed with exit code 1; the last line of its log is: ZeroDivisionError: division by zero\n"):
        run.operator().execute(run.context)


def test_an_answer_of_error_to_a_job_that_was_taken_does_no_harm(run: Run) -> None:
    run.write_result()
    run.ray.submit_answers_error = True
    assert run.operator().execute(run.context)["clips"] == 8
    assert run.ray.requests.count("POST /api/jobs/") == 1


def test_a_head_that_is_away_for_a_while_is_waited_for(run: Run) -> None:
    run.write_result()
    run.ray.broken_answers = 2
    assert run.operator().execute(run.context)["clips"] == 8


def test_a_refused_connection_is_waited_for(run: Run) -> None:
    run.write_result()
    run.ray.server.shutdown()
    run.ray.server.server_close()
    threading.Timer(1.0, run.ray.__enter__).start()
    assert run.operator().execute(run.context)["clips"] == 8


def test_a_head_that_stays_away_fails_in_one_sentence(run: Run) -> None:
    run.ray.broken_answers = 10_000
    with pytest.raises(AirflowException, match=r"did not answer for 1 s \(the head is starting\)\.$"):
        run.operator(patience_s=1.0).execute(run.context)


def test_a_job_that_the_head_has_forgotten_is_submitted_again_by_the_retry(run: Run) -> None:
    run.ray.course = ["RUNNING"]
    run.ray.on_submit = lambda _: threading.Timer(0.3, run.ray.jobs.clear).start()
    with pytest.raises(AirflowException, match="no longer knows job"):
        run.operator().execute(run.context)
    run.ray.course, run.ray.on_submit = ["SUCCEEDED"], lambda _: None
    run.write_result()
    assert run.operator().execute(run.context)["clips"] == 8


def test_bad_settings_fail_at_once_without_a_job_or_a_retry(run: Run) -> None:
    (run.folder / "ingest.yaml").write_text("stoer: /store\n")
    with pytest.raises(AirflowFailException, match="stoer"):
        run.operator().execute(run.context)
    assert not run.ray.requests


def test_missing_settings_say_so(run: Run) -> None:
    with pytest.raises(AirflowFailException, match="is not there"):
        run.operator(settings=str(run.folder / "nowhere.yaml")).execute(run.context)


def test_the_token_is_sent_and_never_printed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write_result()
    run.ray.token = "swordfish"
    address = RayAddress(run.ray.url, "swordfish")
    monkeypatch.setattr(ray_job, "ray_address", lambda _: address)
    assert run.operator().execute(run.context)["clips"] == 8
    assert "swordfish" not in repr(address)


def test_a_refused_token_is_one_sentence_and_not_waited_for(run: Run) -> None:
    run.ray.token = "swordfish"
    before = time.monotonic()
    with pytest.raises(AirflowException, match="refuses the token"):
        run.operator().execute(run.context)
    assert time.monotonic() - before < 5


def test_on_kill_stops_the_job(run: Run) -> None:
    run.ray.course = ["RUNNING"]
    operator = run.operator()
    run.ray.on_submit = lambda _: threading.Timer(0.3, operator.on_kill).start()
    with pytest.raises(AirflowException, match="was stopped before its end"):
        operator.execute(run.context)
    assert run.ray.stopped == [f"{run.stem}.a1"]


def test_on_kill_without_a_job_does_nothing(run: Run) -> None:
    run.operator().on_kill()
    assert not run.ray.requests


def test_the_submission_id_stays_over_retries_and_changes_with_everything_else() -> None:
    task = Task()
    assert submission_stem(replace(task, try_number=2)) == submission_stem(task)
    others = [replace(task, max_tries=5), replace(task, run_id="other"), replace(task, map_index=3), replace(task, task_id="t"), replace(task, dag_id="d")]
    assert len({submission_stem(other) for other in [task, *others]}) == len(others) + 1


def test_the_submission_id_fits_file_names_and_urls() -> None:
    stem = submission_stem(Task(dag_id="d/" + "x" * 200, run_id="scheduled__2026-01-01T00:00:00+00:00 ü"))
    assert len(stem) < 120
    assert set(stem) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


@pytest.mark.parametrize(
    ("connection", "url", "token"),
    [
        ("http://ray-head:8265", "http://ray-head:8265", None),
        ("https://:secret@ray.example.org", "https://ray.example.org", "secret"),
        ('{"conn_type": "http", "host": "ray-head", "port": 8265, "password": "t"}', "http://ray-head:8265", "t"),
        ('{"conn_type": "http", "host": "https://ray.example.org/base"}', "https://ray.example.org/base", None),
    ],
)
def test_the_address_comes_from_the_airflow_connection(monkeypatch: pytest.MonkeyPatch, connection: str, url: str, token: str | None) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_RAY_TEST", connection)
    assert ray_job.ray_address("ray_test") == RayAddress(url, token)


class _Logs:
    """Gives one text after another as the log of a job."""

    def __init__(self, texts: list[str]) -> None:
        self._texts = iter(texts)

    def logs(self, _: str) -> str:
        return next(self._texts)


def _job(statuses: list[str]) -> StandInJob:
    return StandInJob("python", statuses)
