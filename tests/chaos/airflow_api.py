"""Airflow's REST API as a person in its UI uses it: begin a run, look, clear a task, mark a run failed, read a log."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

ENDED = frozenset({"success", "failed"})
"""States of a run that is over."""
REQUEST_TIMEOUT_S = 60.0
"""A machine with every core at work answers late."""
CONFLICT = 409


@dataclass(frozen=True)
class TaskState:
    """A task instance as Airflow shows it. id: changes with every try. note: what the task shows beside its log."""

    task_id: str
    map_index: int
    state: str
    try_number: int
    id: str
    note: str


class AirflowApi:
    """Airflow at a URL, as its one user."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=REQUEST_TIMEOUT_S, trust_env=False)
        token = self._client.post("/auth/token", json={"username": user, "password": password}).raise_for_status().json()["access_token"]
        self._client.headers["Authorization"] = f"Bearer {token}"

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def knows(self, dag_id: str) -> bool:
        """Whether the DAG's file has been read."""
        return self._client.get(f"/api/v2/dags/{dag_id}").is_success

    def import_errors(self) -> int:
        """How many DAG files could not be read."""
        return int(self._get("/api/v2/importErrors")["total_entries"])

    def unpause(self, dag_id: str) -> None:
        """Lets a DAG's runs begin."""
        self._client.patch(f"/api/v2/dags/{dag_id}", json={"is_paused": False}).raise_for_status()

    def begin(self, dag_id: str, settings: str, interval: str | None = None) -> str | None:
        """Begins a run by hand, or of an interval (its logical date); its id. None: Airflow has a run of that interval."""
        answer = self._client.post(f"/api/v2/dags/{dag_id}/dagRuns", json={"logical_date": interval, "conf": {"settings": settings}})
        return None if answer.status_code == CONFLICT else str(answer.raise_for_status().json()["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """queued, running, success or failed."""
        return str(self._get(_run(dag_id, run_id))["state"])

    def tasks(self, dag_id: str, run_id: str) -> list[TaskState]:
        """The task instances of a run."""
        told = self._get(f"{_run(dag_id, run_id)}/taskInstances")["task_instances"]
        return [TaskState(ti["task_id"], ti["map_index"], ti["state"] or "none", ti["try_number"], ti["id"], ti["note"] or "") for ti in told]

    def clear(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Clears a task with what follows from it, as the button in the UI does."""
        body = {"dry_run": False, "dag_run_id": run_id, "task_ids": [task_id], "only_failed": False, "include_downstream": True}
        self._client.post(f"/api/v2/dags/{dag_id}/clearTaskInstances", json=body).raise_for_status()

    def mark_failed(self, dag_id: str, run_id: str) -> None:
        """Marks a run failed, as the button in the UI does."""
        self._client.patch(_run(dag_id, run_id), json={"state": "failed"}).raise_for_status()

    def log(self, dag_id: str, run_id: str, task: TaskState) -> Iterator[tuple[str, str]]:
        """Level and text of each line of a task's log, over all its tries."""
        for number in range(1, task.try_number + 1):
            answer = self._client.get(f"{_run(dag_id, run_id)}/taskInstances/{task.task_id}/logs/{number}", params={"map_index": task.map_index})
            for line in answer.json().get("content", []) if answer.is_success else []:
                yield (str(line.get("level", "")), _text(line)) if isinstance(line, dict) else ("", str(line))

    def _get(self, path: str) -> dict[str, Any]:
        told: dict[str, Any] = self._client.get(path).raise_for_status().json()
        return told


def _run(dag_id: str, run_id: str) -> str:
    return f"/api/v2/dags/{dag_id}/dagRuns/{run_id}"


def _text(line: dict[str, Any]) -> str:
    """What a line says; of an error the sentence rather than the word that a task failed."""
    details = line.get("error_detail") or []
    told = next((str(detail["exc_value"]) for detail in details if detail.get("exc_value")), "")
    return told or str(line.get("event", ""))
