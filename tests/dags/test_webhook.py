"""Who is told of what fails, and that nothing else depends on it."""

import asyncio
import logging
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag

from dags import webhook
from dags.defaults import deadline_of
from dags.webhook import WEBHOOK_VARIABLE, Told, post, tell_of_delay, tell_of_failure
from tests.dags.operators.ray_stand_in import RayStandIn
from tests.dags.webhook_stand_in import SECRET, WebhookStandIn

TOLD = Told("task-failed", "It failed.", "a_dag", "a run", "a_task", None, 1, "It failed.", "http://127.0.0.1/")


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebhookStandIn]:
    with WebhookStandIn() as hook:
        monkeypatch.setenv(WEBHOOK_VARIABLE, hook.url)
        yield hook


@pytest.fixture
def ingest(database: None, repository: Path) -> Any:
    return DagBag(str(repository / "dags" / "ingest_corpus.py")).dags["ingest_corpus"]


def state_of_a_run(dag: Any, settings: Path) -> str:
    return str(dag.test(run_conf={"settings": str(settings)}).state)


def test_a_task_that_fails_is_told_once_after_its_last_try(
    ingest: Any, hook: WebhookStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump({"store": "/store", "sources": ["/a", "/b"]}))
    quick = {"retries": 1, "retry_delay": timedelta(seconds=0.1), "results": str(tmp_path), "poll_s": 0.02}
    monkeypatch.setattr(ingest.get_task("ingest"), "partial_kwargs", {**ingest.get_task("ingest").partial_kwargs, **quick})
    with RayStandIn(course=["FAILED"], logs="a line\nerror s3://key:password@bucket/x cannot be read.\n") as ray:
        monkeypatch.setenv("AIRFLOW_CONN_RAY_DEFAULT", ray.url)
        assert state_of_a_run(ingest, settings) == "failed"
        assert len(ray.jobs) == 4
    assert sorted((told["task"], told["map_index"], told["attempt"]) for told in hook.told) == [("ingest", 0, 2), ("ingest", 1, 2)]
    told = hook.told[0]
    assert (told["event"], told["dag"], told["content-type"]) == ("task-failed", "ingest_corpus", "application/json")
    assert told["error"].endswith("failed: s3://bucket/x cannot be read.")
    assert told["text"] == f"ingest_corpus: ingest[{told['map_index']}] failed in run {told['run']}: {told['error']}"
    assert told["log_url"].endswith(f"/tasks/ingest/mapped/{told['map_index']}?try_number=2")
    assert SECRET not in "".join(capfd.readouterr())


def test_a_webhook_that_is_down_changes_nothing(
    ingest: Any, hook: WebhookStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    hook.__exit__()
    assert state_of_a_run(ingest, tmp_path / "no settings.yaml") == "failed"
    said = "".join(capfd.readouterr())
    assert "The failure webhook could not be told: ConnectError." in said
    assert "Failed to run task callback" not in said, "Airflow would show what it caught, and the URL with it"
    assert SECRET not in said


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("down", "could not be told: ConnectError."),
        ("refuses", "did not take it: it answers with status 403."),
        ("hangs", "could not be told: TimeoutError."),
        ("no URL", "could not be told: UnsupportedProtocol."),
        ("no host", "could not be told: InvalidURL."),
    ],
)
def test_what_is_wrong_with_a_webhook_is_said_without_its_url(
    hook: WebhookStandIn, fault: str, said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(webhook, "TIMEOUT_S", 0.3 if fault == "hangs" else 30.0)
    hook.status, hook.silent_s = (403 if fault == "refuses" else 200), (20.0 if fault == "hangs" else 0.0)
    if fault == "down":
        hook.__exit__()
    if fault.startswith("no "):
        monkeypatch.setenv(WEBHOOK_VARIABLE, f"hooks.example/{SECRET}" if fault == "no URL" else f"http://:{SECRET}:99999999/")
    began = time.monotonic()
    asyncio.run(post(TOLD))
    assert time.monotonic() - began < 15.0
    assert f"The failure webhook {said}" in caplog.text
    assert SECRET not in caplog.text


def test_nothing_is_logged_of_the_url_at_any_level(hook: WebhookStandIn, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.run(post(TOLD))
    assert len(hook.told) == 1
    assert SECRET not in caplog.text


def test_nobody_is_told_where_there_is_no_webhook(hook: WebhookStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WEBHOOK_VARIABLE)
    asyncio.run(post(TOLD))
    assert hook.told == []


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError(), "ValueError"),
        (None, "Its process ended without a word."),
        (ValueError("x" * 5000), "x" * 1000),
    ],
)
def test_an_error_is_told_in_one_sentence(hook: WebhookStandIn, error: object, told: str) -> None:
    instance = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=3, log_url="http://127.0.0.1/")
    tell_of_failure({"ti": instance, "exception": error})
    assert (hook.told[0]["error"], hook.told[0]["map_index"], hook.told[0]["attempt"]) == (told, None, 3)


def run_of(state: str) -> dict[str, Any]:
    """The context of a deadline's callback, as Airflow gives it."""
    return {"dag_run": {"dag_id": "train_renderer", "dag_run_id": "manual__1+00:00", "state": state}, "deadline": {}}


def test_a_run_that_takes_too_long_is_told_unless_it_is_over(hook: WebhookStandIn) -> None:
    for state in ("running", "failed", "success", "queued"):
        asyncio.run(tell_of_delay(hours=36.0, context=run_of(state)))
    assert [told["text"] for told in hook.told] == ["train_renderer: run manual__1+00:00 takes longer than 36 h."] * 2
    assert hook.told[0] | {"text": "", "content-type": ""} == {
        "event": "run-is-late", "text": "", "dag": "train_renderer", "run": "manual__1+00:00", "task": None, "map_index": None, "attempt": None,
        "error": None, "log_url": hook.told[0]["log_url"], "content-type": "",
    }  # fmt: skip
    assert hook.told[0]["log_url"].endswith("/dags/train_renderer/runs/manual__1%2B00%3A00")


@pytest.mark.parametrize(
    ("variables", "hours"),
    [({}, None), ({"": "24"}, 24.0), ({"": "24", "_A_DAG": "1.5"}, 1.5), ({"_ANOTHER": "1"}, None), ({"": " "}, None)],
)
def test_a_deadline_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], hours: float | None) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"DUBMILL_DEADLINE_HOURS{name}", value)
    alert = deadline_of("a_dag")
    assert (alert and alert.interval) == (hours and timedelta(hours=hours))


@pytest.mark.parametrize("text", ["soon", "0", "-1", "inf", "nan"])
def test_a_deadline_that_is_no_number_of_hours_is_one_sentence(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("DUBMILL_DEADLINE_HOURS", text)
    with pytest.raises(ValueError, match=f"^DUBMILL_DEADLINE_HOURS is {text}, which is no number of hours above 0.$"):
        deadline_of("a_dag")
