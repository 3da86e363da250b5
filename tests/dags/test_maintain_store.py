"""The DAG `maintain_store` run by Airflow itself, over a stand-in for Ray whose jobs pretend to keep a store in order."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag

from tests.dags.operators.ray_stand_in import RayStandIn, StandInJob


@dataclass
class Line:
    """The DAG with its settings, what its pretended jobs were told, and the steps that fail."""

    dag: Any
    settings: Path
    told: list[dict[str, Any]] = field(default_factory=list)
    fails: set[str] = field(default_factory=set)

    def work(self, job: StandInJob) -> None:
        words = shlex.split(job.entrypoint)
        settings = yaml.safe_load(Path(words[words.index("--settings") + 1]).read_text())
        self.told.append(settings)
        [step] = settings["steps"]
        job.statuses = ["FAILED" if step in self.fails else "SUCCEEDED"]
        Path(words[words.index("--result") + 1]).write_text(json.dumps({"store": settings["store"], step: {"batches": 1}}))

    def run(self, **params: Any) -> tuple[str, dict[str, str]]:
        """State of one more run, and of its tasks."""
        # Each run in this one process finds the parameters as the former one left them, unless it is told all of them.
        done = self.dag.test(run_conf={"settings": str(self.settings), "dry_run": False, "verify_all": False, **params})
        return str(done.state), {instance.task_id: str(instance.state) for instance in done.get_task_instances()}


@pytest.fixture
def line(database: None, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump({"store": "/store", "older_than_days": 10, "verify_batches": 5}))
    dag = DagBag(str(repository / "dags" / "maintain_store.py")).dags["maintain_store"]
    line = Line(dag, settings)
    for step in ("gc", "verify"):
        for name, value in {"results": str(tmp_path), "poll_s": 0.02, "retry_delay": timedelta(seconds=0.1)}.items():
            monkeypatch.setattr(dag.get_task(step), name, value)
    monkeypatch.setattr(dag.get_task("gc"), "retries", 0)
    with RayStandIn(on_submit=line.work) as ray:
        monkeypatch.setenv("AIRFLOW_CONN_RAY_DEFAULT", ray.url)
        yield line


ALL_WELL = dict.fromkeys(("plan", "gc", "verify", "every_step"), "success")


def test_garbage_goes_before_batches_are_read_back(line: Line) -> None:
    assert line.run() == ("success", ALL_WELL)
    assert [told["steps"] for told in line.told] == [["gc"], ["verify"]]
    assert [(told["dry_run"], told["older_than_days"], told["verify_batches"]) for told in line.told] == [(False, 10, 5)] * 2


def test_one_run_may_delete_nothing_and_read_everything(line: Line) -> None:
    assert line.run(dry_run=True, verify_all=True)[0] == "success"
    assert [(told["dry_run"], told["verify_batches"]) for told in line.told] == [(True, 5), (False, None)]


def test_a_file_that_asks_for_a_dry_run_is_obeyed_though_the_form_does_not(line: Line) -> None:
    line.settings.write_text("store: /store\ndry_run: true\n")
    line.run(dry_run=False)
    assert [told["dry_run"] for told in line.told] == [True, True]


def test_batches_are_read_back_though_garbage_could_not_go_and_the_run_shows_it(line: Line) -> None:
    line.fails = {"gc"}
    assert line.run() == ("failed", {**ALL_WELL, "gc": "failed", "every_step": "upstream_failed"})


def test_faults_fail_the_run_at_once_and_are_not_looked_for_again(line: Line) -> None:
    line.fails = {"verify"}
    assert line.run() == ("failed", {**ALL_WELL, "verify": "failed", "every_step": "upstream_failed"})
    assert [told["steps"] for told in line.told] == [["gc"], ["verify"]]


def test_settings_that_cannot_be_used_fail_before_anything_is_deleted(line: Line) -> None:
    line.settings.write_text("stoer: /store\n")
    assert line.run() == ("failed", {"plan": "failed"} | dict.fromkeys(("gc", "verify", "every_step"), "upstream_failed"))
    assert line.told == []
