"""The DAG `train_landmark_generator`: the landmark generator's weights from the corpus."""

from airflow.sdk import DAG

from dags.assets import CORPUS, LANDMARK_GENERATOR
from dags.defaults import RESULTS_FOLDER, START_DATE, TASK_DEFAULTS, settings_param
from dags.operators.ray_job import RayJobOperator
from schemas.settings import LandmarkGeneratorTraining

DOCUMENTATION = """
### Speech and head pose to mouth and jaw
Runs the Ray job `ray_jobs.train_landmark_generator`: freezes a snapshot of the corpus unless the settings name one, trains,
and leaves `landmark-generator.safetensors` in the folder `out` of the settings.

* **Runs** when the asset `corpus` was published, or by hand.
* **Parameter `settings`:** the YAML file of `dubmill train landmark-generator --settings`.
* **Publishes** the asset `landmark-generator`, with the checkpoint's URI, its step and its losses on held-out clips.
* **When it fails:** the task's log ends with the job's last lines. A retry goes on from the last state of its own run; a new
  run, or a cleared task, starts afresh.
"""

with DAG(
    "train_landmark_generator",
    description="The landmark generator's weights from the corpus",
    schedule=[CORPUS],
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    default_args=TASK_DEFAULTS,
    params={"settings": settings_param("train_landmark_generator")},
    tags=["dubmill", "training"],
    doc_md=DOCUMENTATION,
) as dag:
    RayJobOperator(
        task_id="train",
        job="train_landmark_generator",
        settings="{{ params.settings }}",
        settings_class=LandmarkGeneratorTraining,
        results=RESULTS_FOLDER,
        outlets=[LANDMARK_GENERATOR],
    )
