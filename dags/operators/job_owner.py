"""Whose a Ray job is: the Airflow task that submitted it, told in the job's metadata so that others can find it."""

import hashlib
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from airflow.configuration import AIRFLOW_HOME, conf

DEPLOYMENT_VARIABLE = "DUBMILL_DEPLOYMENT"
"""Environment variable: the name of this Airflow among those that share a Ray cluster, in the ids of its jobs and in their metadata. Default:
made of Airflow's base URL, or without one of this machine's name and AIRFLOW_HOME: components on several machines need one of the two."""
DEPLOYMENT_KEY = "airflow"
"""Key of the metadata that holds that name: jobs of another Airflow are left alone."""


Place = tuple[str, str, str, int]
"""Dag, run, task and map index: a task instance, whatever its generation."""


@dataclass(frozen=True)
class JobOwner:
    """A task instance, and its generation: `max_tries` grows with each clear."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    max_tries: int

    @property
    def place(self) -> Place:
        """Whose job it is, whatever the generation."""
        return self.dag_id, self.run_id, self.task_id, self.map_index

    def __str__(self) -> str:
        return f"{self.dag_id}/{self.run_id}/{self.task_id}" + (f"[{self.map_index}]" if self.map_index >= 0 else "")

    @classmethod
    def of(cls, ti: Any) -> Self:
        """The owner that a task instance is."""
        return cls(ti.dag_id, ti.run_id, ti.task_id, ti.map_index, ti.max_tries)

    @classmethod
    def told_in(cls, metadata: Mapping[str, str]) -> Self | None:
        """The owner that a job's metadata name; None where they name none of this Airflow."""
        if metadata.get(DEPLOYMENT_KEY) != deployment():
            return None
        try:
            return cls(metadata["dag_id"], metadata["run_id"], metadata["task_id"], int(metadata["map_index"]), int(metadata["max_tries"]))
        except (KeyError, ValueError):
            return None

    def metadata(self) -> dict[str, str]:
        """What a job tells of its owner; Ray takes texts alone."""
        return {**{name: str(value) for name, value in vars(self).items()}, DEPLOYMENT_KEY: deployment()}


def deployment() -> str:
    """The name of this Airflow, the same in its workers, triggerers and DAGs."""
    if named := os.environ.get(DEPLOYMENT_VARIABLE):
        return named
    base_url = conf.get("api", "base_url", fallback="") or f"{socket.gethostname()}:{AIRFLOW_HOME}"
    return hashlib.sha256(base_url.encode()).hexdigest()[:12]
