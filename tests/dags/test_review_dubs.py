"""The DAG `review_dubs` run by Airflow itself, over a stand-in for Ray whose jobs pretend to make review material."""

import json
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag
from airflow.models.asset import AssetEvent, AssetModel
from airflow.sdk import BaseOperator
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from sqlalchemy import select

from dags.assets import DUBS
from dags.review_dubs import dubbed_lists
from schemas.review import BATCH_NAME, batch_name
from tests.dags.operators.ray_stand_in import RayStandIn, StandInJob

MONDAY, TUESDAY = ({"jobs": f"/lists/{day}.csv", "out": f"/dubs/{day}.csv"} for day in ("monday", "tuesday"))


@pytest.fixture
def told(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What the pretended jobs are told."""
    jobs: list[dict[str, Any]] = []

    def prepare(job: StandInJob) -> None:
        words = shlex.split(job.entrypoint)
        jobs.append(yaml.safe_load(Path(words[words.index("--settings") + 1]).read_text()))
        Path(words[words.index("--result") + 1]).write_text(json.dumps({"dubs": 3}))

    with RayStandIn() as ray:
        monkeypatch.setenv("AIRFLOW_CONN_RAY_DEFAULT", ray.url)
        ray.on_submit = prepare
        yield jobs


@pytest.fixture
def dag(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    initdb()
    (tmp_path / "results").mkdir()
    (tmp_path / "review.yaml").write_text(yaml.safe_dump({"dub_settings": "/bulk.yaml", "review": "/review"}))
    dag = DagBag(str(repository / "dags" / "review_dubs.py")).dags["review_dubs"]
    prepare: BaseOperator = dag.get_task("prepare")
    quick = {"retries": 0, "retry_delay": timedelta(seconds=0.1), "results": str(tmp_path / "results"), "poll_s": 0.02}
    monkeypatch.setattr(prepare, "partial_kwargs", {**prepare.partial_kwargs, **quick})
    monkeypatch.setattr(dag.get_task("list_runs"), "retries", 0)
    with create_session() as session:
        session.query(AssetEvent).delete()
    return dag


def happened(*extras: dict[str, Any]) -> None:
    """Events of the dubs, as `bulk_dubbing` leaves them."""
    with create_session() as session:
        asset = session.scalar(select(AssetModel).where(AssetModel.name == DUBS.name)) or AssetModel(name=DUBS.name, uri=DUBS.uri, group="asset")
        session.add(asset)
        session.flush()
        session.add_all(AssetEvent(asset_id=asset.id, extra=extra) for extra in extras)


def run(dag: Any, folder: Path) -> tuple[str, dict[str, str]]:
    done = dag.test(logical_date=datetime(2026, 3, 1, tzinfo=UTC), run_conf={"settings": str(folder / "review.yaml")})
    return str(done.state), {instance.task_id: str(instance.state) for instance in done.get_task_instances()}


def test_by_hand_the_lists_of_the_newest_bulk_run_are_laid_out_a_job_each(dag: Any, told: list[dict[str, Any]], tmp_path: Path) -> None:
    happened({"dubbed": [{"jobs": "/lists/last-week.csv", "out": "/dubs/last-week.csv"}]}, {"dubbed": [MONDAY, TUESDAY]})
    assert run(dag, tmp_path) == ("success", {"list_runs": "success", "prepare": "success"})
    assert sorted((one["jobs"], one["out"], one["review"]) for one in told) == [(day["jobs"], day["out"], "/review") for day in (MONDAY, TUESDAY)]


def test_while_nothing_was_dubbed_there_is_nothing_to_do(dag: Any, told: list[dict[str, Any]], tmp_path: Path) -> None:
    assert run(dag, tmp_path)[1]["list_runs"] == "skipped"
    assert told == []


def test_a_list_that_was_dubbed_several_times_is_laid_out_once() -> None:
    again = dubbed_lists([{"dubbed": [MONDAY]}, {}, {"dubbed": [TUESDAY, MONDAY]}, {"dubbed": [TUESDAY]}])
    assert again == [MONDAY | {"batch": "monday.csv"}, TUESDAY | {"batch": "tuesday.csv"}]


def test_a_list_of_any_name_has_a_batch_that_may_be_called_so() -> None:
    names = [batch_name(f"s3://bucket/lists/{name}") for name in ("周一.csv", "周二.csv", "a b.csv", "x" * 200)]
    assert all(BATCH_NAME.fullmatch(name) for name in names)
    assert len(set(names)) == len(names)
    assert names[2] == "a b.csv"
