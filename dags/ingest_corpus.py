"""The DAG `ingest_corpus`: new footage into the corpus store."""

import os
from typing import Any

from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowSkipException

from dags.assets import CORPUS
from dags.defaults import RESULTS_FOLDER, START_DATE, TASK_DEFAULTS, settings_param
from dags.operators.ray_job import RayJobOperator
from schemas.settings import IngestSettings

DOCUMENTATION = """
### Footage in, clips out
Runs the Ray job `ray_jobs.ingest`: finds the sources that the settings name, leaves out those that the store already has,
and writes the others as batches of clips, or as rejects with a reason. Running it again is safe: a finished batch never
changes, and known sources are not read again.

* **Schedule:** none unless the environment variable `DUBMILL_INGEST_SCHEDULE` gives one, for example `@daily` or `0 3 * * *`.
* **Parameter `settings`:** the YAML file of `dubmill ingest --settings`.
* **Publishes** the asset `corpus`, with the counts of the run: sources, known, batches, clips, frames, rejects. The task
  `publish` is skipped when the run brought no clip: without anything new to learn from, no training starts.
* **When it fails:** the task's log ends with the job's last lines. A retry finds a running job again.
"""


@task(outlets=[CORPUS])  # type: ignore[untyped-decorator]  # Airflow is not in the environment that checks types
def publish(ingested: dict[str, Any], *, outlet_events: Any = None) -> None:
    """Tells of new clips: an event of the asset with the counts of the run. Without any it is skipped, and nothing follows."""
    if not ingested["clips"]:
        raise AirflowSkipException("There is no new clip, so nothing is trained anew.")
    outlet_events[CORPUS].extra = ingested


with DAG(
    "ingest_corpus",
    description="New footage into the corpus store",
    schedule=os.environ.get("DUBMILL_INGEST_SCHEDULE") or None,
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    default_args=TASK_DEFAULTS,
    params={"settings": settings_param("ingest_corpus")},
    tags=["dubmill", "corpus"],
    doc_md=DOCUMENTATION,
) as dag:
    ingest = RayJobOperator(
        task_id="ingest",
        job="ingest",
        settings="{{ params.settings }}",
        settings_class=IngestSettings,
        results=RESULTS_FOLDER,
    )
    publish(ingest.output)
