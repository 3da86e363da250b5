"""A run that takes too long is told: from the row that Airflow keeps of its deadline to what its triggerer runs."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from airflow._shared.module_loading import import_string
from airflow.models.callback import CallbackState
from airflow.models.dagrun import DagRun
from airflow.models.deadline import Deadline
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session
from sqlalchemy import select

from dags.webhook import WEBHOOK_VARIABLE
from tests.dags.scheduled_dags import DEADLINE_HOURS, runs_by_hand
from tests.dags.webhook_stand_in import SECRET, WebhookStandIn


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebhookStandIn]:
    with WebhookStandIn() as hook:
        monkeypatch.setenv(WEBHOOK_VARIABLE, hook.url)
        yield hook


def missed(state: str) -> tuple[str, dict[str, Any]]:
    """What the scheduler leaves to the triggerer when a run in that state misses its deadline: a class, and what it is made with."""
    with create_session() as session:
        deadline = session.scalars(select(Deadline)).one()
        deadline.dagrun.state = state
        session.flush()
        deadline.handle_miss(session)
        session.flush()
        trigger = session.scalars(select(Trigger)).one()
        return trigger.classpath, dict(trigger.kwargs)


def run_as_the_triggerer_does(classpath: str, arguments: dict[str, Any]) -> list[Any]:
    """The events of a trigger."""

    async def events() -> list[Any]:
        return [event.payload async for event in import_string(classpath)(**arguments).run()]

    return asyncio.run(events())


@pytest.fixture
def queued(scheduled: None) -> Iterator[None]:
    """One run of `train_renderer`."""
    runs_by_hand("train_renderer", 1)
    yield
    with create_session() as session:
        for kind in (DagRun, Trigger):
            for row in session.scalars(select(kind)):
                session.delete(row)


def test_a_deadline_counts_from_when_a_run_is_queued_and_holds_no_secret(queued: None, hook: WebhookStandIn) -> None:
    with create_session() as session:
        deadline = session.scalars(select(Deadline)).one()
        assert deadline.deadline_time == deadline.dagrun.queued_at + timedelta(hours=DEADLINE_HOURS)
        assert deadline.callback.data["path"] == "dags.webhook.tell_of_delay"
        assert SECRET not in str(deadline.callback.data)


@pytest.mark.parametrize(("state", "is_told"), [("running", True), ("failed", False)])
def test_a_run_that_goes_on_is_told_and_one_that_failed_long_ago_is_not(queued: None, hook: WebhookStandIn, state: str, is_told: bool) -> None:
    events = run_as_the_triggerer_does(*missed(state))
    assert [event["state"] for event in events] == [CallbackState.RUNNING, CallbackState.SUCCESS]
    assert [(told["event"], told["dag"], told["run"]) for told in hook.told] == [("run-is-late", "train_renderer", "manual__0")] * is_told
