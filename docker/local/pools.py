"""Airflow's pools, by its REST API: how many tasks may be at work on the cores and on the GPUs of a machine at a time."""

import os
from collections.abc import Mapping
from pathlib import Path

import httpx
from environments import ADMIN
from services import ServiceError

CPU_VARIABLE, GPU_VARIABLE = "DUBMILL_POOL_CPU", "DUBMILL_POOL_GPU"
"""Names of the pools that the DAGs' tasks are in."""
LONGEST_ANSWER_S = 30.0
GPU_FOLDER = Path("/proc/driver/nvidia/gpus")
"""Where NVIDIA's driver lists the machine's GPUs."""


def pool_names() -> dict[str, str]:
    """The environment by which the DAGs find their pools: as the user named them, or `cpu` and `gpu`."""
    return {variable: os.environ.get(variable) or name for variable, name in ((CPU_VARIABLE, "cpu"), (GPU_VARIABLE, "gpu"))}


def slots_of_this_machine(cpus: int) -> dict[str, int]:
    """Slots by the variable that names the pool: a core each, and a GPU each; without a GPU one, for what then runs on the cores."""
    return {CPU_VARIABLE: cpus, GPU_VARIABLE: max(1, len(list(GPU_FOLDER.glob("*"))))}


def make_pools(airflow_url: str, password: str, slots: Mapping[str, int]) -> None:
    """Makes those pools that are not there yet; one that is there stays as the user set it. Raises ServiceError.

    slots: by the pool's name. Deferred tasks count: a task that waits for its Ray job waits deferred.
    """
    with httpx.Client(base_url=airflow_url, trust_env=False, timeout=LONGEST_ANSWER_S) as client:
        try:
            token = _checked(client.post("/auth/token", json={"username": ADMIN, "password": password})).json()["access_token"]
            client.headers["Authorization"] = f"Bearer {token}"
            there = {pool["name"] for pool in _checked(client.get("/api/v2/pools", params={"limit": 1000})).json()["pools"]}
            for name in slots.keys() - there:
                _checked(client.post("/api/v2/pools", json={"name": name, "slots": slots[name], "include_deferred": True}))
        except httpx.TransportError as error:
            raise ServiceError(f"Airflow's pools could not be made: its API server does not answer ({type(error).__name__}).") from error


def _checked(response: httpx.Response) -> httpx.Response:
    if not response.is_success:
        raise ServiceError(f"Airflow's pools could not be made: its API server answers {response.status_code} to {response.request.url.path}.")
    return response
