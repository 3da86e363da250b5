"""The DAG `reconcile_jobs`: Ray jobs whose Airflow task is no longer alive are stopped.

A DAG of its own beside `maintain_store`: a job that nobody waits for costs GPUs by the minute, garbage by the night.
"""

import logging
import os
from functools import partial
from typing import Any

from airflow.sdk import DAG, Param, task
from airflow.sdk.exceptions import AirflowException

from dags.defaults import START_DATE, TASK_DEFAULTS, THIS_RUN, deadline_of
from dags.living_tasks import is_alive
from dags.operators.orphaned_jobs import stop_orphaned_jobs
from dags.operators.ray_jobs_api import RayJobsError

CONNECTION = "ray_default"
"""Airflow's connection of Ray's job API, as that of every job."""
EVERY_FIVE_MINUTES = "*/5 * * * *"
GRACE_S = 120
"""Seconds in which a job's task is let be seen as alive: it may still be on its way into Airflow's database."""

log = logging.getLogger(__name__)

DOCUMENTATION = """
### Jobs that nobody waits for are stopped
A task that is cleared, marked or failed stops its Ray job itself. It cannot where nobody is there to do so: the triggerer was down
when a person acted, a machine was lost with all that ran on it, a run was deleted. **`stop_orphans`** looks at the jobs that run on the
cluster of the connection `ray_default` and were started by this Airflow, and stops those whose task is no longer alive.

* **Alive** is a task that waits, runs, is deferred or is to be tried again, in a run that is not finished. A task that failed is not, nor one whose
  run was marked or deleted; nor one that was cleared, once its successor has a job.
* **Schedule:** every five minutes, or what the environment variable `DUBMILL_RECONCILE_SCHEDULE` says; `none` for no schedule. It is not
  paused when it is new: it only ever stops what nobody waits for.
* **Left alone** are jobs younger than `grace_s`, jobs that are over, and jobs that were not started by a task of this Airflow.
* **Parameters**, for one run only: `grace_s`; `tell_only`, which names the jobs in the log and stops none.
* **When it fails:** Ray does not answer, or refuses the token. Nothing was stopped, and the next run looks again; so it is not retried, and the
  failure webhook is not told, which would hear of it every five minutes.
"""


@task(retries=0, on_failure_callback=None)  # type: ignore[untyped-decorator]  # Airflow is not in the environment that checks types
def stop_orphans(*, params: Any = None, ti: Any = None) -> list[str]:
    """Stops jobs whose task is no longer alive; gives their submission ids."""
    try:
        return stop_orphaned_jobs(CONNECTION, partial(is_alive, ti), log.info, grace_s=float(params["grace_s"]), tell_only=bool(params["tell_only"]))
    except RayJobsError as error:
        raise AirflowException(str(error)) from error


def schedule() -> str | None:
    """When it runs, unless that is switched off."""
    said = os.environ.get("DUBMILL_RECONCILE_SCHEDULE") or EVERY_FIVE_MINUTES
    return None if said.strip().lower() == "none" else said


with DAG(
    "reconcile_jobs",
    description="Ray jobs that no task waits for are stopped",
    schedule=schedule(),
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    allowed_run_types=["scheduled", "manual", "operator_triggered"],  # there is nothing to do for times that are past
    default_args=TASK_DEFAULTS,
    deadline=deadline_of("reconcile_jobs"),
    params={
        "grace_s": Param(
            GRACE_S,
            type="integer",
            minimum=0,
            title="Grace",
            description="Seconds for which a job is left alone in any case.",
            section=THIS_RUN,
        ),
        "tell_only": Param(
            default=False,
            type="boolean",
            title="Tell only",
            description="The log names the jobs that nobody waits for; none is stopped.",
            section=THIS_RUN,
        ),
    },
    tags=["dubmill", "operations"],
    doc_md=DOCUMENTATION,
) as dag:
    stop_orphans()
