"""Whether the Airflow task that a Ray job belongs to is still alive, asked from within a task, which cannot look into Airflow's database."""

from dataclasses import dataclass, field
from typing import Any

from dags.operators.orphaned_jobs import JobOwner

UNFINISHED_RUNS = ["queued", "running"]
UNFINISHED_TASKS = ["null", "scheduled", "queued", "running", "restarting", "deferred", "up_for_retry", "up_for_reschedule", "awaiting_input"]
"""States of a task that may still take its job up again. null: a task that waits for the scheduler, as after the death of one."""

Place = tuple[str, str, str, int]
"""Dag, run, task and map index: a task instance, whatever its generation."""


@dataclass
class LivingTasks:
    """What Airflow says of tasks, and which generations of them have jobs. ti: the task instance that asks."""

    ti: Any
    newest: dict[Place, int] = field(default_factory=dict)

    def meet(self, owner: JobOwner) -> bool:
        """Takes notice of a generation that has a job; always True. Airflow itself does not tell a task of another's generation."""
        self.newest[_place(owner)] = max(owner.max_tries, self.newest.get(_place(owner), 0))
        return True

    def has(self, owner: JobOwner) -> bool:
        """Whether this task is alive: it is not finished, nor is its run, and no later generation of it has a job."""
        if owner.max_tries < self.newest.get(_place(owner), 0):
            return False
        if not self.ti.get_dr_count(dag_id=owner.dag_id, run_ids=[owner.run_id], states=UNFINISHED_RUNS):
            return False
        unfinished: int = self.ti.get_ti_count(
            dag_id=owner.dag_id, run_ids=[owner.run_id], task_ids=[owner.task_id], map_index=owner.map_index, states=UNFINISHED_TASKS
        )
        return unfinished > 0


def _place(owner: JobOwner) -> Place:
    return owner.dag_id, owner.run_id, owner.task_id, owner.map_index
