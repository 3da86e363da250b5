"""What a person does in Airflow's pages, by its REST API: switch DAGs on, start runs, look at what became of them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

ENDED = ("success", "failed")
SHOWN_CHARACTERS = 3000
"""Of the log of a failed task, its end."""


@dataclass(frozen=True)
class Run:
    """A DAG run as Airflow tells of it."""

    dag_id: str
    run_id: str
    state: str
    run_type: str


class AirflowApi:
    """Airflow at a URL, as its user `admin`."""

    def __init__(self, url: str, password: str) -> None:
        self._client = httpx.Client(base_url=url, trust_env=False, timeout=60)
        token = self._client.post("/auth/token", json={"username": "admin", "password": password})
        self._client.headers["Authorization"] = f"Bearer {token.raise_for_status().json()['access_token']}"

    def import_errors(self) -> list[str]:
        """What is wrong with DAG files."""
        return [error["stack_trace"] for error in self._get("/importErrors")["import_errors"]]

    def dags(self) -> set[str]:
        """The DAGs that Airflow knows."""
        return {dag["dag_id"] for dag in self._get("/dags")["dags"]}

    def switch_on(self, dag_id: str) -> None:
        """Lets a DAG's runs begin."""
        self._client.patch(f"/api/v2/dags/{dag_id}", json={"is_paused": False}).raise_for_status()

    def start(self, dag_id: str, **conf: object) -> str:
        """Starts a run by hand; its id."""
        asked = self._client.post(f"/api/v2/dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": conf})
        return str(asked.raise_for_status().json()["dag_run_id"])

    def runs(self, dag_id: str) -> list[Run]:
        """All runs of a DAG."""
        return [Run(dag_id, run["dag_run_id"], run["state"], run["run_type"]) for run in self._get(f"/dags/{dag_id}/dagRuns")["dag_runs"]]

    def run_to_its_end(self, dag_id: str, limit_s: float, look: Callable[[], None] = lambda: None) -> Run:
        """Waits for the end of a DAG's newest run. look: is called again and again meanwhile. Raises AssertionError with the logs of what failed."""
        deadline = time.monotonic() + limit_s
        while not (runs := self.runs(dag_id)) or runs[-1].state not in ENDED:
            assert time.monotonic() < deadline, f"{dag_id} has not ended within {limit_s:.0f} s: {self.tasks(runs[-1]) if runs else 'no run'}"
            look()
            time.sleep(1.0)
        assert runs[-1].state == "success", self._why(runs[-1])
        return runs[-1]

    def tasks(self, run: Run) -> dict[str, str]:
        """The states of a run's tasks."""
        return {task["task_id"]: task["state"] for task in self._tasks(run)}

    def events(self) -> dict[str, dict[str, Any]]:
        """What the newest event of each asset says, by the asset's name."""
        names = {asset["id"]: asset["name"] for asset in self._get("/assets")["assets"]}
        return {names[event["asset_id"]]: event["extra"] for event in self._get("/assets/events", order_by="timestamp")["asset_events"]}

    def log(self, run: Run, task_id: str, map_index: int = -1, try_number: int = 1) -> str:
        """The log of a task."""
        path = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task_id}/logs/{try_number}"
        return "\n".join(str(line.get("event", line)) if isinstance(line, dict) else str(line) for line in self._get(path, map_index=map_index)["content"])

    def _why(self, run: Run) -> str:
        failed = [task for task in self._tasks(run) if task["state"] == "failed"]
        logs = [f"{task['task_id']}: {self.log(run, task['task_id'], task['map_index'], task['try_number'])[-SHOWN_CHARACTERS:]}" for task in failed]
        return f"{run.dag_id} {run.state}:\n" + "\n".join(logs)

    def _tasks(self, run: Run) -> list[dict[str, Any]]:
        tasks: list[dict[str, Any]] = self._get(f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances")["task_instances"]
        return tasks

    def _get(self, path: str, **parameters: Any) -> dict[str, Any]:
        response = self._client.get(f"/api/v2{path}", params={"limit": 100, **parameters} if "logs" not in path else parameters)
        answer: dict[str, Any] = response.raise_for_status().json()
        return answer
