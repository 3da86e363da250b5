"""What the DAGs share: where settings and results lie, what a task does that fails, and what bounds a run."""

import math
import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference, Param

from dags.webhook import tell_of_delay, tell_of_failure

SETTINGS_FOLDER = (os.environ.get("DUBMILL_SETTINGS") or "/etc/dubmill").rstrip("/")
"""Folder or s3:// prefix of the settings files, one a DAG, that Airflow and the cluster both reach."""
RESULTS_FOLDER = (os.environ.get("DUBMILL_RESULTS") or f"{SETTINGS_FOLDER}/results").rstrip("/")
"""Folder or s3:// prefix of the jobs' results, small JSON files; one writes them, the other reads them."""

START_DATE = datetime(2025, 1, 1, tzinfo=UTC)
"""Before any run; nothing is caught up from then on."""
MOST_MAPPED = 512
"""Tasks that one task becomes at most. Airflow's own limit is twice that (`[core] max_map_length`); a run beyond it fails."""

POOL_CPU = os.environ.get("DUBMILL_POOL_CPU") or "default_pool"
"""Pool of the tasks whose Ray job needs no GPU. A pool holds tasks back before Ray sees them; what runs where is Ray's decision."""
POOL_GPU = os.environ.get("DUBMILL_POOL_GPU") or "default_pool"
"""Pool of the tasks whose Ray job wants GPUs. A pool must exist, and count deferred tasks: `airflow pools set NAME 4 TEXT --include-deferred`."""

DEADLINE_VARIABLE = "DUBMILL_DEADLINE_HOURS"
THIS_RUN = "For this run only"
"""The section of a DAG's form with what replaces a setting once."""


def whole_number(variable: str, default: int) -> int:
    """What an environment variable says. An empty one is as good as none: whoever passes it on may have no value for it."""
    return int(os.environ.get(variable) or default)


TASK_DEFAULTS: dict[str, Any] = {
    "owner": os.environ.get("DUBMILL_OWNER") or "dubmill",
    "retries": whole_number("DUBMILL_TASK_RETRIES", 2),
    "retry_delay": timedelta(minutes=1),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=15),
    "on_failure_callback": tell_of_failure,
}


def settings_param(dag_id: str) -> Param:
    """The parameter `settings` of a DAG: by default its own file in the settings folder."""
    return Param(
        f"{SETTINGS_FOLDER}/{dag_id}.yaml",
        type="string",
        minLength=1,
        title="Settings",
        description="Path or URI of the YAML file with the job's settings; Airflow and the Ray cluster must both reach it.",
        section="Settings",
    )


def deadline_of(dag_id: str) -> DeadlineAlert | None:
    """Tells the webhook of a run that goes on after DUBMILL_DEADLINE_HOURS_<DAG>, or else DUBMILL_DEADLINE_HOURS; none where neither is set.

    Counted from when the run is queued: runs by hand and by assets have no logical date. Raises ValueError for what is no number of hours.
    """
    hours = _hours(f"{DEADLINE_VARIABLE}_{dag_id.upper()}") or _hours(DEADLINE_VARIABLE)
    if hours is None:
        return None
    callback = AsyncCallback(tell_of_delay, {"hours": hours})
    return DeadlineAlert(DeadlineReference.DAGRUN_QUEUED_AT, timedelta(hours=hours), callback, name=f"{dag_id} within {hours:g} h")


def _hours(variable: str) -> float | None:
    text = os.environ.get(variable, "").strip()
    if not text:
        return None
    try:
        hours = float(text)
    except ValueError:
        hours = math.nan
    if not 0 < hours < math.inf:
        raise ValueError(f"{variable} is {text}, which is no number of hours above 0.")
    return hours
