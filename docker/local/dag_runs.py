"""Runs one DAG to its end as a real Airflow DAG run, without a scheduler: `airflow dags test`."""

import json
import re
import sqlite3
import subprocess
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from services import AIRFLOW, ServiceError, Services

SPEAKERS = r"(?:airflow\.task\.operators\.dags\.operators\.ray_job\.RayJobOperator|dags\.operators\.ray_job_trigger\.RayJobTrigger)"
"""Whose lines are looked at: the operator's, and those of its trigger, which follows the job."""
OPERATOR_LINE = re.compile(rf"\[(?:info|warning)\s*\] (?P<text>.*?)\s*\[{SPEAKERS}\]")
"""A line of Airflow's log that one of them wrote: its own words, and the lines of the job that it follows."""
TELLING = ("progress ", "Ray at ")
"""Beginnings of such lines that a person follows; the others are in the log file."""
FAILURE = re.compile(r"^airflow\.sdk\.exceptions\.\w+: (?P<sentence>.*)$")
SHOW_EVERY_S = 5.0


@dataclass(frozen=True)
class DagRun:
    """A DAG run as Airflow's database has it, and how long it took."""

    run_id: str
    state: str
    seconds: float


def run_dag(services: Services, environment: Mapping[str, str], dag_id: str) -> DagRun:
    """Runs a DAG and shows its progress. Raises ServiceError, naming the log file, when the run does not succeed."""
    log = services.logs / f"{dag_id}.log"
    began = time.monotonic()
    process = subprocess.Popen(
        [AIRFLOW, "dags", "test", dag_id],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=services.marked({**environment, "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False", "PYTHONUNBUFFERED": "1"}),
        start_new_session=True,
        umask=0o077,
    )
    if process.stdout is None:
        raise ServiceError(f"The output of the DAG {dag_id} cannot be read.")
    with log.open("a", encoding="utf-8") as file:
        sentence = _follow(process.stdout, file, dag_id)
    code = process.wait()
    run = _last_run(Path(environment["AIRFLOW_HOME"]) / "airflow.db", dag_id, time.monotonic() - began)
    if code != 0 or run is None or run.state != "success":
        state = run.state if run else "not in Airflow's database"
        raise ServiceError(f"The DAG {dag_id} did not succeed (its run is {state}): {sentence or f'exit code {code}.'} Its log is {log}.")
    return run


def _follow(lines: IO[str], log: IO[str], dag_id: str) -> str:
    """Writes lines to the log and shows those that tell something; returns the sentence of a failure, or nothing."""
    sentence, said_at = "", float("-inf")
    for line in lines:
        log.write(line)
        log.flush()
        failure, said = FAILURE.match(line.rstrip()), OPERATOR_LINE.search(line)
        sentence = failure["sentence"] if failure else sentence
        if said is None or not said["text"].startswith(TELLING):
            continue
        if said["text"].startswith("progress ") and time.monotonic() - said_at < SHOW_EVERY_S:
            continue
        said_at = time.monotonic()
        print(f"  {dag_id}: {said['text']}", flush=True)
    return sentence


def _last_run(database: Path, dag_id: str, seconds: float) -> DagRun | None:
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        row = connection.execute("SELECT run_id, state FROM dag_run WHERE dag_id = ? ORDER BY id DESC LIMIT 1", (dag_id,)).fetchone()
    return DagRun(row[0], row[1], seconds) if row else None


def last_result(results: Path, task: str) -> dict[str, object]:
    """What the latest job of a task (`<dag>.<task>`) handed back. Raises ServiceError when there is none."""
    files = sorted(results.glob(f"{task}.*.json"), key=lambda file: file.stat().st_mtime)
    if not files:
        raise ServiceError(f"The task {task} left no result in {results}.")
    result: dict[str, object] = json.loads(files[-1].read_text())
    return result
