"""`make up` for real: each component is killed once, comes again, and Ctrl-C ends all of it."""

import importlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.airflow_api import AirflowApi

LOCAL = Path(__file__).parents[2] / "docker" / "local"
sys.path.insert(0, str(LOCAL))
services = importlib.import_module("services")  # plain scripts: the folder `docker` is no package
processes = importlib.import_module("processes")

AIRFLOW_COMPONENTS = ("api-server", "scheduler", "triggerer", "dag-processor")
LIMIT_S = 900
COME_AGAIN_S = 240.0
SCREEN = re.compile(
    r"Airflow {4}(?P<airflow>http://\S+) {4}user admin, password (?P<password>\S+)\nReview {5}(?P=airflow)/review-room/ .*\nRay {8}(?P<ray>http://\S+)\n"
)

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(LIMIT_S),
    pytest.mark.skipif(not services.AIRFLOW.exists(), reason="needs the control environment beside the data one"),
]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Path, "subprocess.Popen[bytes]", re.Match[str]]]:
    """The folder, the process and the screen of a `make up` that has come up."""
    folder, screen = tmp_path / "up", tmp_path / "screen"
    with screen.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-u", LOCAL / "up.py", "--folder", folder, "--cpus", "1"], stdout=file, stderr=file)
    try:
        wait_until(lambda: SCREEN.search(screen.read_text()) is not None or process.poll() is not None, COME_AGAIN_S)
        found = SCREEN.search(screen.read_text())
        assert found, screen.read_text()
        yield folder, process, found
    finally:
        print(screen.read_text())
        process.send_signal(signal.SIGINT)
        process.wait(60)


def test_what_is_killed_comes_again_and_ctrl_c_ends_it_all(running: tuple[Path, "subprocess.Popen[bytes]", re.Match[str]]) -> None:
    folder, process, screen = running
    shown = folder.parent / "screen"
    table = shown.read_text().partition("\nListening")[2].partition("\n\n")[0].splitlines()[1:]
    assert {line.split()[0] for line in table} >= {"api-server", "ray"}
    assert all(processes.is_loopback(line.split()[2]) for line in table)
    assert pools(screen) == {"cpu": (1, True), "gpu": (1, True)}
    for name in (*AIRFLOW_COMPONENTS, services.RAY):
        killed = first_process(process.pid, name)
        assert killed, name
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda name=name: f"{name} ended by SIGKILL and is started again in 1 s" in shown.read_text(), 30)
        wait_until(lambda name=name, killed=killed: first_process(process.pid, name) not in (None, killed) and is_well(screen), COME_AGAIN_S)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert shown.read_text().endswith("All of it has ended.\n")
    assert processes.processes_of(folder) == []


def first_process(supervisor: int, component: str) -> int | None:
    """The process that a component began with: a child of `make up` that is called so. (Airflow's processes write their titles over their environment.)"""
    called = "/ray start --head" if component == services.RAY else f"airflow {component}"
    children = [process for process in processes.all_processes() if parent_of(process) == supervisor]
    return next((child for child in children if called in " ".join(processes.command_of(child)).replace("api_server", "api-server")), None)


def parent_of(process: int) -> int | None:
    """None for one that has ended."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def is_well(screen: re.Match[str]) -> bool:
    """Whether Airflow's health page counts all four as well, and Ray takes jobs."""
    try:
        parts = httpx.get(f"{screen['airflow']}/api/v2/monitor/health", trust_env=False).json()
        ray = httpx.get(f"{screen['ray']}/api/v0/nodes", trust_env=False, timeout=30).json()["data"]["result"]["result"]
    except (httpx.TransportError, ValueError, KeyError, TypeError):
        return False
    well = all((parts.get(name) or {}).get("status") == "healthy" for name in ("metadatabase", "scheduler", "triggerer", "dag_processor"))
    return well and [node["state"] for node in ray] == ["ALIVE"]


def pools(screen: re.Match[str]) -> dict[str, tuple[int, bool]]:
    """Slots of Airflow's pools but its own, and whether deferred tasks count."""
    with AirflowApi(screen["airflow"], "admin", screen["password"]) as api:
        found = api.client.get("/pools").raise_for_status().json()["pools"]
    return {pool["name"]: (pool["slots"], pool["include_deferred"]) for pool in found if pool["name"] != "default_pool"}


def wait_until(is_so: Callable[[], bool], limit_s: float) -> None:
    """Waits until it is so; AssertionError after limit_s."""
    deadline = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.3)
