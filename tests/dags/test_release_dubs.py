"""The DAG `release_dubs` run by Airflow itself, over a stand-in for Ray whose job does what the real one does, but in this process."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag
from airflow.utils.db import initdb

from dags.review_room.database import Database
from dags.review_room.verdicts import NewVerdict, give_verdict, latest_verdicts
from schemas.jobs import DubJob
from schemas.review import ApprovedDub, ReleaseOutcome, VerdictSubject
from tests.dags.operators.ray_stand_in import RayStandIn, StandInJob


@dataclass
class Desk:
    """The DAG, the room's database, and what the job was given. away: job ids of dubs that the job does not find."""

    dag: Any
    database: Database
    settings: Path
    lists: Path
    away: set[str] = field(default_factory=set)
    told: list[ApprovedDub] = field(default_factory=list)
    day: int = 0

    def release(self, job: StandInJob) -> None:
        words = shlex.split(job.entrypoint)
        settings = yaml.safe_load(Path(words[words.index("--settings") + 1]).read_text())
        approved = [ApprovedDub.model_validate_json(line) for line in Path(settings["approved"]).read_text().splitlines()]
        self.told += approved
        outcome = Path(settings["approved"] + ".outcome.json")
        released = tuple((dub.batch, dub.number) for dub in approved if dub.job_id not in self.away)
        missing = {dub.job_id: "It is not there." for dub in approved if dub.job_id in self.away}
        outcome.write_text(ReleaseOutcome(released=released, missing=missing).model_dump_json())
        job.statuses = ["SUCCEEDED"]
        summary = {"release": settings["release"], "released": len(released), "already_released": 0, "missing": len(missing), "outcome": str(outcome)}
        Path(words[words.index("--result") + 1]).write_text(json.dumps(summary))

    def give(self, job_id: str, verdict: str, **settings: Any) -> None:
        self.day += 1
        new = NewVerdict(verdict_id=f"00000000-0000-4000-9000-{self.day:012x}", fingerprint="f", verdict=verdict, settings=settings)
        job = DubJob(job_id=job_id, video="/v.mp4", speech="/s.wav", out=f"deep/{job_id}.mp4", settings={"references": 25, "face": "left"})
        give_verdict(self.database, "monday.csv", job_id, new, VerdictSubject(dub=f"/dubs/{job_id}.mp4", version="1-2", job=job), "ann")

    def run(self) -> tuple[str, dict[str, str]]:
        self.day += 1
        done = self.dag.test(logical_date=datetime(2026, 4, 1, tzinfo=UTC) + timedelta(days=self.day), run_conf={"settings": str(self.settings)})
        return str(done.state), {instance.task_id: str(instance.state) for instance in done.get_task_instances()}

    def settled(self) -> set[str]:
        return {one.job_id for one in latest_verdicts(self.database, "monday.csv") if one.settled}


@pytest.fixture(scope="module")
def airflow_database() -> None:
    initdb()


@pytest.fixture
def desk(airflow_database: None, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    url = f"sqlite:///{tmp_path / 'room.db'}"
    monkeypatch.setenv("DUBMILL_REVIEW_DATABASE_URL", url)
    database = Database(url)
    database.migrate()
    settings, lists = tmp_path / "settings.yaml", tmp_path / "lists"
    settings.write_text(yaml.safe_dump({"release": str(tmp_path / "release"), "lists": str(lists)}))
    (tmp_path / "results").mkdir()
    dag = DagBag(str(repository / "dags" / "release_dubs.py")).dags["release_dubs"]
    monkeypatch.setattr("dags.release_dubs.RESULTS_FOLDER", str(tmp_path / "results"), raising=False)
    for name in dag.get_task("claim_verdicts").python_callable.__globals__.keys() & {"RESULTS_FOLDER"}:
        monkeypatch.setitem(dag.get_task("claim_verdicts").python_callable.__globals__, name, str(tmp_path / "results"))
    quick = {"retries": 0, "retry_delay": timedelta(seconds=0.1), "results": str(tmp_path / "results"), "poll_s": 0.02}
    monkeypatch.setattr(dag.get_task("release"), "partial_kwargs", {**dag.get_task("release").partial_kwargs, **quick})
    with RayStandIn() as ray:
        monkeypatch.setenv("AIRFLOW_CONN_RAY_DEFAULT", ray.url)
        made = Desk(dag, database, settings, lists)
        ray.on_submit = made.release
        yield made
    database.close()


def test_without_verdicts_nothing_is_done(desk: Desk) -> None:
    state, tasks = desk.run()
    assert (state, set(tasks.values()), desk.told) == ("success", {"skipped"}, [])


def test_approved_dubs_are_released_once_under_the_names_of_their_list(desk: Desk) -> None:
    desk.give("a", "reject")
    desk.give("a", "approve")
    desk.give("b", "reject")
    state, tasks = desk.run()
    assert (state, tasks["release"], tasks["redo"], tasks["settle"]) == ("success", "success", "skipped", "success")
    (dub,) = desk.told
    assert (dub.batch, dub.job_id, dub.dub, dub.version, dub.name, dub.approved_by) == ("monday.csv", "a", "/dubs/a.mp4", "1-2", "deep/a.mp4", "ann")
    assert desk.settled() == {"a", "b"}
    assert desk.run()[1]["claim_verdicts"] == "skipped"


def test_a_dub_that_is_away_stays_open_and_is_tried_again(desk: Desk) -> None:
    for job_id in "ab":
        desk.give(job_id, "approve")
    desk.away = {"b"}
    assert desk.run()[0] == "success"
    assert desk.settled() == {"a"}
    desk.away = set()
    assert desk.run()[0] == "success"
    assert (desk.settled(), [dub.job_id for dub in desk.told]) == ({"a", "b"}, ["a", "b", "b"])


def test_redos_become_a_job_list_with_the_reviewers_settings(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator

    begun: list[tuple[str, str]] = []
    monkeypatch.setattr(TriggerDagRunOperator, "execute", lambda self, context: begun.append((self.trigger_dag_id, self.trigger_run_id)))
    desk.give("a", "redo", references=5, sharpening=0.5)
    desk.give("b", "redo", rest_in_silence=False)
    state, tasks = desk.run()
    assert (state, tasks["release"], tasks["redo"], tasks["settle"]) == ("success", "skipped", "success", "success")
    (written,) = desk.lists.iterdir()
    assert written.name.startswith("monday.redo-")
    assert [json.loads(line) for line in written.read_text().splitlines()] == [
        {"job_id": "a", "video": "/v.mp4", "speech": "/s.wav", "out": "deep/a.mp4", "references": 5, "face": "left", "sharpening": 0.5},
        {"job_id": "b", "video": "/v.mp4", "speech": "/s.wav", "out": "deep/b.mp4", "references": 25, "face": "left", "rest_in_silence": False},
    ]
    ((dag_id, run_id),) = begun
    assert (dag_id, run_id.startswith("redo__")) == ("bulk_dubbing", True)
    assert desk.settled() == {"a", "b"}


def test_a_single_list_takes_no_redos(desk: Desk) -> None:
    desk.settings.write_text(yaml.safe_dump({"release": "/r", "lists": "/lists/jobs.csv"}))
    desk.give("a", "redo", references=5)
    state, tasks = desk.run()
    assert (state, tasks["claim_verdicts"], desk.settled()) == ("failed", "failed", set())
