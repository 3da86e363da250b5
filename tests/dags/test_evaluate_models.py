"""The DAG `evaluate_models` run by Airflow itself, over a stand-in for Ray whose job pretends to measure."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag
from airflow.models.asset import AssetEvent
from airflow.utils.db import initdb
from airflow.utils.session import create_session

from tests.dags.operators.ray_stand_in import RayStandIn, StandInJob

KINDS = ("landmark-generator", "renderer")


HELD = {"status": "held", "sentence": "psnr is 30, under 31."}


@dataclass
class Line:
    """The DAG, its settings file, the folder of published networks, and what the jobs were told."""

    dag: Any
    folder: Path
    told: list[dict[str, Any]] = field(default_factory=list)
    fails: bool = False

    def publish(self, *kinds: str) -> None:
        for kind in kinds:
            (self.folder / kind).mkdir()
            (self.folder / kind / "current.json").write_text("{}")

    def settings(self, **values: Any) -> None:
        networks = {name: f"{self.folder}/{kind}/current.json" for name, kind in zip(("landmark_generator", "renderer"), KINDS, strict=True)}
        (self.folder / "settings.yaml").write_text(yaml.safe_dump({"store": "/store", "out": f"{self.folder}/evaluations/", **networks, **values}))

    def measure(self, job: StandInJob) -> None:
        words = shlex.split(job.entrypoint)
        settings = yaml.safe_load(Path(words[words.index("--settings") + 1]).read_text())
        self.told.append(settings)
        job.statuses = ["FAILED" if self.fails else "SUCCEEDED"]
        psnr = {"name": "psnr", "generated": {"value": 30.0, "low": 29.0}, "real": {"value": 100.0, "exact": True}}
        counts = {"out": settings["out"], "pairs": 4, "compared": 3, "models": {"renderer": "ab"}, "snapshot": "first", "absent": {"fid": "why"}, "gate": HELD}
        summary = {**counts, "metrics": [psnr, {"name": "leak", "generated": {"value": 0.1}, "real": None}], "groups": []}
        Path(words[words.index("--result") + 1]).write_text(json.dumps(summary))
        if not self.fails:
            out = Path(settings["out"])
            out.mkdir(parents=True)
            (out / "summary.json").write_text(json.dumps(summary))

    def run(self) -> tuple[str, dict[str, str]]:
        done = self.dag.test(logical_date=datetime(2026, 5, 1 + len(self.told), tzinfo=UTC), run_conf={"settings": f"{self.folder}/settings.yaml"})
        return str(done.state), {instance.task_id: str(instance.state) for instance in done.get_task_instances()}


@pytest.fixture(scope="module")
def database(repository: Path) -> None:
    initdb()


@pytest.fixture
def line(database: None, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    (tmp_path / "results").mkdir()
    dag = DagBag(str(repository / "dags" / "evaluate_models.py")).dags["evaluate_models"]
    evaluate = dag.get_task("evaluate")
    for name, value in {"retries": 0, "retry_delay": timedelta(seconds=0.1), "results": str(tmp_path / "results"), "poll_s": 0.02}.items():
        monkeypatch.setattr(evaluate, name, value)
    for task_id in ("plan", "announce"):
        monkeypatch.setattr(dag.get_task(task_id), "retries", 0)
    with create_session() as session:
        session.query(AssetEvent).delete()
    with RayStandIn() as ray:
        monkeypatch.setenv("AIRFLOW_CONN_RAY_DEFAULT", ray.url)
        made = Line(dag, tmp_path)
        made.settings()
        ray.on_submit = made.measure
        yield made


def events() -> list[dict[str, Any]]:
    with create_session() as session:
        return [event.extra for event in session.query(AssetEvent).order_by(AssetEvent.id)]


def test_published_networks_are_measured_into_a_folder_of_the_run_and_the_figures_are_told(line: Line) -> None:
    line.publish(*KINDS)
    assert line.run() == ("success", {"plan": "success", "evaluate": "success", "announce": "success"})
    (told,) = line.told
    assert re.fullmatch(rf"{line.folder}/evaluations/manual__[0-9T.-]+", told["out"])
    assert told["landmark_generator"] == f"{line.folder}/landmark-generator/current.json"
    (event,) = events()
    assert event["gate"] == HELD
    assert event["metrics"] == {"psnr": {"generated": 30.0, "real": 100.0}, "leak": {"generated": 0.1, "real": None}}
    assert (event["compared"], event["out"], event["models"]) == (3, told["out"], {"renderer": "ab"})


def test_as_long_as_one_network_is_not_published_nothing_is_measured(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    line.publish("landmark-generator")
    assert line.run() == ("success", dict.fromkeys(("plan", "evaluate", "announce"), "skipped"))
    said = capsys.readouterr().out
    assert "renderer/current.json yet, as Airflow sees it: models are to be published where Airflow and the cluster both reach them." in said
    assert (line.told, events()) == ([], [])


def test_a_job_that_fails_tells_nothing(line: Line) -> None:
    line.publish(*KINDS)
    line.fails = True
    assert line.run()[0] == "failed"
    assert events() == []


@pytest.mark.parametrize("wrong", [{"stroe": "/store"}, {"store": None}])
def test_settings_that_measure_no_network_fail_before_any_job(line: Line, wrong: dict[str, Any]) -> None:
    line.publish(*KINDS)
    line.settings(**wrong)
    state, tasks = line.run()
    assert (state, tasks["plan"], line.told) == ("failed", "failed", [])
