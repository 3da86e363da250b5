"""Reaching a Ray cluster: from inside a job, on this machine, or over the job API of a cluster elsewhere."""

import asyncio
import base64
import json
import os
import shlex
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from ray_jobs.job import ERROR_PREFIX, PROGRESS_PREFIX, RESULT_PREFIX
from schemas.errors import DubmillError
from schemas.settings import Settings
from tasks.progress import Progress

ADDRESS_VARIABLE = "RAY_ADDRESS"
"""Set by whoever has a cluster, and by Ray itself inside a job."""
PYTHON_VARIABLE = "DUBMILL_CLUSTER_PYTHON"
"""The Python of the cluster's data plane, where `python` on its PATH is another one."""
REPOSITORY = str(Path(__file__).resolve().parents[1])


class JobError(DubmillError):
    """A job on a cluster that did not end well."""


@contextmanager
def connect() -> Iterator[None]:
    """Within it this process is a Ray driver: of the cluster of RAY_ADDRESS, or else of one started here and ended after.

    The one started here listens on loopback only, has no dashboard, and needs no token: nobody else reaches it.
    A connection that is already there is used and left open.
    """
    import ray  # here, so that submitting to a cluster elsewhere needs no Ray of its own processes

    if ray.is_initialized():
        yield
        return
    if os.environ.get(ADDRESS_VARIABLE):
        ray.init(address="auto", logging_level="WARNING")
    else:
        _start_here()
    try:
        yield
    finally:
        ray.shutdown()


def _start_here() -> None:
    import ray

    os.environ["RAY_AUTH_MODE"] = "disabled"  # on purpose: otherwise a token file lying about would switch it on
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # a cluster of this machine alone: every listener on 127.0.0.1
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    paths = [REPOSITORY, *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))  # workers inherit it, and find this code wherever the driver was started
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="WARNING")


def submit(address: str, module: str, settings: Settings, progress: Progress, submission_id: str | None = None) -> dict[str, Any]:
    """Runs `python -m MODULE` as a job of the cluster whose job API is at `address` (http://host:8265) and waits for it.

    The settings travel in the command itself, so no place that both sides can read is needed for them; sources, store and outputs
    must be such places. Gives the job's summary. Raises JobError, with the job's own sentence where it has one. Interrupted, it stops the job.
    """
    client = _client(address)
    name = client.submit_job(entrypoint=_command(module, settings), submission_id=submission_id)
    follower = _LogFollower(progress)
    try:
        asyncio.run(follower.follow(client.tail_job_logs(name)))
    except BaseException:
        client.stop_job(name)
        raise
    status = client.get_job_status(name)
    if status != "SUCCEEDED" or follower.result is None:
        raise JobError(follower.error or f"The job {name} on {address} ended as {status}; its log there says why.")
    return follower.result


class _LogFollower:
    """Reads a job's log: progress lines are progress, the others are shown, the result and the error sentence are kept."""

    def __init__(self, progress: Progress) -> None:
        self.result: dict[str, Any] | None = None
        self.error: str | None = None
        self._progress = progress

    async def follow(self, pieces: AsyncIterator[str]) -> None:
        """Reads to the log's end; a piece may hold many lines and end within one."""
        rest = ""
        async for piece in pieces:
            *lines, rest = (rest + piece).split("\n")
            for line in lines:
                self.read(line)
        self.read(rest)

    def read(self, line: str) -> None:
        """Takes one line."""
        if line.startswith(PROGRESS_PREFIX):
            self._tell(line.removeprefix(PROGRESS_PREFIX))
        elif line.startswith(RESULT_PREFIX):
            self.result = json.loads(line.removeprefix(RESULT_PREFIX))
        elif line.startswith(ERROR_PREFIX):
            self.error = line.removeprefix(ERROR_PREFIX)
        elif line:
            print(line, file=sys.stderr)

    def _tell(self, told: str) -> None:
        share, _, note = told.partition(" ")
        done, _, total = share.partition("/")
        if done.isdigit():
            self._progress(int(done), int(total) if total.isdigit() else None, note)


def _client(address: str) -> Any:
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise JobError(f"There is no Ray job API at {address}: {str(error).splitlines()[0]}") from error


def _command(module: str, settings: Settings) -> str:
    """The command line of a job, its settings as a data: URI."""
    coded = base64.b64encode(yaml.safe_dump(settings.model_dump(mode="json"), allow_unicode=True).encode()).decode()
    python = os.environ.get(PYTHON_VARIABLE, "python")
    return shlex.join([python, "-m", module, "--settings", f"data:text/yaml;base64,{coded}"])
