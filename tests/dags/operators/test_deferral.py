"""Deferral from end to end in Airflow itself, against a stand-in for Ray's job API."""

import json
import shlex
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag
from airflow.utils.db import initdb

from tests.dags.operators.ray_stand_in import RayStandIn, StandInJob

INGESTED = {
    "store": "/store",
    "sources": 1,
    "known": 0,
    "batches": ["a", "b"],
    "clips": 3,
    "frames": 75,
    "rejects": {},
    "corpus_batches": 1,
    "corpus_clips": 3,
    "corpus_version": "1",
}


def work(job: StandInJob) -> None:
    """What a job does: it writes its result, and says how far it is."""
    words = shlex.split(job.entrypoint)
    Path(words[words.index("--result") + 1]).write_text(json.dumps(INGESTED))
    job.logs = "progress 1/2 first\nprogress 2/2 second\n"


def test_a_mapped_task_defers_and_is_resumed_with_its_own_settings(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    initdb()
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump({"store": "/store", "sources": ["/footage/0", "/footage/1"]}))
    dag = DagBag(str(repository / "dags" / "ingest_corpus.py")).dags["ingest_corpus"]
    quick = {"retries": 0, "results": str(tmp_path), "poll_s": 0.02}
    monkeypatch.setattr(dag.get_task("ingest"), "partial_kwargs", {**dag.get_task("ingest").partial_kwargs, **quick})
    with RayStandIn(course=["PENDING", "RUNNING", "RUNNING", "SUCCEEDED"], on_submit=work) as ray:
        monkeypatch.setenv("AIRFLOW_CONN_RAY_DEFAULT", ray.url)
        done = dag.test(logical_date=datetime(2026, 5, 1, tzinfo=UTC), run_conf={"settings": str(tmp_path / "settings.yaml")})
    said = "".join(capfd.readouterr())
    assert str(done.state) == "success"
    assert list(ray.submissions.values()) == [1, 1]
    assert said.count("Pausing task as DEFERRED") == 2
    assert said.count("progress 2/2 second") == 2
    instances = {instance.map_index: instance for instance in done.get_task_instances() if instance.task_id == "ingest"}
    for job in ray.jobs.values():
        number = int(job.metadata["map_index"])
        settings = job.entrypoint.partition("--settings ")[2].partition(" ")[0]
        assert f"/footage/{number}" in Path(settings).read_text()
        assert instances[number].rendered_map_index == f"/footage/{number}"


@pytest.mark.soak
def test_ten_tasks_defer_through_a_real_scheduler_and_triggerer_and_hold_their_slots() -> None:
    from tests.bench.many_tasks import measured  # brings Airflow's four components up

    figures = measured(tasks=10, job_seconds=10, parallelism=4, slots=3)
    assert figures.states == {"success": 10}
    assert list(figures.submissions.values()) == [1] * 10
    assert figures.most_at_once <= 3  # though four workers are free: a deferred task holds its slot
    assert figures.lines_noted == 10
    assert min(task.followed - task.submitted for task in figures.tasks) > 0
