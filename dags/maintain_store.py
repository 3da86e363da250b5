"""The DAG `maintain_store`: what nothing names is deleted from the corpus store, and batches are read back."""

import os
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Param, task
from airflow.sdk.exceptions import AirflowFailException

from dags.defaults import POOL_CPU, RESULTS_FOLDER, START_DATE, TASK_DEFAULTS, THIS_RUN, deadline_of, settings_param
from dags.operators.ray_job import RayJobOperator
from schemas.errors import SettingsError
from schemas.settings import MaintainSettings, check_settings, read_settings

DOCUMENTATION = """
### The corpus store is kept in order
1. **`plan`** reads the settings file. Settings that cannot be used fail here, before anything is deleted.
2. **`gc`** (Ray job `ray_jobs.maintain_store`) deletes finished batches that no snapshot names, what killed runs left behind, and temporary
   files, all older than `older_than_days` (30). A store without any snapshot keeps its finished batches. It is `dubmill corpus gc`: the log names
   each batch that went, and the task's XCom has the counts. Deleted sources are new to the next ingest that meets them.
3. **`verify`** (the same job) reads batches back, every row, picture and sound of them, on the cluster's cores; and every snapshot. That is
   `dubmill corpus verify`, of `verify_batches` (100) batches drawn anew each day, or of all. It runs also when `gc` failed.
4. **`every_step`** does nothing; it is red when one of the two failed, and with it the run.

* **Schedule:** none unless the environment variable `DUBMILL_MAINTAIN_SCHEDULE` gives one, for example `0 5 * * *`. Choose a time at which no
  training freezes its snapshot.
* **Parameters:** `settings`, a YAML file with `store`, and if you like `older_than_days`, `verify_batches`, `dry_run`. For one run only: `dry_run`,
  which lets `gc` say what it would delete; and `verify_all`, which reads every batch back.
* **Pool:** both jobs take a slot of `{pool}`.
* **When it fails:** a `verify` that finds faults fails once it has looked at everything. Its log has a line for each fault, and its last
  sentence says how many there are. Copy damaged files back from a backup, or ingest what they touch again into a new store; then clear
  `verify`, or look on the spot with `dubmill corpus verify`. It is not tried again by itself: it would find the same. `plan` and `gc` are tried again
  {retries} times, and a try finds a job that still runs.
"""


@task(multiple_outputs=True)  # type: ignore[untyped-decorator]  # Airflow is not in the environment that checks types
def plan(location: str, *, params: Any = None) -> dict[str, dict[str, Any]]:
    """What differs from the settings file, for `gc` and for `verify`. Raises AirflowFailException for settings that cannot be used."""
    try:
        check_settings(MaintainSettings, read_settings(location))
    except SettingsError as error:
        raise AirflowFailException(f"{location}: {error}") from error
    return {
        "gc": {"steps": ["gc"], **({"dry_run": True} if params["dry_run"] else {})},
        "verify": {"steps": ["verify"], **({"verify_batches": None} if params["verify_all"] else {})},
    }


def _maintain(step: str, **arguments: Any) -> RayJobOperator:
    return RayJobOperator(
        task_id=step,
        job="maintain_store",
        settings="{{ params.settings }}",
        settings_class=MaintainSettings,
        results=RESULTS_FOLDER,
        pool=POOL_CPU,
        **arguments,
    )


with DAG(
    "maintain_store",
    description="The corpus store: garbage goes, batches are read back",
    schedule=os.environ.get("DUBMILL_MAINTAIN_SCHEDULE") or None,
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    allowed_run_types=["scheduled", "manual", "operator_triggered"],  # there is nothing to do for times that are past
    default_args=TASK_DEFAULTS,
    deadline=deadline_of("maintain_store"),
    params={
        "settings": settings_param("maintain_store"),
        "dry_run": Param(
            default=False,
            type="boolean",
            title="Dry run",
            description="`gc` says in its log what it would delete, and deletes nothing.",
            section=THIS_RUN,
        ),
        "verify_all": Param(
            default=False,
            type="boolean",
            title="Verify all",
            description="`verify` reads every batch back. Unset: as many as the settings file says.",
            section=THIS_RUN,
        ),
    },
    tags=["dubmill", "corpus", "operations"],
    doc_md=DOCUMENTATION.format(pool=POOL_CPU, retries=TASK_DEFAULTS["retries"]),
) as dag:
    planned = plan("{{ params.settings }}")
    gc = _maintain("gc", overrides=planned["gc"])
    # Not tried again: what it finds does not go away, and it may have read for hours.
    verify = _maintain("verify", overrides=planned["verify"], trigger_rule="all_done_min_one_success", retries=0)
    # `verify` runs although `gc` failed, and a run is what its last tasks are: without the last one it would show no failure.
    gc >> verify
    [gc, verify] >> EmptyOperator(task_id="every_step")
