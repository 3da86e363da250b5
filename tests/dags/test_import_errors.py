"""The DAGs as Airflow's own commands see them, in a new database of either kind: the embedded one, and that of production."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres_server import postgres_server

COMMANDS = """
import json, os, sys
from airflow.__main__ import main

def airflow(*words):
    sys.argv = ["airflow", *words]
    print("#", *words, flush=True)
    try:
        main()
    except SystemExit as end:
        print("exit code", end.code, flush=True)

airflow("db", "migrate")
airflow("dags", "reserialize")
airflow("dags", "list-import-errors", "--output", "plain")
airflow("dags", "list", "--output", "plain", "--columns", "dag_id")
os.environ["DUBMILL_DEADLINE_HOURS_INGEST_CORPUS"] = "soon"
airflow("dags", "reserialize")
airflow("dags", "list-import-errors", "--output", "json")
"""
DAGS = [
    "bulk_dubbing", "evaluate_models", "ingest_corpus", "maintain_store", "reconcile_jobs", "release_dubs", "train_landmark_generator", "train_renderer",
]  # fmt: skip


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a new database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'airflow.db'}"
        return
    with postgres_server() as server:
        yield server.url


def test_no_dag_has_an_import_error_and_one_that_has_is_listed(database: str, tmp_path: Path, repository: Path) -> None:
    """All commands in one process: importing Airflow takes longer than any of them."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(repository),
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        "DUBMILL_DEADLINE_HOURS": "24",  # what belongs to a deadline lies in the database, too
    }
    done = subprocess.run([sys.executable, "-c", COMMANDS], cwd=repository, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    said = {part.partition("\n")[0]: part.partition("\n")[2] for part in done.stdout.split("# ")[1:]}
    assert said["dags list-import-errors --output plain"].strip() == "No data found"
    assert sorted(set(DAGS) & set(said["dags list --output plain --columns dag_id"].split())) == DAGS
    (error,) = json.loads(said["dags list-import-errors --output json"].partition("exit code")[0])
    assert error["filepath"] == "ingest_corpus.py"
    assert "DUBMILL_DEADLINE_HOURS_INGEST_CORPUS is soon, which is no number of hours above 0." in error["error"]
