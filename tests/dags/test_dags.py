"""The DAGs as Airflow sees them: they import, and have the structure that README and DESIGN promise."""

import os
import subprocess
import sys
import textwrap
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.definitions.param import ParamsDict

from schemas import settings

PARSE_LIMIT_S = 2.0
DAG_JOBS = {
    "ingest_corpus": ("ingest", "ingest", settings.IngestSettings),
    "train_landmark_generator": ("train", "train_landmark_generator", settings.LandmarkGeneratorTraining),
    "train_renderer": ("train", "train_renderer", settings.RendererTraining),
    "bulk_dubbing": ("dub", "dub", settings.BulkDubSettings),
    "release_dubs": ("release", "release_dubs", settings.ReleaseSettings),
}


@pytest.fixture(scope="module")
def dags(repository: Path) -> Any:
    bag = DagBag(str(repository / "dags"))
    assert bag.import_errors == {}
    return bag.dags


def test_there_are_these_dags_and_no_others(dags: Any) -> None:
    assert set(dags) == set(DAG_JOBS)


@pytest.mark.parametrize("dag_id", DAG_JOBS)
def test_the_main_job_of_a_dag_reads_the_file_of_its_settings(dags: Any, dag_id: str) -> None:
    task_id, job, settings_class = DAG_JOBS[dag_id]
    task = dags[dag_id].get_task(task_id)
    values = task.partial_kwargs if task.is_mapped else vars(task)
    assert (values["job"], values["settings_class"]) == (job, settings_class)
    assert values["settings"] == "{{ params.settings }}"


@pytest.mark.parametrize("dag_id", DAG_JOBS)
def test_a_dag_is_documented_and_retried_with_back_off(dags: Any, dag_id: str) -> None:
    dag = dags[dag_id]
    assert "dubmill" in dag.tags
    assert len(dag.doc_md) > 200
    assert not dag.catchup
    for task in dag.tasks:
        assert (task.retries, bool(task.retry_exponential_backoff), task.max_retry_delay) == (2, True, timedelta(minutes=15))


@pytest.mark.parametrize("dag_id", DAG_JOBS)
def test_the_settings_parameter_has_a_default_and_a_schema(dags: Any, dag_id: str) -> None:
    params: ParamsDict = dags[dag_id].params
    assert params["settings"] == f"/etc/dubmill/{dag_id}.yaml"
    with pytest.raises(Exception, match="Invalid input for param settings"):
        params["settings"] = ""


def test_assets_join_the_dags(dags: Any) -> None:
    assert _outlets(dags["ingest_corpus"]) == {"corpus"}
    assert _outlets(dags["train_landmark_generator"]) == {"landmark-generator"}
    assert _outlets(dags["train_renderer"]) == {"renderer"}
    for trainer in ("train_landmark_generator", "train_renderer"):
        assert [asset.name for asset in dags[trainer].timetable.asset_condition.objects] == ["corpus"]
        assert dags[trainer].max_active_runs == 1


@pytest.mark.parametrize("dag_id", ["train_landmark_generator", "train_renderer"])
def test_training_is_gated_frozen_and_published(dags: Any, dag_id: str) -> None:
    upstream = {task.task_id: set(task.upstream_task_ids) for task in dags[dag_id].tasks}
    assert upstream == {
        "gate": set(),
        "freeze": {"gate"},
        "train": {"gate", "freeze"},
        "remember": {"gate", "train"},
        "publish": {"gate", "train"},
        "announce": {"publish"},
    }
    jobs = {task_id: dags[dag_id].get_task(task_id).job for task_id in ("freeze", "train", "publish")}
    assert jobs == {"freeze": "freeze_snapshot", "train": dag_id, "publish": "publish_model"}
    assert all(not task.outlets for task in dags[dag_id].tasks if task.task_id != "announce")


def test_training_takes_no_amount_of_new_clips_below_one(dags: Any) -> None:
    params: ParamsDict = dags["train_renderer"].params
    assert (params["min_new_clips"], params["hold_back"], params["selection"]) == (1, False, "")
    with pytest.raises(Exception, match="Invalid input for param min_new_clips"):
        params["min_new_clips"] = 0


def test_ingest_has_no_schedule_unless_one_is_set(dags: Any) -> None:
    assert dags["ingest_corpus"].schedule is None
    assert dags["ingest_corpus"].max_active_runs == 1


def test_verdicts_are_followed_by_one_run_at_a_time_in_this_order(dags: Any) -> None:
    upstream = {task.task_id: set(task.upstream_task_ids) for task in dags["release_dubs"].tasks}
    assert upstream == {
        "claim_verdicts": set(),
        "to_release": {"claim_verdicts"},
        "to_redo": {"claim_verdicts"},
        "release": {"to_release"},
        "redo": {"to_redo"},
        "settle": {"claim_verdicts", "release", "redo"},
    }
    assert (dags["release_dubs"].schedule, dags["release_dubs"].max_active_runs) == (None, 1)


def test_folders_and_schedule_come_from_the_environment(repository: Path) -> None:
    script = """
        from dags.ingest_corpus import dag
        task = dag.get_task("ingest")
        print(dag.schedule, dag.params["settings"], task.partial_kwargs["results"], task.retries)
    """
    changed = {"DUBMILL_SETTINGS": "s3://b/settings/", "DUBMILL_INGEST_SCHEDULE": "@daily", "DUBMILL_TASK_RETRIES": "0"}
    assert _python(script, repository, changed).split() == ["@daily", "s3://b/settings/ingest_corpus.yaml", "s3://b/settings/results", "0"]


def test_what_starts_a_training_comes_from_the_environment(repository: Path) -> None:
    script = """
        from dags.train_renderer import dag
        print(dag.params["min_new_clips"], dag.params["selection"], dag.params["publish"])
    """
    changed = {"DUBMILL_SETTINGS": "s3://b/settings/", "DUBMILL_TRAIN_MIN_NEW_CLIPS": "500", "DUBMILL_SELECTION": "s3://b/chosen.yaml"}
    assert _python(script, repository, changed).split() == ["500", "s3://b/chosen.yaml", "s3://b/settings/publish.yaml"]


def test_the_folder_is_parsed_within_two_seconds(repository: Path) -> None:
    script = """
        import time
        import airflow.sdk.execution_time.task_runner, airflow.timetables, airflow.serialization.serialized_objects
        from airflow.dag_processing.dagbag import DagBag
        before = time.process_time()
        bag = DagBag("dags")
        print(len(bag.dags), time.process_time() - before)
    """
    found, seconds = _python(script, repository, {}).split()[-2:]
    assert int(found) == len(DAG_JOBS)
    assert float(seconds) < PARSE_LIMIT_S


def test_dags_bring_no_data_plane_along(repository: Path) -> None:
    script = """
        import sys
        import dags.ingest_corpus, dags.train_renderer, dags.bulk_dubbing, dags.release_dubs
        print(sorted({"torch", "ray", "cv2", "pyarrow", "tasks", "models", "ray_jobs"} & set(sys.modules)))
    """
    assert _python(script, repository, {}).strip().endswith("[]")


def _outlets(dag: Any) -> set[str]:
    return {asset.name for task in dag.tasks for asset in task.outlets}


def _python(script: str, repository: Path, changed: dict[str, str]) -> str:
    environment = {**os.environ, "PYTHONPATH": str(repository), **changed}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=repository, env=environment, capture_output=True, text=True, check=True)
    return done.stdout
