"""The DAG `bulk_dubbing`: a list of (video, speech) pairs to dubbed videos."""

from airflow.sdk import DAG

from dags.defaults import RESULTS_FOLDER, START_DATE, TASK_DEFAULTS, settings_param
from dags.operators.ray_job import RayJobOperator
from schemas.settings import BulkDubSettings

CONCURRENT_LISTS = 4
"""Job lists dubbed at a time; Ray shares its machines out among them."""

DOCUMENTATION = """
### A list of videos and speeches in, dubbed videos out
Runs the Ray job `ray_jobs.dub`: reads the job list that the settings name, dubs each pair, and writes a row of results for
each, done or failed with a reason. Jobs that an earlier run finished are not done again.

* **Schedule:** none; runs by hand or over Airflow's API.
* **Parameter `settings`:** the YAML file of `dubmill bulk-dub --settings`: job list, `out`, both checkpoints.
* **Returns** the counts: jobs, already done, done, failed by reason, and where the result tables are.
* **When it fails:** the task's log ends with the job's last lines. One bad pair never fails the run.
"""

with DAG(
    "bulk_dubbing",
    description="A list of videos and speeches to dubbed videos",
    schedule=None,
    start_date=START_DATE,
    catchup=False,
    max_active_runs=CONCURRENT_LISTS,
    default_args=TASK_DEFAULTS,
    params={"settings": settings_param("bulk_dubbing")},
    tags=["dubmill", "dubbing"],
    doc_md=DOCUMENTATION,
) as dag:
    RayJobOperator(
        task_id="dub",
        job="dub",
        settings="{{ params.settings }}",
        settings_class=BulkDubSettings,
        results=RESULTS_FOLDER,
    )
