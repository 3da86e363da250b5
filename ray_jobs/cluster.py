"""Reaching a Ray cluster: from inside a job, on this machine, or over the job API of a cluster elsewhere."""

import asyncio
import base64
import ipaddress
import json
import os
import secrets
import shlex
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from schemas.errors import DubmillError, SettingsError
from schemas.job_log import CLUSTER_PYTHON_VARIABLE, ERROR_PREFIX, LOG_VARIABLE, PROGRESS_PREFIX, RESULT_PREFIX, SUBMISSION_VARIABLE
from schemas.locations import is_remote, local_path, without_secrets
from schemas.settings import Settings
from tasks.interruption import Interruption
from tasks.progress import Progress

ADDRESS_VARIABLE = "RAY_ADDRESS"
"""Set by whoever has a cluster, and by Ray itself inside a job."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
"""Pauses between two tries to follow a job, doubling: a blip costs little time, a head that restarts is not run over."""
PATIENCE_S = 600.0
"""How long a cluster may not answer while its job is waited for: a head that restarts, a network that is away."""
LOOK_UP_S = 30.0
"""How long is asked whether a cluster took a job, when its answer to that was none."""
STOP_TRIES = 3
"""How often a job is told to stop: the cluster may be away for a moment, or just about to take it."""
SERVER_FAULTS, NOT_FOUND = "status code 5", "status code 404"
"""How Ray's client tells of such an answer, with its text behind."""
REPOSITORY = str(Path(__file__).resolve().parents[1])


class JobError(DubmillError):
    """A job on a cluster that did not end well."""


@contextmanager
def connect() -> Iterator[None]:
    """Within it this process is a Ray driver: of the cluster of RAY_ADDRESS, or else of one started here and ended after.

    The one started here listens on loopback only, has no dashboard, and needs no token: nobody else reaches it.
    A connection that is already there is used and left open. An Interruption comes out of it as one.
    """
    import ray  # here, so that submitting to a cluster elsewhere needs no Ray of its own processes

    if ray.is_initialized():
        yield
        return
    own = signal.getsignal(signal.SIGTERM)
    with _sigterm_left_to(own):
        if os.environ.get(ADDRESS_VARIABLE):
            ray.init(address="auto", logging_level="WARNING")
        else:
            _start_here()
    try:
        yield
    except KeyboardInterrupt as interruption:
        if isinstance(interruption, Interruption) or not callable(own):
            raise
        raise _as_it_came(interruption) from interruption
    finally:
        ray.shutdown()


@contextmanager
def _sigterm_left_to(own: object) -> Iterator[None]:
    """Whoever handles SIGTERM before does so after: Ray takes it for itself, ends its processes and then this one, with nothing tidied up."""
    yield
    if callable(own) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, own)


def _as_it_came(interruption: KeyboardInterrupt) -> Interruption:
    """The Interruption of which Ray's compiled calls have made a KeyboardInterrupt, which does not say any more what signal it was."""
    # Of the two signals only the one that came would end the process now (`interrupted_by_signals`).
    has_come = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    as_it_came = Interruption(signal.SIGTERM if has_come else signal.SIGINT)
    for note in getattr(interruption, "__notes__", ()):
        as_it_came.add_note(note)
    return as_it_came


def _start_here() -> None:
    import ray

    os.environ["RAY_AUTH_MODE"] = "disabled"  # on purpose: otherwise a token file lying about would switch it on
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # a cluster of this machine alone: every listener on 127.0.0.1
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    paths = [REPOSITORY, *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))  # workers inherit it, and find this code wherever the driver was started
    # Without "local", Ray would join whatever cluster was last started on this machine, also another user's.
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="WARNING")


def submit(address: str, module: str, settings: Settings, progress: Progress, submission_id: str | None = None) -> dict[str, Any]:
    """Runs `python -m MODULE` as a job of the cluster whose job API is at `address` (http://host:8265) and waits for it.

    The settings travel in the command itself, so no place that both sides can read is needed for them; sources, store and outputs
    must be such places. Gives the job's summary. Raises SettingsError for paths that the cluster cannot read, and JobError, with the job's
    own sentence where it has one. Interrupted, it stops the job; a connection that breaks is made again, and the job goes on.
    """
    settings = cluster_settings(address, settings)
    client = _client(address)
    wanted = submission_id or f"{module.rpartition('.')[2]}-{secrets.token_hex(8)}"
    follower = _LogFollower(progress)
    try:
        _hand_in(client, wanted, _command(module, settings), address)
        status = _follow_to_end(client, wanted, follower, address)
    except (KeyboardInterrupt, SystemExit):
        _stop(client, wanted, address)
        raise
    if status != "SUCCEEDED" or follower.result is None:
        raise JobError(follower.error or f"The job {wanted} on {address} ended as {status}; its log there says why.")
    return follower.result


def _hand_in(client: Any, name: str, command: str, address: str) -> None:
    """Has the cluster take a job. Raises JobError when it did not, or when nobody can tell."""
    try:
        client.submit_job(entrypoint=command, submission_id=name, runtime_env={"env_vars": _environment(name)})
    except _connection_faults() as error:
        if not _has_taken(client, name, address):
            raise JobError(f"The Ray cluster at {address} did not take the job: {_first_line(error)}.") from error


def _has_taken(client: Any, name: str, address: str) -> bool:
    """Whether the cluster knows a job. It may, although it answered with an error, or its answer was lost on the way."""
    until, pause_s = time.monotonic() + LOOK_UP_S, FIRST_PAUSE_S
    while True:
        try:
            client.get_job_status(name)
        except _connection_faults() as error:
            if not _is_away(error):
                return False
            if time.monotonic() > until:
                raise JobError(f"The Ray cluster at {address} does not say whether it took the job {name}, which may run: {_first_line(error)}.") from error
        else:
            return True
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _is_away(error: Exception) -> bool:
    """Whether a fault means that the cluster does not answer, or is not yet or no longer whole; otherwise it has answered."""
    return isinstance(error, OSError) or SERVER_FAULTS in str(error)


def _environment(submission_id: str) -> dict[str, str]:
    """What the job and its workers know of it, for their log lines."""
    asked = {LOG_VARIABLE: os.environ[LOG_VARIABLE]} if os.environ.get(LOG_VARIABLE) else {}  # an empty one would hide the cluster's own
    return {SUBMISSION_VARIABLE: submission_id, **asked}


def cluster_settings(address: str, settings: Settings) -> Settings:
    """The settings as a job of the cluster at `address` can use them.

    A cluster on loopback reads this machine's paths once they are absolute. On another machine a relative path would be one of its own
    current folder: SettingsError names such fields.
    """
    if _is_loopback(address):
        return settings.with_absolute_locations()
    relative = {name: named for name, places in settings.locations().items() if (named := [place for place in places if not _stands_alone(place)])}
    if relative:
        faults = ", ".join(f"{name} ({', '.join(named)})" for name, named in relative.items())
        raise SettingsError(
            without_secrets(f"The cluster at {address} needs absolute paths or URIs such as s3:// that it can read, not relative ones: {faults}.")
        )
    return settings


def _stands_alone(place: str) -> bool:
    return is_remote(place) or (local_path(place).is_absolute() and not place.startswith("~"))


def _is_loopback(address: str) -> bool:
    host = urlsplit(address if "://" in address else f"//{address}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _follow_to_end(client: Any, name: str, follower: "_LogFollower", address: str) -> str:
    """Follows a job until its status is one that does not change any more, and gives that.

    A log that breaks off while the job goes on is followed again. JobError when the cluster does not answer for PATIENCE_S, counted from
    the first request in vain after the last sign of life: the log may have been followed for hours before that.
    """
    away_since: float | None = None
    pause_s = FIRST_PAUSE_S
    while True:
        read_before, heard_before = follower.characters, follower.pieces
        with suppress(*_connection_faults()):  # the status tells whether that was the end
            asyncio.run(follower.follow(client.tail_job_logs(name)))
        if follower.pieces > heard_before:
            away_since = None
        try:
            status = client.get_job_status(name)
            if status.is_terminal():
                follower.finish(client.get_job_logs(name))
                return str(status.value)
            away_since = None
        except _connection_faults() as error:
            now = time.monotonic()
            away_since = now if away_since is None else away_since
            if now - away_since > PATIENCE_S:
                raise JobError(f"The Ray cluster at {address} no longer answers for the job {name}, which may still run: {_first_line(error)}.") from error
        pause_s = FIRST_PAUSE_S if follower.characters > read_before else min(2 * pause_s, LONGEST_PAUSE_S)
        time.sleep(pause_s)


def _stop(client: Any, name: str, address: str) -> None:
    """Stops a job. One that the cluster does not know, however often it is asked, was never taken."""
    for tries_left in reversed(range(STOP_TRIES)):
        try:
            client.stop_job(name)
        except _connection_faults() as error:
            if tries_left:
                time.sleep(FIRST_PAUSE_S)
            elif NOT_FOUND not in str(error):
                print(f"The job {name} on {address} could not be stopped and may still run: {_first_line(error)}.", file=sys.stderr)
        else:
            return


def _connection_faults() -> tuple[type[Exception], ...]:
    """What Ray's client raises when a cluster does not answer, or answers with an error."""
    import aiohttp  # a part of Ray's client; here for the same reason as Ray itself
    from ray.exceptions import AuthenticationError

    return OSError, RuntimeError, aiohttp.ClientError, AuthenticationError


def _first_line(error: Exception) -> str:
    return next((line.rstrip(". ") for line in str(error).splitlines() if line.strip()), type(error).__name__)


class _LogFollower:
    """Reads a job's log: progress lines are progress, the others are shown, the result and the error sentence are kept.

    Whoever follows a log again gets it from its beginning: what was read before is passed over.
    """

    def __init__(self, progress: Progress) -> None:
        self.result: dict[str, Any] | None = None
        self.error: str | None = None
        self.characters = 0
        """Characters of the log that whole lines were read from."""
        self.pieces = 0
        """Pieces of the log that came, known ones too."""
        self._progress = progress

    async def follow(self, pieces: AsyncIterator[str]) -> None:
        """Reads the whole lines of a log from its beginning; a piece may hold many lines and end within one."""
        rest, known = "", self.characters
        async for piece in pieces:
            self.pieces += 1
            new, known = piece[known:], max(0, known - len(piece))
            *lines, rest = (rest + new).split("\n")
            for line in lines:
                self._take(line)

    def finish(self, log: str) -> None:
        """Reads what is left of the whole log of a job that has ended; its last line may lack an end."""
        for line in log[self.characters :].removesuffix("\n").split("\n"):
            self._take(line)

    def _take(self, line: str) -> None:
        self.read(line)
        self.characters += len(line) + 1

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

    faults: tuple[type[Exception], ...] = (*_connection_faults(), ValueError)
    try:
        return JobSubmissionClient(address)
    except faults as error:
        raise JobError(f"There is no Ray job API at {address}: {_first_line(error)}.") from error


def _command(module: str, settings: Settings) -> str:
    """The command line of a job, its settings as a data: URI."""
    coded = base64.b64encode(yaml.safe_dump(settings.model_dump(mode="json"), allow_unicode=True).encode()).decode()
    python = os.environ.get(CLUSTER_PYTHON_VARIABLE) or "python"
    return shlex.join([python, "-m", module, "--settings", f"data:text/yaml;base64,{coded}"])
