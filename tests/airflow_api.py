"""Airflow's REST API as a person in its UI uses it: begin a run, look, clear a task, mark a run failed, read a log."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import httpx

ENDED = frozenset({"success", "failed"})
"""States of a run that is over."""
REQUEST_TIMEOUT_S = 60.0
"""A machine with every core at work answers late."""
CONFLICT = 409
MOST = 100
"""Rows of an answer, as many as Airflow gives at most."""
SHOWN_CHARACTERS = 3000
"""Of the log of a failed task, its end."""


@dataclass(frozen=True)
class TaskState:
    """A task instance as Airflow shows it. id: changes with every try. note: what the task shows beside its log."""

    task_id: str
    map_index: int
    state: str
    try_number: int
    id: str
    note: str


@dataclass(frozen=True)
class Run:
    """A DAG run as Airflow shows it."""

    dag_id: str
    run_id: str
    state: str
    run_type: str


def token_of(url: str, user: str, password: str) -> str:
    """A user's login."""
    answer = httpx.post(f"{url}/auth/token", json={"username": user, "password": password}, trust_env=False, timeout=REQUEST_TIMEOUT_S)
    return str(answer.raise_for_status().json()["access_token"])


class AirflowApi:
    """Airflow at a URL, as one of its users. client: for what has no method here."""

    def __init__(self, url: str, user: str, password: str) -> None:
        headers = {"Authorization": f"Bearer {token_of(url, user, password)}"}
        self.client = httpx.Client(base_url=f"{url}/api/v2", headers=headers, timeout=REQUEST_TIMEOUT_S, trust_env=False)

    def close(self) -> None:
        """Closes the connections."""
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def dags(self) -> set[str]:
        """The DAGs whose files have been read."""
        return {dag["dag_id"] for dag in self._get("/dags", limit=MOST)["dags"]}

    def import_errors(self) -> list[str]:
        """What is wrong with DAG files."""
        return [error["stack_trace"] for error in self._get("/importErrors")["import_errors"]]

    def unpause(self, dag_id: str) -> None:
        """Lets a DAG's runs begin."""
        self.client.patch(f"/dags/{dag_id}", json={"is_paused": False}).raise_for_status()

    def begin(self, dag_id: str, interval: str | None = None, **conf: object) -> str | None:
        """Begins a run by hand, or of an interval (its logical date); its id. None: Airflow has a run of that interval."""
        answer = self.client.post(f"/dags/{dag_id}/dagRuns", json={"logical_date": interval, "conf": conf})
        return None if answer.status_code == CONFLICT else str(answer.raise_for_status().json()["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """queued, running, success or failed."""
        return str(self._get(_run(dag_id, run_id))["state"])

    def runs(self, dag_id: str) -> list[Run]:
        """All runs of a DAG, in the order in which they began."""
        return [Run(dag_id, run["dag_run_id"], run["state"], run["run_type"]) for run in self._get(f"/dags/{dag_id}/dagRuns", limit=MOST)["dag_runs"]]

    def run_to_its_end(self, dag_id: str, limit_s: float, look: Callable[[], None] = lambda: None) -> Run:
        """Waits for the end of a DAG's newest run. look: is called again and again meanwhile. Raises AssertionError with the logs of what failed."""
        deadline = time.monotonic() + limit_s
        while not (runs := self.runs(dag_id)) or runs[-1].state not in ENDED:
            assert time.monotonic() < deadline, f"{dag_id} has not ended within {limit_s:.0f} s: {self.tasks(dag_id, runs[-1].run_id) if runs else 'no run'}"
            look()
            time.sleep(1.0)
        assert runs[-1].state == "success", self._why(runs[-1])
        return runs[-1]

    def events(self) -> dict[str, dict[str, Any]]:
        """What the newest event of each asset says, by the asset's name."""
        names = {asset["id"]: asset["name"] for asset in self._get("/assets", limit=MOST)["assets"]}
        return {names[event["asset_id"]]: event["extra"] for event in self._get("/assets/events", limit=MOST, order_by="timestamp")["asset_events"]}

    def tasks(self, dag_id: str, run_id: str) -> list[TaskState]:
        """The task instances of a run."""
        told = self._get(f"{_run(dag_id, run_id)}/taskInstances", limit=MOST)["task_instances"]
        return [TaskState(ti["task_id"], ti["map_index"], ti["state"] or "none", ti["try_number"], ti["id"], ti["note"] or "") for ti in told]

    def clear(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Clears a task with what follows from it, as the button in the UI does."""
        body = {"dry_run": False, "dag_run_id": run_id, "task_ids": [task_id], "only_failed": False, "include_downstream": True}
        self.client.post(f"/dags/{dag_id}/clearTaskInstances", json=body).raise_for_status()

    def mark_failed(self, dag_id: str, run_id: str) -> None:
        """Marks a run failed, as the button in the UI does."""
        self.client.patch(_run(dag_id, run_id), json={"state": "failed"}).raise_for_status()

    def log(self, dag_id: str, run_id: str, task: TaskState) -> Iterator[tuple[str, str]]:
        """Level and text of each line of a task's log, over all its tries."""
        for number in range(1, task.try_number + 1):
            answer = self.client.get(f"{_run(dag_id, run_id)}/taskInstances/{task.task_id}/logs/{number}", params={"map_index": task.map_index})
            for line in answer.json().get("content", []) if answer.is_success else []:
                yield (str(line.get("level", "")), _text(line)) if isinstance(line, dict) else ("", str(line))

    def _why(self, run: Run) -> str:
        failed = [task for task in self.tasks(run.dag_id, run.run_id) if task.state == "failed"]
        logs = ["\n".join(text for _, text in self.log(run.dag_id, run.run_id, task))[-SHOWN_CHARACTERS:] for task in failed]
        return f"{run.dag_id} {run.state}:\n" + "\n".join(f"{task.task_id}: {log}" for task, log in zip(failed, logs, strict=True))

    def _get(self, path: str, **parameters: str | int) -> dict[str, Any]:
        told: dict[str, Any] = self.client.get(path, params=parameters).raise_for_status().json()
        return told


def _run(dag_id: str, run_id: str) -> str:
    return f"/dags/{dag_id}/dagRuns/{run_id}"


def _text(line: dict[str, Any]) -> str:
    """What a line says; of an error the sentence rather than the word that a task failed."""
    details = line.get("error_detail") or []
    told = next((str(detail["exc_value"]) for detail in details if detail.get("exc_value")), "")
    return told or str(line.get("event", ""))
