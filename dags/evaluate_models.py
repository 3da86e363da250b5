"""The DAG `evaluate_models`: the published networks dub the test clips, and are measured beside the real ones."""

import json
import re
from typing import Any

import fsspec
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from dags.assets import EVALUATION, LANDMARK_GENERATOR, RENDERER
from dags.defaults import POOL_GPU, RESULTS_FOLDER, START_DATE, TASK_DEFAULTS, deadline_of, settings_param
from dags.operators.ray_job import RayJobOperator
from schemas.errors import SettingsError
from schemas.locations import is_remote, reachable, without_secrets
from schemas.settings import EvaluateSettings, check_settings, read_settings

SUMMARY = "summary.json"
"""What a job leaves in its folder beside the tables."""
CURRENT = "current.json"
"""What names the version of a published network that is in use."""

DOCUMENTATION = f"""
### The published networks, measured on clips that no training saw
1. **`plan`** reads the settings, which name the corpus store and both networks (`<models>/<kind>/current.json` for those in use), all
   in places that Airflow reaches, too. As long as one of them is not published yet the run is skipped. Settings that cannot be used fail here.
2. **`evaluate`** (Ray job `ray_jobs.evaluate`) dubs each test clip with its own speech and with another's, and compares it with the real
   one, into a folder of this run's own below `out` of the settings: `clips.parquet`, `summary.json`, and `videos/` to look at.
3. **`announce`** updates the asset `evaluation` with the figures, the versions of the networks and that folder.

* **Runs** when either network is published, or by hand.
* **Parameter `settings`:** the YAML file of `dubmill evaluate --settings`. Without `snapshot` the test clips are those of the snapshot that
  the renderer was trained on.
* **Pool:** the job takes a slot of `{POOL_GPU}`.
* **The page of a run:** `dubmill report evaluation <out>/<run> --html evaluation.html`.
* **Cleaning up:** the runs' folders below `out` stay until you remove them; nothing reads them again.
* **When it fails:** the task's log ends with the sentence of its job and that job's last lines. A pair that cannot be compared fails no run: it
  is named in the summary. Each task is tried again {TASK_DEFAULTS["retries"]} times, unless its settings are at fault, and a try finds a job that
  still runs. After that mend what the sentence names, and clear the failed task.
"""


@task  # type: ignore[untyped-decorator]  # Airflow is not in the environment that checks types
def plan(settings: str, *, dag_run: Any = None) -> dict[str, Any]:
    """The folder of this run. Skipped while a network is not published."""
    try:
        checked = check_settings(EvaluateSettings, read_settings(settings))
    except SettingsError as error:
        raise AirflowFailException(f"{settings}: {error}") from error
    if not (checked.store and checked.landmark_generator and checked.renderer):
        raise AirflowFailException(f"{settings}: give store, landmark_generator and renderer: this DAG measures networks, on the test clips of a store.")
    for network in (checked.landmark_generator, checked.renderer):
        if network.rpartition("/")[2] == CURRENT and not _is_there(network):
            raise AirflowSkipException(f"No network is published at {without_secrets(network)} yet{_as_seen_from_here(network)}.")
    return {"out": f"{checked.out.rstrip('/')}/{re.sub(r'[^A-Za-z0-9._-]+', '-', dag_run.run_id)}"}


def _as_seen_from_here(location: str) -> str:
    """A folder that only the cluster has would look empty for ever."""
    return "" if is_remote(location) else ", as Airflow sees it: models are to be published where Airflow and the cluster both reach them"


def _is_there(location: str) -> bool:
    """Raises AirflowException, to be tried again, where that cannot be told."""
    try:
        with reachable(location, SettingsError):
            filesystem, path = fsspec.core.url_to_fs(location)
            filesystem.invalidate_cache()
            return bool(filesystem.exists(path))
    except (OSError, SettingsError) as error:
        raise AirflowException(without_secrets(f"{location} cannot be looked at: {error}")) from error


@task(outlets=[EVALUATION])  # type: ignore[untyped-decorator]
def announce(summary: dict[str, Any], *, outlet_events: Any = None) -> None:
    """Updates the asset with what was found."""
    outlet_events[EVALUATION].extra = figures_of(_read_figures(summary["out"]))


def _read_figures(out: str) -> dict[str, Any]:
    """The summary as the job left it: of the job's result the task gives only how long its list of metrics is. Raises AirflowException, to be tried again."""
    location = f"{out.rstrip('/')}/{SUMMARY}"
    try:
        with reachable(location, SettingsError), fsspec.open(location, "rt", encoding="utf-8") as file:
            found: dict[str, Any] = json.load(file)
    except (OSError, ValueError, SettingsError) as error:
        raise AirflowException(without_secrets(f"{location} cannot be read: {error}")) from error
    return found


def figures_of(summary: dict[str, Any]) -> dict[str, Any]:
    """What an event carries: the folder, counts, versions, and each metric of the generated and of the real video."""
    told = ("out", "pairs", "compared", "models", "snapshot", "absent", "gate")
    metrics = {figure["name"]: {side: figure[side]["value"] if figure[side] else None for side in ("generated", "real")} for figure in summary["metrics"]}
    return {**{name: summary[name] for name in told}, "metrics": metrics}


with DAG(
    "evaluate_models",
    description="The published networks, measured on test clips beside the real video",
    schedule=(LANDMARK_GENERATOR | RENDERER),
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    default_args=TASK_DEFAULTS,
    deadline=deadline_of("evaluate_models"),
    params={"settings": settings_param("evaluate_models")},
    tags=["dubmill", "evaluation"],
    doc_md=DOCUMENTATION,
) as dag:
    evaluate = RayJobOperator(
        task_id="evaluate",
        job="evaluate",
        settings="{{ params.settings }}",
        settings_class=EvaluateSettings,
        overrides=plan("{{ params.settings }}"),
        results=RESULTS_FOLDER,
        pool=POOL_GPU,
    )
    announce(evaluate.output)
