"""The DAGs as Airflow sees them: they import, and have the structure that README and DESIGN promise."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.definitions.param import ParamsDict

from schemas import settings
from tests.dags.fresh_python import FreshPython

PARSE_LIMIT_S = 2.0
DAG_JOBS = {
    "ingest_corpus": ("ingest", "ingest", settings.IngestSettings),
    "train_landmark_generator": ("train", "train_landmark_generator", settings.LandmarkGeneratorTraining),
    "train_renderer": ("train", "train_renderer", settings.RendererTraining),
    "bulk_dubbing": ("dub", "dub", settings.BulkDubSettings),
    "maintain_store": ("gc", "maintain_store", settings.MaintainSettings),
    "evaluate_models": ("evaluate", "evaluate", settings.EvaluateSettings),
    "review_dubs": ("prepare", "review_dubs", settings.ReviewSettings),
    "release_dubs": ("release", "release_dubs", settings.ReleaseSettings),
}
JOBLESS = ("reconcile_jobs",)
NEVER_TRIED_AGAIN = {("maintain_store", "verify"), ("reconcile_jobs", "stop_orphans")}
"""What they find does not go away by itself, or is looked at again in minutes."""


@pytest.fixture(scope="module")
def dags(repository: Path) -> Any:
    bag = DagBag(str(repository / "dags"))
    assert bag.import_errors == {}
    return bag.dags


def test_there_are_these_dags_and_no_others(dags: Any) -> None:
    assert set(dags) == {*DAG_JOBS, *JOBLESS}


@pytest.mark.parametrize("dag_id", DAG_JOBS)
def test_the_main_job_of_a_dag_reads_the_file_of_its_settings(dags: Any, dag_id: str) -> None:
    task_id, job, settings_class = DAG_JOBS[dag_id]
    task = dags[dag_id].get_task(task_id)
    values = task.partial_kwargs if task.is_mapped else vars(task)
    assert (values["job"], values["settings_class"]) == (job, settings_class)
    assert values["settings"] == "{{ params.settings }}"


@pytest.mark.parametrize("dag_id", [*DAG_JOBS, *JOBLESS])
def test_a_dag_is_owned_documented_and_retried_with_back_off(dags: Any, dag_id: str) -> None:
    dag = dags[dag_id]
    assert "dubmill" in dag.tags
    assert dag.owner == "dubmill"
    assert dag.description
    assert not dag.catchup
    assert dag.max_active_runs <= 4
    for task in dag.tasks:
        retries = 0 if (dag_id, task.task_id) in NEVER_TRIED_AGAIN else 2
        assert (task.retries, bool(task.retry_exponential_backoff), task.max_retry_delay) == (retries, True, timedelta(minutes=15))


@pytest.mark.parametrize("dag_id", [*DAG_JOBS, *JOBLESS])
def test_the_page_of_a_dag_names_its_tasks_and_parameters_and_says_what_to_do(dags: Any, dag_id: str) -> None:
    dag = dags[dag_id]
    named = {*dag.task_ids, *dag.params}
    assert [name for name in named if f"`{name}`" not in dag.doc_md] == []
    assert dag.doc_md.strip().startswith("### ")
    assert "**When it fails:**" in dag.doc_md
    assert "{" not in dag.doc_md, "a place that was not filled in"


@pytest.mark.parametrize("dag_id", [*DAG_JOBS, *JOBLESS])
def test_each_parameter_has_its_place_in_a_form(dags: Any, dag_id: str) -> None:
    params: ParamsDict = dags[dag_id].params
    for name in params:
        param = params.get_param(name)
        assert param.schema["title"], name
        assert param.schema["section"] in ("Settings", "For this run only"), name
        assert len(param.description) > 20, name
        assert param.schema["type"], name
    params.validate()


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
    assert _outlets(dags["evaluate_models"]) == {"evaluation"}
    assert {asset.name for asset in dags["evaluate_models"].timetable.asset_condition.objects} == {"landmark-generator", "renderer"}
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


@pytest.mark.parametrize(
    ("dag_id", "name", "taken", "refused"),
    [
        ("ingest_corpus", "sources", [["/a", "s3://b/c"], [], None], [[""], "/a", ["/a"] * 513]),
        ("ingest_corpus", "layout", ["lrs2", None], ["lrs3", ""]),
        ("train_renderer", "steps", [1, None], [0, "many", 1.5]),
        ("bulk_dubbing", "only", ["monday.csv", "", None], [1]),
        ("bulk_dubbing", "again", [True], ["yes"]),
        ("maintain_store", "dry_run", [True], ["yes"]),
        ("reconcile_jobs", "grace_s", [0, 600], [-1, "soon"]),
    ],
)
def test_a_form_takes_what_can_be_used_and_nothing_else(dags: Any, dag_id: str, name: str, taken: list[Any], refused: list[Any]) -> None:
    params: ParamsDict = dags[dag_id].params
    for value in taken:
        params[name] = value
        assert params[name] == value
    for value in refused:
        with pytest.raises(Exception, match=f"Invalid input for param {name}"):
            params[name] = value


def test_ingest_has_no_schedule_unless_one_is_set(dags: Any) -> None:
    assert dags["ingest_corpus"].schedule is None
    assert dags["ingest_corpus"].max_active_runs == 1


@pytest.fixture(scope="module")
def fresh(repository: Path) -> Iterator[FreshPython]:
    with FreshPython(repository) as fresh:
        yield fresh


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


def test_folders_and_schedule_come_from_the_environment(fresh: FreshPython) -> None:
    script = """
        from dags.ingest_corpus import dag
        task = dag.get_task("ingest")
        print(dag.schedule, dag.params["settings"], task.partial_kwargs["results"], task.retries)
    """
    changed = {"DUBMILL_SETTINGS": "s3://b/settings/", "DUBMILL_INGEST_SCHEDULE": "@daily", "DUBMILL_TASK_RETRIES": "0"}
    assert fresh.lines(script, changed) == ["@daily s3://b/settings/ingest_corpus.yaml s3://b/settings/results 0"]


def test_owner_pools_and_deadlines_come_from_the_environment(fresh: FreshPython) -> None:
    script = """
        from dags.bulk_dubbing import dag as dub
        from dags.ingest_corpus import dag as ingest
        from dags.train_renderer import dag as train
        print(dub.owner, ingest.get_task("ingest").pool, ingest.get_task("publish").pool, dub.get_task("dub").pool)
        print(*(train.get_task(name).pool for name in ("freeze", "train", "publish")))
        print(*(dag.deadline[0].interval.total_seconds() for dag in (dub, ingest)))
    """
    changed = {
        "DUBMILL_OWNER": "data-team", "DUBMILL_POOL_CPU": "cpus", "DUBMILL_POOL_GPU": "gpus",
        "DUBMILL_DEADLINE_HOURS": "24", "DUBMILL_DEADLINE_HOURS_INGEST_CORPUS": "0.5",
    }  # fmt: skip
    assert fresh.lines(script, changed) == ["data-team cpus default_pool gpus", "cpus gpus gpus", "86400.0 1800.0"]


def test_what_compose_passes_on_without_a_value_is_as_good_as_none(fresh: FreshPython, repository: Path) -> None:
    passed = re.findall(r"^ +(DUBMILL_\w+): \$\{\1:-", (repository / "docker" / "compose.yaml").read_text(), re.MULTILINE)
    assert len(passed) > 20
    script = """
        from dags import defaults, ingest_corpus, reconcile_jobs, train_renderer, training
        from dags.operators.job_owner import deployment
        from dags.review_room.configuration import database_url
        print(defaults.SETTINGS_FOLDER, defaults.RESULTS_FOLDER, defaults.POOL_CPU, defaults.POOL_GPU, defaults.TASK_DEFAULTS["retries"])
        print(ingest_corpus.SOURCES_AT_A_TIME, training.MIN_NEW_CLIPS, deployment(), database_url())
        for dag in (ingest_corpus.dag, reconcile_jobs.dag, train_renderer.dag):
            print(dag.owner, dag.schedule, dag.deadline, dict(dag.params))
    """
    assert fresh.lines(script, dict.fromkeys(passed, "")) == fresh.lines(script)


def test_what_keeps_house_runs_when_it_is_told_to(fresh: FreshPython) -> None:
    script = """
        from dags.maintain_store import dag as maintain
        from dags.reconcile_jobs import dag as reconcile
        print(maintain.schedule, "|", reconcile.schedule)
    """
    assert fresh.lines(script) == ["None | */5 * * * *"]
    assert fresh.lines(script, {"DUBMILL_MAINTAIN_SCHEDULE": "0 5 * * *", "DUBMILL_RECONCILE_SCHEDULE": "none"}) == ["0 5 * * * | None"]


def test_what_starts_a_training_comes_from_the_environment(fresh: FreshPython) -> None:
    script = """
        from dags.train_renderer import dag
        print(dag.params["min_new_clips"], dag.params["selection"], dag.params["publish"])
    """
    changed = {"DUBMILL_SETTINGS": "s3://b/settings/", "DUBMILL_TRAIN_MIN_NEW_CLIPS": "500", "DUBMILL_SELECTION": "s3://b/chosen.yaml"}
    assert fresh.lines(script, changed) == ["500 s3://b/chosen.yaml s3://b/settings/publish.yaml"]


def test_the_folder_is_parsed_within_two_seconds(fresh: FreshPython) -> None:
    """The median of three, each in a process that has Airflow and nothing of ours, as a dag-processor forks them; in seconds of CPU, which do
    not depend on what else the machine does."""
    script = """
        import time
        from airflow.dag_processing.dagbag import DagBag
        before = time.process_time()
        found = len(DagBag("dags").dags)
        print(found, time.process_time() - before)
    """
    said = [fresh.lines(script)[-1].split() for _ in range(3)]
    assert [int(found) for found, _ in said] == [len(DAG_JOBS) + len(JOBLESS)] * 3
    assert median(float(seconds) for _, seconds in said) < PARSE_LIMIT_S


IMPORT_ALL = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(f"dags.{name}")
"""


def test_nothing_is_done_when_a_dag_is_parsed(fresh: FreshPython) -> None:
    """Files other than Python's own are neither read nor written, and nobody is called. A file that is opened after that is noticed."""
    watch = """
import sys
import fsspec, httpx, pydantic, yaml
done = []
def note(event, arguments):
    if event == "open" and not str(arguments[0]).endswith((".py", ".pyc")):
        done.append(f"open {arguments[0]}")
    if event.startswith(("socket.", "subprocess.", "os.system", "os.mkdir", "os.remove", "os.rename", "shutil.", "sqlite3.")):
        done.append(event)
sys.addaudithook(note)
"""
    tell = """
print(done)
open("README.md").close()
print(done)
"""
    assert fresh.lines(watch + IMPORT_ALL + tell, {}, *DAG_JOBS, *JOBLESS) == ["[]", "['open README.md']"]


def test_dags_bring_nothing_heavy_along(fresh: FreshPython) -> None:
    heavy = {"torch", "ray", "cv2", "numpy", "pandas", "pyarrow", "s3fs", "botocore", "aiobotocore", "matplotlib", "tasks", "models", "ray_jobs"}
    tell = f"print(sorted({heavy!r} & sys.modules.keys()))"
    assert fresh.lines(IMPORT_ALL + tell, {}, *DAG_JOBS, *JOBLESS) == ["[]"]


def _outlets(dag: Any) -> set[str]:
    return {asset.name for task in dag.tasks for asset in task.outlets}
