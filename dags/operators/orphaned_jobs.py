"""A stand-in for the module of this name that comes with the deferrable operator: its interface alone."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class JobOwner:
    """A task instance, and its generation: `max_tries` grows with each clear."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    max_tries: int


def stop_orphaned_jobs(connection_id: str, is_alive: Callable[[JobOwner], bool], say: Callable[[str], object], grace_s: float = 120.0) -> list[str]:
    """Stops running jobs of this Airflow whose owner is not alive, once they are older than the grace; gives their ids."""
    raise NotImplementedError
