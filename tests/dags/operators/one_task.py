"""One task of one DAG run, taken through an operator, its trigger and back as Airflow does it, without Airflow's processes."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import TaskDeferred

from dags.operators import ray_job_trigger, ray_jobs_api
from dags.operators.ray_job import RayJobOperator, submission_stem
from dags.operators.ray_job_trigger import RayJobTrigger
from schemas.settings import IngestSettings
from tests.dags.operators.ray_stand_in import RayStandIn

CORPUS = Asset("corpus")


@dataclass(frozen=True)
class Task:
    """What the operator and the trigger read of a task instance."""

    id: str = "01a2"
    context_carrier: None = None
    dag_id: str = "ingest_corpus"
    run_id: str = "manual__2026-01-01T00:00:00+00:00"
    task_id: str = "ingest"
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 2
    start_date: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    xcoms: dict[str, Any] = field(default_factory=dict, compare=False)

    def xcom_push(self, *, key: str, value: Any) -> None:
        self.xcoms[key] = json.loads(json.dumps(value))


@dataclass
class Store:
    """Airflow's state of a task: kept over retries and clears."""

    values: dict[str, Any] = field(default_factory=dict)

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def set(self, key: str, value: Any) -> None:
        self.values[key] = json.loads(json.dumps(value))


@dataclass
class XComs:
    """Airflow's XComs of one task, as a trigger reaches them."""

    values: dict[str, Any]

    async def aget_one(self, *, key: str, **_: Any) -> Any:
        return self.values.get(key)

    async def aset(self, *, key: str, value: Any, **_: Any) -> None:
        self.values[key] = json.loads(json.dumps(value))


@dataclass
class Run:
    """A stand-in cluster, an operator for it, and one task instance."""

    ray: RayStandIn
    folder: Path
    context: dict[str, Any]
    task: Task
    said: list[str] = field(default_factory=list)
    deferred: TaskDeferred | None = None

    @property
    def stem(self) -> str:
        return submission_stem(self.task)

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

    def deferral(self, context: dict[str, Any] | None = None, **changes: Any) -> TaskDeferred:
        """What the operator defers to."""
        with pytest.raises(TaskDeferred) as caught:
            self.operator(**changes).execute(context or self.context)
        self.deferred = caught.value
        return caught.value

    def trigger(self, deferral: TaskDeferred | None = None, **changes: Any) -> RayJobTrigger:
        """The trigger of a deferral, or of the last one, as a triggerer makes it: of nothing but what the database holds."""
        _, values = (deferral or self.deferred or self.deferral()).trigger.serialize()
        trigger = RayJobTrigger(**json.loads(json.dumps(values)) | changes)
        trigger.task_instance = self.context["ti"]
        return trigger

    def to_end(self, context: dict[str, Any] | None = None, **changes: Any) -> Any:
        """Executes an operator, lets its trigger run, and resumes another operator made alike: what the task returns."""
        context = context or self.context
        try:
            return self.operator(**changes).execute(context)
        except TaskDeferred as deferral:
            event = asyncio.run(fired(self.trigger(deferral)))
            return self.operator(**changes).resume_execution(deferral.method_name, {"event": event}, context)

    def write_result(self, attempt: int = 1) -> None:
        (self.folder / "results").mkdir(exist_ok=True)
        result = {"store": "/store", "clips": 8, "batches": ["a", "b"], "rejects": {"no-face": 1}}
        (self.folder / "results" / f"{self.stem}.a{attempt}.json").write_text(json.dumps(result))


async def fired(trigger: RayJobTrigger) -> dict[str, Any]:
    """What the event of a trigger carries."""
    async for event in trigger.run():
        return json.loads(json.dumps(event.payload))  # type: ignore[no-any-return]
    raise AssertionError("The trigger has fired no event.")


@contextmanager
def one_task(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """A run with a stand-in for Ray, of which the Airflow connection `ray_default` knows; what is logged is in `said`."""
    (folder / "ingest.yaml").write_text("store: /store\nsources: [/footage]\n")
    task = Task()
    with RayStandIn() as ray:
        monkeypatch.setenv("AIRFLOW_CONN_RAY_DEFAULT", json.dumps({"conn_type": "http", "host": "127.0.0.1", "port": ray.port}))
        run = Run(ray, folder, {"ti": task, "outlet_events": {CORPUS: SimpleNamespace(extra={})}, "task_state_store": Store()}, task)

        def say(text: str, *values: object) -> None:
            run.said.append(text % values if values else text)

        for speaker in (RayJobOperator, RayJobTrigger):
            monkeypatch.setattr(speaker, "log", SimpleNamespace(info=say, warning=say, error=say))
        monkeypatch.setattr(ray_job_trigger, "XCom", XComs(task.xcoms))
        monkeypatch.setattr(ray_job_trigger, "LOG_POLL_S", 0.0)
        monkeypatch.setattr(ray_jobs_api, "FIRST_PAUSE_S", 0.1)
        yield run
