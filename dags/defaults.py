"""What the DAGs share: where settings and results lie, and what happens to a task that fails."""

import os
from datetime import UTC, datetime, timedelta

from airflow.sdk import Param

SETTINGS_FOLDER = os.environ.get("DUBMILL_SETTINGS", "/etc/dubmill").rstrip("/")
"""Folder or s3:// prefix of the settings files, one a DAG, that Airflow and the cluster both reach."""
RESULTS_FOLDER = os.environ.get("DUBMILL_RESULTS", f"{SETTINGS_FOLDER}/results").rstrip("/")
"""Folder or s3:// prefix of the jobs' results, small JSON files; one writes them, the other reads them."""

START_DATE = datetime(2025, 1, 1, tzinfo=UTC)
"""Before any run; nothing is caught up from then on."""

TASK_DEFAULTS = {
    "owner": "dubmill",
    "retries": int(os.environ.get("DUBMILL_TASK_RETRIES", "2")),
    "retry_delay": timedelta(minutes=1),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=15),
}


def settings_param(dag_id: str) -> Param:
    """The parameter `settings` of a DAG: by default its own file in the settings folder."""
    return Param(
        f"{SETTINGS_FOLDER}/{dag_id}.yaml",
        type="string",
        minLength=1,
        title="Settings",
        description="Path or URI of the YAML file with the job's settings; Airflow and the Ray cluster must both reach it.",
    )
