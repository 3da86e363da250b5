"""The training DAGs run by Airflow itself, over a stand-in for Ray whose jobs pretend to freeze, train and publish."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag
from airflow.models.asset import AssetEvent, AssetModel
from airflow.models.asset_state_store import AssetStateStoreModel
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airflow.utils.session import create_session

from dags.assets import CORPUS
from dags.training import clips_before, clips_in, gate, planned, remember
from tests.dags.operators.ray_stand_in import RayStandIn, StandInJob

SENTENCE = "The landmark generator bbbb is not published: its score is worse by 0.001."


@dataclass
class Cluster:
    """What the pretended jobs were told, by job, and whether the next model is the better one."""

    wins: bool = True
    fails: set[str] = field(default_factory=set)
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def work(self, job: StandInJob) -> None:
        words = shlex.split(job.entrypoint)
        name = words[words.index("-m") + 1].removeprefix("ray_jobs.")
        settings = yaml.safe_load(Path(words[words.index("--settings") + 1]).read_text())
        self.told.append((name, settings))
        job.statuses = ["FAILED" if name in self.fails else "SUCCEEDED"]
        Path(words[words.index("--result") + 1]).write_text(json.dumps(self._result(name, settings)))

    def _result(self, name: str, settings: dict[str, Any]) -> dict[str, Any]:
        if name == "freeze_snapshot":
            return {"store": settings["store"], "snapshot": settings["snapshot"] or "frozen", "clips": {"train": 4, "val": 1, "test": 0}}
        if name == "publish_model":
            return {"kind": settings["kind"], "published": self.wins, "version": "bbbb", "score": -0.01, "sentence": SENTENCE}
        return {"kind": "landmark-generator", "checkpoint": f"{settings['out']}/landmark-generator.safetensors"}

    def jobs(self) -> list[str]:
        return [name for name, _ in self.told]


@dataclass
class Line:
    """A training DAG with its settings, its cluster, and a corpus that a test lets grow."""

    dag: Any
    cluster: Cluster
    folder: Path
    day: int = 0

    def grow_to(self, clips: int, store: str = "/store") -> None:
        """An event of the corpus, as `ingest_corpus` publishes it."""
        with create_session() as session:
            asset = session.query(AssetModel).filter_by(name="corpus").one()
            extra = {"store": store, "corpus_clips": clips, "corpus_version": str(clips)}
            session.add(AssetEvent(asset_id=asset.id, extra=extra, timestamp=datetime.now(UTC)))

    def run(self, **conf: object) -> tuple[str, dict[str, str]]:
        """State of one more run that waits for new clips, and the states of its tasks."""
        self.day += 1
        given = {"settings": f"{self.folder}/train.yaml", "publish": f"{self.folder}/publish.yaml", "hold_back": True, **conf}
        done = self.dag.test(logical_date=datetime(2026, 1, self.day, tzinfo=UTC), run_conf=given)
        return str(done.state), {instance.task_id: str(instance.state) for instance in done.get_task_instances()}

    def models(self) -> list[dict[str, Any]]:
        """The events of the model's asset."""
        with create_session() as session:
            events = session.query(AssetEvent).join(AssetModel, AssetModel.id == AssetEvent.asset_id).filter(AssetModel.name == "landmark-generator")
            return [event.extra for event in events.order_by(AssetEvent.id)]


@pytest.fixture
def line(database: None, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    write(tmp_path / "train.yaml", {"store": "/store", "out": "/runs/landmarks/"})
    write(tmp_path / "publish.yaml", {"models": "/models"})
    (tmp_path / "results").mkdir()
    dag = DagBag(str(repository / "dags" / "train_landmark_generator.py")).dags["train_landmark_generator"]
    for task in dag.tasks:
        monkeypatch.setattr(task, "retries", 0)
        monkeypatch.setattr(task, "retry_delay", timedelta(seconds=0.1))
    for task_id in ("freeze", "train", "publish"):
        monkeypatch.setattr(dag.get_task(task_id), "results", str(tmp_path / "results"))
        monkeypatch.setattr(dag.get_task(task_id), "poll_s", 0.02)
    with create_session() as session:
        session.query(AssetEvent).delete()
        session.query(AssetStateStoreModel).delete()
        if session.query(AssetModel).filter_by(name="corpus").first() is None:
            session.add(AssetModel(name="corpus", uri="corpus"))
    with RayStandIn() as ray:
        monkeypatch.setenv("AIRFLOW_CONN_RAY_DEFAULT", ray.url)
        cluster = Cluster()
        ray.on_submit = cluster.work
        yield Line(dag, cluster, tmp_path)


def write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(values))


JOBS = ["freeze_snapshot", "train_landmark_generator", "publish_model"]
PUBLISHED = dict.fromkeys(("gate", "freeze", "train", "remember", "publish", "announce"), "success")
WAITS = dict.fromkeys(PUBLISHED, "skipped")


def test_a_corpus_that_has_grown_is_frozen_trained_on_and_its_model_published(line: Line) -> None:
    line.grow_to(5)
    assert line.run() == ("success", PUBLISHED)
    assert line.cluster.jobs() == JOBS
    freeze, train, publish = (settings for _, settings in line.cluster.told)
    assert (freeze["store"], freeze["snapshot"]) == ("/store", None)
    assert train["snapshot"] == "frozen"
    assert train["out"] == publish["run"]
    assert (publish["kind"], publish["models"], publish["store"]) == ("landmark-generator", "/models", "/store")
    (event,) = line.models()
    assert event["version"] == "bbbb"


def test_each_run_trains_into_a_folder_of_its_own(line: Line) -> None:
    line.grow_to(5)
    line.run(hold_back=False)
    line.run(hold_back=False)
    folders = [settings["out"] for name, settings in line.cluster.told if name == "train_landmark_generator"]
    assert len(set(folders)) == 2
    assert all(re.fullmatch(r"/runs/landmarks/manual__[0-9T.-]+", folder) for folder in folders), "no signs that file names and URLs do not like"


def test_growth_adds_up_over_skipped_runs_until_there_is_enough(line: Line) -> None:
    line.grow_to(10)
    assert line.run(min_new_clips=10) == ("success", PUBLISHED)
    for clips in (14, 18):
        line.grow_to(clips)
        assert line.run(min_new_clips=10) == ("success", WAITS)
    line.grow_to(20)
    assert line.run(min_new_clips=10) == ("success", PUBLISHED), "4 + 4 + 2"
    assert line.run(min_new_clips=1) == ("success", WAITS), "nothing new since"


def test_a_corpus_counts_as_trained_on_only_when_training_has_ended_well(line: Line) -> None:
    line.grow_to(10)
    line.cluster.fails = {"train_landmark_generator"}
    assert line.run(min_new_clips=10)[0] == "failed"
    line.cluster.fails = {"publish_model"}
    line.grow_to(11)
    assert line.run(min_new_clips=10)[1]["train"] == "success", "10 + 1 that no network has learnt from"
    line.cluster.fails = set()
    line.grow_to(12)
    assert line.run(min_new_clips=10) == ("success", WAITS), "trained on, though not published"


def test_a_skipped_run_says_how_many_clips_are_missing(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    line.grow_to(7)
    line.run(min_new_clips=10)
    assert "3 new ones are missing to train again" in capsys.readouterr().out


def test_a_corpus_that_lost_clips_grows_from_there(line: Line) -> None:
    line.grow_to(100)
    line.run()
    line.grow_to(60)
    assert line.run(min_new_clips=20)[1] == WAITS
    line.grow_to(80)
    assert line.run(min_new_clips=20)[1] == PUBLISHED


def test_a_run_by_hand_needs_no_new_clips(line: Line) -> None:
    assert line.run(hold_back=False) == ("success", PUBLISHED), "not even an event of the corpus"
    line.grow_to(5)
    assert line.run()[1] == PUBLISHED
    assert line.run(hold_back=False)[1] == PUBLISHED
    assert line.run()[1] == WAITS, "what a run by hand saw is not new"


def test_the_growth_of_another_store_is_none(line: Line) -> None:
    line.grow_to(50, store="/another")
    assert line.run()[1] == WAITS
    line.grow_to(5, store="/store/")
    line.grow_to(60, store="/another")
    assert line.run()[1] == PUBLISHED


def test_a_model_that_lost_leaves_the_asset_as_it_was_and_the_run_succeeds(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    line.grow_to(5)
    line.cluster.wins = False
    assert line.run() == ("success", {**PUBLISHED, "announce": "skipped"})
    assert line.models() == []
    assert SENTENCE in capsys.readouterr().out


@pytest.mark.parametrize("job", JOBS)
def test_a_job_that_fails_fails_the_run_and_updates_nothing(line: Line, job: str) -> None:
    line.grow_to(5)
    line.cluster.fails.add(job)
    assert line.run()[0] == "failed"
    assert line.cluster.jobs() == JOBS[: JOBS.index(job) + 1]
    assert line.models() == []


def test_a_run_by_hand_may_say_how_many_steps_it_trains(line: Line) -> None:
    line.run(hold_back=False, steps=7, selection=None)
    line.run(hold_back=False, steps=None)
    assert [settings["steps"] for name, settings in line.cluster.told if name == "train_landmark_generator"] == [7, 20000]


def test_settings_that_name_a_snapshot_are_obeyed(line: Line) -> None:
    write(line.folder / "train.yaml", {"store": "/store", "out": "/runs", "snapshot": "first"})
    line.run(hold_back=False)
    assert [settings["snapshot"] for _, settings in line.cluster.told[:2]] == ["first", "first"]


def test_the_selection_has_a_file_of_its_own_and_no_fixed_name(line: Line) -> None:
    write(line.folder / "selection.yaml", {"min_face_px": 120, "name": "first"})
    line.run(hold_back=False, selection=f"{line.folder}/selection.yaml")
    frozen = line.cluster.told[0][1]["selection"]
    assert (frozen["min_face_px"], frozen["name"]) == (120, "")


@pytest.mark.parametrize(("file", "fault"), [("train", {"stoer": "/store"}), ("publish", {"min_gain_share": 0}), ("selection", {"min_face": 1})])
def test_settings_that_cannot_be_used_fail_before_any_job(tmp_path: Path, file: str, fault: dict[str, Any]) -> None:
    files = {"train": {"store": "/store", "out": "/runs"}, "publish": {"models": "/models"}, "selection": {}, file: fault}
    for name, values in files.items():
        write(tmp_path / f"{name}.yaml", values)
    with pytest.raises(AirflowFailException, match=f"{file}.yaml: These settings cannot be used"):
        planned("renderer", *(str(tmp_path / f"{name}.yaml") for name in ("train", "publish", "selection")), run_id="manual__1")


class Memory(dict[str, Any]):
    """What an asset keeps between runs."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value


def events_of(*extras: dict[str, Any]) -> Any:
    """Events of the corpus as Airflow gives them, newest first."""
    events = [SimpleNamespace(extra=extra) for extra in extras]
    return SimpleNamespace(ascending=lambda ascending: SimpleNamespace(limit=lambda most: events[:most]))


@pytest.fixture
def decide(tmp_path: Path) -> Any:
    """The gate's decision on a run of some type, whose training ends well or does not; with what is remembered from call to call."""
    write(tmp_path / "train.yaml", {"store": "/store", "out": "/runs"})
    write(tmp_path / "publish.yaml", {"models": "/models"})
    memory = Memory()

    def passes(run_type: str, clips: int, run_id: str, trains: bool = True) -> bool:
        events = events_of({"store": "/store", "corpus_clips": clips})
        run = SimpleNamespace(dag_id="train_renderer", run_id=run_id, run_type=run_type)
        try:
            plan = gate.function(
                "renderer", f"{tmp_path}/train.yaml", f"{tmp_path}/publish.yaml", "",
                params={"min_new_clips": 3, "hold_back": False, "steps": None}, dag_run=run, inlet_events={CORPUS: events}, asset_state_store={CORPUS: memory},
            )  # fmt: skip
        except AirflowSkipException:
            return False
        if trains:
            remember.function(plan["seen"], dag_run=run, asset_state_store={CORPUS: memory})
        return True

    return passes


def test_a_run_that_the_corpus_started_is_held_back_and_one_by_hand_is_not(decide: Any) -> None:
    assert not decide("asset_triggered", 2, "a")
    assert decide("manual", 2, "b")
    assert not decide("asset_triggered", 4, "c")
    assert decide("asset_triggered", 5, "d")


def test_a_run_that_is_cleared_passes_again(decide: Any) -> None:
    assert decide("asset_triggered", 5, "a")
    assert decide("asset_triggered", 5, "a")
    assert not decide("asset_triggered", 5, "b")


def test_a_run_that_is_cleared_passes_again_although_a_later_one_was_skipped(decide: Any) -> None:
    assert decide("asset_triggered", 5, "a")
    assert not decide("asset_triggered", 6, "b")
    assert decide("asset_triggered", 6, "a")
    assert not decide("asset_triggered", 6, "c"), "what the cleared run saw is not new"


def test_after_a_training_that_failed_the_next_event_tries_again_and_so_does_the_cleared_run(decide: Any) -> None:
    assert decide("asset_triggered", 5, "a", trains=False)
    assert decide("asset_triggered", 5, "a", trains=False)
    assert decide("asset_triggered", 6, "b")
    assert not decide("asset_triggered", 8, "c")
    assert decide("asset_triggered", 9, "d")


def test_events_of_a_version_that_counted_no_clips_are_of_no_clips() -> None:
    events = events_of({"store": "/store", "clips": 8})
    assert clips_in("/store", events) == 0
    assert clips_before({}, "a") == 0
