"""The DAG `bulk_dubbing` run by Airflow itself, over a stand-in for Ray whose jobs pretend to dub."""

import json
import os
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag
from airflow.models.asset import AssetEvent
from airflow.models.asset_state_store import AssetStateStoreModel
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session

from dags.bulk_dubbing import QUIET_S, JobList, at_most, is_due, lists_at, summed
from tests.dags.operators.ray_stand_in import RayStandIn, StandInJob


@dataclass
class Cluster:
    """What the pretended jobs were told, and the names of lists whose jobs fail."""

    fails: set[str] = field(default_factory=set)
    told: list[dict[str, Any]] = field(default_factory=list)

    def dub(self, job: StandInJob) -> None:
        words = shlex.split(job.entrypoint)
        settings = yaml.safe_load(Path(words[words.index("--settings") + 1]).read_text())
        self.told.append(settings)
        job.statuses = ["FAILED" if Path(settings["jobs"]).name in self.fails else "SUCCEEDED"]
        summary = {
            "out": settings["out"],
            "jobs": 3,
            "already_done": 1,
            "done": 1,
            "failed": {"no-face": 1},
            "results": f"{settings['out']}/results",
        }
        Path(words[words.index("--result") + 1]).write_text(json.dumps(summary))

    def lists(self) -> list[str]:
        """Names of the lists that were dubbed, in order; forgotten after that."""
        names = [Path(settings["jobs"]).name for settings in self.told]
        self.told.clear()
        return sorted(names)


@dataclass
class Line:
    """The DAG with its settings, its cluster, and the folder into which lists are dropped."""

    dag: Any
    cluster: Cluster
    folder: Path
    settings: Path
    day: int = 0

    def drop(self, name: str, content: str = "job_id,video,speech,out\n") -> None:
        (self.folder / name).write_text(content)
        os.utime(self.folder / name, (1000.0, 1000.0 + len(content)))

    def run(self, **params: Any) -> tuple[str, dict[str, list[str]]]:
        """State of one more run, and the states of its task instances by task."""
        self.day += 1
        # Each run in this one process finds the parameters as the former one left them, unless it is told all of them.
        given = {"settings": str(self.settings), "only": "", "again": False, **params}
        done = self.dag.test(logical_date=datetime(2026, 3, self.day, tzinfo=UTC), run_conf=given)
        states: dict[str, list[str]] = {}
        for instance in sorted(done.get_task_instances(), key=lambda instance: instance.map_index):
            states.setdefault(instance.task_id, []).append(str(instance.state))
        return str(done.state), states

    def events(self) -> list[dict[str, Any]]:
        with create_session() as session:
            return [event.extra for event in session.query(AssetEvent).order_by(AssetEvent.id)]


@pytest.fixture
def line(database: None, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    settings, folder = tmp_path / "settings.yaml", tmp_path / "lists"
    settings.write_text(yaml.safe_dump({"jobs": f"{folder}/", "out": str(tmp_path / "dubs"), "landmark_generator": "/l", "renderer": "/r"}))
    for needed in (folder, tmp_path / "results"):
        needed.mkdir()
    dag = DagBag(str(repository / "dags" / "bulk_dubbing.py")).dags["bulk_dubbing"]
    quick = {"retries": 0, "retry_delay": timedelta(seconds=0.1), "results": str(tmp_path / "results"), "poll_s": 0.02}
    monkeypatch.setattr(dag.get_task("dub"), "partial_kwargs", {**dag.get_task("dub").partial_kwargs, **quick})
    with create_session() as session:
        session.query(AssetEvent).delete()
        session.query(AssetStateStoreModel).delete()
    with RayStandIn() as ray:
        monkeypatch.setenv("AIRFLOW_CONN_RAY_DEFAULT", ray.url)
        cluster = Cluster()
        ray.on_submit = cluster.dub
        yield Line(dag, cluster, folder, settings)


def test_new_lists_are_dubbed_each_into_its_own_folder_and_the_counts_are_noted(line: Line) -> None:
    line.drop("monday.csv")
    line.drop("tuesday.jsonl")
    line.drop("notes.txt")
    assert line.run() == ("success", {"find_lists": ["success"], "dub": ["success"] * 2, "note": ["success"], "every_list": ["success"]})
    assert sorted(Path(told["out"]).name for told in line.cluster.told) == line.cluster.lists() == ["monday.csv", "tuesday.jsonl"]
    (event,) = line.events()
    assert {name: event[name] for name in ("lists", "jobs", "already_done", "done", "failed")} == {
        "lists": 2,
        "jobs": 6,
        "already_done": 2,
        "done": 2,
        "failed": {"no-face": 2},
    }
    assert [Path(one["jobs"]).name for one in event["dubbed"]] == [Path(one["out"]).name for one in event["dubbed"]] == ["monday.csv", "tuesday.jsonl"]


def test_a_list_that_was_done_is_begun_again_only_when_it_changed_or_is_asked_for(line: Line) -> None:
    line.drop("monday.csv")
    line.run()
    assert line.cluster.lists() == ["monday.csv"]
    line.drop("tuesday.csv")
    line.run()
    assert line.cluster.lists() == ["tuesday.csv"]
    assert line.run() == ("success", {"find_lists": ["success"], "dub": ["skipped"], "note": ["skipped"], "every_list": ["skipped"]})
    line.drop("monday.csv", "job_id,video,speech,out\na,b,c,d\n")
    line.run()
    assert line.cluster.lists() == ["monday.csv"]
    line.run(again=True)
    assert line.cluster.lists() == ["monday.csv", "tuesday.csv"]


def test_a_list_that_fails_is_tried_again_and_holds_up_no_other(line: Line) -> None:
    line.drop("bad.csv")
    line.drop("good.csv")
    line.cluster.fails = {"bad.csv"}
    state, tasks = line.run()
    assert (state, sorted(tasks["dub"]), tasks["note"], tasks["every_list"]) == ("failed", ["failed", "success"], ["success"], ["upstream_failed"])
    assert line.events()[-1]["lists"] == 1
    line.cluster.lists()
    line.cluster.fails = set()
    assert line.run()[0] == "success"
    assert line.cluster.lists() == ["bad.csv"]


def test_a_single_list_is_dubbed_whenever_a_person_asks(line: Line) -> None:
    line.drop("monday.csv")
    settings = yaml.safe_load(line.settings.read_text()) | {"jobs": str(line.folder / "monday.csv")}
    line.settings.write_text(yaml.safe_dump(settings))
    for _ in range(2):
        assert line.run()[0] == "success"
        assert [told["out"] for told in line.cluster.told] == [settings["out"]]
        assert line.cluster.lists() == ["monday.csv"]


def test_a_single_list_that_another_run_is_at_is_left_to_it(line: Line) -> None:
    line.drop("monday.csv")
    line.settings.write_text(yaml.safe_dump(yaml.safe_load(line.settings.read_text()) | {"jobs": str(line.folder / "monday.csv")}))
    line.run()
    line.cluster.lists()
    with create_session() as session:
        first = session.query(DagRun).filter_by(dag_id="bulk_dubbing").order_by(DagRun.id.desc()).first()
        first.state = "running"
        known = session.query(AssetStateStoreModel).one()
        known.value = known.value.replace("true", "false")
    assert line.run()[1]["dub"] == ["skipped"]
    assert line.cluster.lists() == []
    with create_session() as session:
        session.delete(session.get(DagRun, first.id))
    assert line.run()[1]["dub"] == ["success"], "nor does a run that was deleted hold it"


def test_one_list_of_the_folder_is_taken_by_its_name(line: Line) -> None:
    line.drop("monday.csv")
    line.drop("tuesday.csv")
    line.run(only="tuesday.csv")
    assert [Path(told["out"]).name for told in line.cluster.told] == line.cluster.lists() == ["tuesday.csv"]
    state, tasks = line.run(only="wednesday.csv")
    assert (state, tasks["find_lists"]) == ("failed", ["failed"])
    line.run()
    assert line.cluster.lists() == ["monday.csv"]


@pytest.mark.parametrize(("number", "begun", "left"), [(3, 3, False), (4, 3, True)])
def test_lists_beyond_what_a_run_may_have_are_said_and_stay_due(number: int, begun: int, left: bool, caplog: pytest.LogCaptureFixture) -> None:
    due = [JobList(f"/lists/{at}.csv", "v") for at in range(number)]
    assert at_most(3, due) == due[:begun]
    assert (f"{number} lists are due, and a run takes 3; the next run takes the others." in caplog.text) is left


def test_a_run_takes_as_many_lists_as_it_may_and_the_next_one_the_others(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(line.dag.get_task("find_lists").python_callable.__globals__, "MOST_MAPPED", 2)
    for name in ("a.csv", "b.csv", "c.csv"):
        line.drop(name)
    line.run()
    assert line.cluster.lists() == ["a.csv", "b.csv"]
    line.run()
    assert line.cluster.lists() == ["c.csv"]


def test_settings_that_are_wrong_fail_before_any_job(line: Line) -> None:
    line.settings.write_text("jobs: /lists\n")
    state, tasks = line.run()
    assert (state, tasks["find_lists"], line.cluster.told) == ("failed", ["failed"], [])


FOUND = JobList("/lists/a.csv", "v1", changed_s=1000.0)
LATER_S = 1000.0 + QUIET_S


@pytest.mark.parametrize(
    ("known", "at_work", "anew", "now_s", "due"),
    [
        ({}, False, False, LATER_S, True),
        ({}, False, False, LATER_S - 1, False),  # perhaps half written
        ({}, False, False, None, True),
        ({"version": "v1", "run_id": "r", "done": True}, False, False, LATER_S, False),
        ({"version": "v1", "run_id": "r", "done": True}, False, True, LATER_S, True),
        ({"version": "v0", "run_id": "r", "done": True}, False, False, LATER_S, True),
        ({"version": "v1", "run_id": "r", "done": False}, True, False, LATER_S, False),  # another run is at it
        ({"version": "v0", "run_id": "r", "done": False}, True, True, LATER_S, False),  # changed, while another run is at it
        ({"version": "v1", "run_id": "r", "done": False}, False, False, LATER_S, True),  # that run has failed
    ],
)
def test_which_lists_are_due(known: dict[str, Any], at_work: bool, anew: bool, now_s: float | None, due: bool) -> None:
    assert is_due(FOUND, known, lambda run_id: at_work and run_id == "r", anew=anew, now_s=now_s) is due


def test_lists_are_found_in_a_folder_and_nothing_where_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.parquet", "a.CSV", ".hidden.csv", "c.txt", "deep/d.csv"):
        (tmp_path / name).write_text("content")
    found = lists_at(str(tmp_path))
    assert [Path(one.location).name for one in found] == ["a.CSV", "b.parquet"]
    assert all(time.time() - one.changed_s < 60 for one in found)
    assert [one.location for one in lists_at(f"{tmp_path}/b.parquet")] == [f"{tmp_path}/b.parquet"]
    assert lists_at(f"{tmp_path}/none") == []
    before = found[1].version
    (tmp_path / "b.parquet").write_text("other content")
    assert lists_at(str(tmp_path))[1].version != before


def test_counts_are_added_up() -> None:
    models = {"landmark_generator": "1" * 64, "renderer": "2" * 64}
    one = {"out": "/a", "jobs": 5, "already_done": 1, "done": 2, "failed": {"missing": 2}, "results": "/a/results", "models": models}
    newer = models | {"renderer": "0" * 64}
    other = {
        "out": "/b",
        "jobs": 4,
        "already_done": 0,
        "done": 2,
        "failed": {"missing": 1, "no-face": 1},
        "results": "/b/results",
        "models": newer,
    }
    assert summed([one, other]) == {
        "lists": 2, "jobs": 9, "already_done": 1, "done": 4, "failed": {"missing": 3, "no-face": 1}, "results": ["/a/results", "/b/results"],
        "models": {"landmark_generator": ["1" * 64], "renderer": ["0" * 64, "2" * 64]},
    }  # fmt: skip
