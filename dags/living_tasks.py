"""Whether the Airflow task that a Ray job belongs to is still alive, asked from within a task, which cannot look into Airflow's database."""

from typing import Any

from dags.operators.job_owner import JobOwner

UNFINISHED_RUNS = ["queued", "running"]
UNFINISHED_TASKS = ["null", "scheduled", "queued", "running", "restarting", "deferred", "up_for_retry", "up_for_reschedule", "awaiting_input"]
"""States of a task that may still take its job up again. null: a task that waits for the scheduler, as after the death of one."""


def is_alive(ti: Any, owner: JobOwner) -> bool:
    """Whether a task is not finished, nor its run. ti: the task instance that asks. Airflow does not tell a task of another's generation."""
    if not ti.get_dr_count(dag_id=owner.dag_id, run_ids=[owner.run_id], states=UNFINISHED_RUNS):
        return False
    unfinished: int = ti.get_ti_count(dag_id=owner.dag_id, run_ids=[owner.run_id], task_ids=[owner.task_id], map_index=owner.map_index, states=UNFINISHED_TASKS)
    return unfinished > 0
