"""The DAG `ingest_corpus` run by Airflow itself, over a stand-in for Ray whose jobs grow a pretended store."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.configuration import conf
from airflow.dag_processing.dagbag import DagBag
from airflow.models.asset import AssetEvent
from airflow.sdk.exceptions import AirflowFailException
from airflow.utils.session import create_session

from dags.defaults import MOST_MAPPED
from dags.ingest_corpus import list_sources, summed
from tests.dags.operators.ray_stand_in import RayStandIn, StandInJob


@dataclass
class Store:
    """What the pretended jobs know: new clips by source location, batches already there, and locations whose jobs fail."""

    new_clips: dict[str, int]
    batches: int = 0
    clips: int = 0
    fails: set[str] = field(default_factory=set)
    dies_after_its_work: set[str] = field(default_factory=set)
    told: list[dict[str, Any]] = field(default_factory=list)

    def ingest(self, job: StandInJob) -> None:
        """Does what `ray_jobs.ingest` would: reads its settings, adds a batch, writes its result."""
        words = shlex.split(job.entrypoint)
        settings = yaml.safe_load(Path(words[words.index("--settings") + 1]).read_text())
        self.told.append(settings)
        [source] = settings["sources"]
        job.statuses = ["RUNNING", "FAILED" if source in self.fails | self.dies_after_its_work else "SUCCEEDED"]
        if source in self.fails:
            return
        clips = self.new_clips.pop(source, 0)
        self.batches += clips > 0
        self.clips += clips
        self.dies_after_its_work.discard(source)
        result = {
            "store": settings["store"],
            "sources": 10,
            "known": 10 - clips,
            "batches": ["b"] * (clips > 0),
            "clips": clips,
            "frames": 25 * clips,
            "rejects": {"no-face": 1},
            "corpus_batches": self.batches,
            "corpus_clips": self.clips,
            "corpus_version": f"version {self.batches}",
        }
        Path(words[words.index("--result") + 1]).write_text(json.dumps(result))


@dataclass
class Line:
    """The DAG with its settings, the stand-in for Ray, and the pretended store."""

    dag: Any
    ray: RayStandIn
    store: Store
    settings: Path
    day: int = 0

    def run(self, logical_date: datetime | None = None, **params: Any) -> tuple[str, dict[str, list[str]]]:
        """State of one more run, and the states of its task instances by task."""
        self.day += 1
        # Each run in this one process finds the parameters as the former one left them, unless it is told all of them.
        given = {"settings": str(self.settings), "sources": None, "layout": None, **params}
        done = self.dag.test(logical_date=logical_date or datetime(2026, 1, self.day, tzinfo=UTC), run_conf=given)
        states: dict[str, list[str]] = {}
        for instance in sorted(done.get_task_instances(), key=lambda instance: instance.map_index):
            states.setdefault(instance.task_id, []).append(str(instance.state))
        return str(done.state), states

    def events(self) -> list[dict[str, Any]]:
        """What was published, in order."""
        with create_session() as session:
            return [event.extra for event in session.query(AssetEvent).order_by(AssetEvent.id)]


@pytest.fixture
def line(database: None, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump({"store": str(tmp_path / "store"), "sources": ["/a", "/b"]}))
    (tmp_path / "results").mkdir()
    dag = DagBag(str(repository / "dags" / "ingest_corpus.py")).dags["ingest_corpus"]
    quick = {"retries": 0, "retry_delay": timedelta(seconds=0.1), "results": str(tmp_path / "results"), "poll_s": 0.02}
    monkeypatch.setattr(dag.get_task("ingest"), "partial_kwargs", {**dag.get_task("ingest").partial_kwargs, **quick})
    with create_session() as session:
        session.query(AssetEvent).delete()
    with RayStandIn() as ray:
        monkeypatch.setenv("AIRFLOW_CONN_RAY_DEFAULT", ray.url)
        store = Store({"/a": 3, "/b": 2})
        ray.on_submit = store.ingest
        yield Line(dag, ray, store, settings)


ALL_WELL = {"list_sources": ["success"], "ingest": ["success", "success"], "publish": ["success"], "every_source": ["success"]}


def test_each_source_is_a_job_and_the_counts_are_published_once_for_all(line: Line) -> None:
    assert line.run() == ("success", ALL_WELL)
    assert len(line.ray.jobs) == 2
    (event,) = line.events()
    assert {name: event[name] for name in ("sources", "known", "batches", "clips", "frames")} == {
        "sources": 20,
        "known": 15,
        "batches": 2,
        "clips": 5,
        "frames": 125,
    }
    assert (event["rejects"], event["corpus_batches"], event["corpus_version"]) == ({"no-face": 2}, 2, "version 2")
    assert event["corpus_clips"] == 5


def test_a_second_run_that_finds_nothing_new_is_skipped_and_a_third_that_does_is_not(line: Line) -> None:
    line.run()
    assert line.run() == ("success", {**ALL_WELL, "publish": ["skipped"]})
    line.store.new_clips["/b"] = 1
    assert line.run() == ("success", ALL_WELL)
    assert line.run()[1]["publish"] == ["skipped"], "what counts is the event before, not the first one"
    assert [(event["clips"], event["corpus_clips"]) for event in line.events()] == [(5, 5), (1, 6)], "training counts the clips of the whole store"


def test_runs_for_days_long_past_find_everything_known(line: Line) -> None:
    line.run()
    for day in (1, 2):
        state, tasks = line.run(datetime(2025, 6, day, tzinfo=UTC))
        assert (state, tasks["publish"]) == ("success", ["skipped"])
    first, *later = (sorted(({name: told[name] for name in ("sources", "store")} for told in line.store.told[run : run + 2]), key=str) for run in (0, 2, 4))
    assert later == [first] * 2, "what a job is told does not depend on the date; its two jobs come in either order"
    assert len(line.store.told) == 6
    assert [event["clips"] for event in line.events()] == [5]


def test_a_store_without_clips_is_not_published(line: Line) -> None:
    line.store.new_clips.clear()
    assert line.run() == ("success", {**ALL_WELL, "publish": ["skipped"]})
    assert line.events() == []


def test_a_job_that_died_after_its_last_batch_is_published_by_the_retry_that_counts_nothing(line: Line) -> None:
    line.dag.get_task("ingest").partial_kwargs["retries"] = 1
    line.store.new_clips.pop("/b")
    line.store.dies_after_its_work.add("/a")
    assert line.run() == ("success", ALL_WELL)
    assert len(line.ray.jobs) == 3
    (event,) = line.events()
    assert (event["clips"], event["corpus_batches"]) == (0, 1)


def test_a_source_that_fails_keeps_no_other_from_being_published_and_the_run_shows_it(line: Line) -> None:
    line.store.fails.add("/b")
    assert line.run() == ("failed", {**ALL_WELL, "ingest": ["success", "failed"], "every_source": ["upstream_failed"]})
    (event,) = line.events()
    assert event["clips"] == 3


def test_when_all_sources_fail_nothing_is_published(line: Line) -> None:
    line.store.fails |= {"/a", "/b"}
    state, tasks = line.run()
    assert (state, tasks["publish"], line.events()) == ("failed", ["upstream_failed"], [])


@pytest.mark.parametrize("content", ["store: /store\n", "stoer: /store\nsources: [/a]\n"])
def test_settings_that_name_no_sources_or_are_wrong_fail_before_any_job(line: Line, content: str) -> None:
    line.settings.write_text(content)
    state, tasks = line.run()
    assert (state, tasks["list_sources"], len(line.ray.jobs)) == ("failed", ["failed"], 0)


def test_a_run_by_hand_may_name_other_sources_and_how_they_are_arranged(line: Line) -> None:
    line.store.new_clips["/c"] = 1
    assert line.run(sources=["/c"], layout="lrs2")[1]["ingest"] == ["success"]
    assert [(told["sources"], told["layout"]) for told in line.store.told] == [(["/c"], "lrs2")]
    line.run()
    assert [told["layout"] for told in line.store.told[1:]] == ["auto", "auto"]


def listed(number: int, tmp_path: Path) -> list[dict[str, Any]]:
    """What `list_sources` gives for so many sources."""
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump({"store": "/store", "sources": [f"/clip{at}.mp4" for at in range(number)]}))
    given: list[dict[str, Any]] = list_sources.function(str(settings), params={"sources": None, "layout": None})
    return given


def test_as_many_sources_as_a_run_may_have_are_all_ingested(tmp_path: Path) -> None:
    assert [of_one["sources"] for of_one in listed(MOST_MAPPED, tmp_path)] == [[f"/clip{at}.mp4"] for at in range(MOST_MAPPED)]
    assert conf.getint("core", "max_map_length") / 2 >= MOST_MAPPED


def test_more_sources_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(AirflowFailException, match=rf"settings.yaml: {MOST_MAPPED + 1} sources are listed, .* {MOST_MAPPED} at most; list the folders"):
        listed(MOST_MAPPED + 1, tmp_path)


def test_a_source_named_twice_is_one_job(line: Line) -> None:
    line.settings.write_text(yaml.safe_dump({"store": "/store", "sources": ["/a", "/a"]}))
    assert line.run()[1]["ingest"] == ["success"]


def test_the_job_that_saw_most_of_the_store_speaks_for_it() -> None:
    early, late = (
        {"store": "/s", "sources": 1, "known": 0, "batches": 1, "clips": 1, "frames": 9, "rejects": {}, "corpus_batches": seen, "corpus_version": version}
        for seen, version in ((7, "early"), (8, "late"))
    )
    assert summed([late, early])["corpus_version"] == summed([early, late])["corpus_version"] == "late"


def test_two_stores_filled_by_turns_are_each_published_only_when_they_grow(line: Line, tmp_path: Path) -> None:
    line.run()
    first = line.settings.read_text()
    line.settings.write_text(first.replace(str(tmp_path / "store"), str(tmp_path / "other store")))
    assert line.run()[1]["publish"] == ["success"], "the same state of another store is another corpus"
    line.settings.write_text(first)
    assert line.run()[1]["publish"] == ["skipped"]
    assert len(line.events()) == 2
