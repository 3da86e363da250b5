"""Ray's job API over REST: all the control plane knows of the data plane, so it needs no ray of its own."""

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_delay, wait_random_exponential  # type: ignore[import-not-found]  # comes with Airflow

from dags.operators.ray_connection import RayAddress

REQUEST_TIMEOUT_S = 30.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Seconds between two tries while Ray does not answer, at most: at first, and after a while."""
STOP_POLL_S = 0.2
"""Seconds between two looks at a job that is being stopped."""
TOO_MANY_REQUESTS = 429

Answer = TypeVar("Answer")
JobStatus = Literal["PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"]


class RayJobsError(Exception):
    """Ray's job API refuses a request, or does not answer for too long. One sentence."""


class RayRefusesError(RayJobsError):
    """Ray's job API refuses the token."""


class _RayAwayError(Exception):
    """Ray does not answer just now."""


@dataclass(frozen=True)
class NewJob:
    """A job to submit. metadata: what others find its owner by. working_dir: URI of code that it runs in; None: that of the image."""

    submission_id: str
    entrypoint: str
    environment: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    working_dir: str | None = None

    def as_request(self) -> dict[str, Any]:
        """The body of the request that submits it."""
        runtime_env: dict[str, Any] = {"env_vars": dict(self.environment)}
        if self.working_dir:
            runtime_env["working_dir"] = self.working_dir
        return {"submission_id": self.submission_id, "entrypoint": self.entrypoint, "runtime_env": runtime_env, "metadata": dict(self.metadata)}


@dataclass(frozen=True)
class RayJob:
    """A job as Ray tells of it. node: id of the machine that holds its log; None before it has one. started_s: of the epoch, on Ray's clock."""

    submission_id: str
    status: JobStatus
    message: str = ""
    node: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    started_s: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in ("STOPPED", "SUCCEEDED", "FAILED")


class RayJobsApi:
    """Submits, finds, reads and stops jobs. A Ray that does not answer is waited for, `patience_s` at most.

    Use as an asynchronous context. Every method raises RayJobsError. `say` is told one sentence when a wait begins, and one when it is over.
    """

    def __init__(self, address: RayAddress, patience_s: float, say: Callable[[str], object]) -> None:
        self._address = address
        self._patience_s = patience_s
        self._say = say

    async def __aenter__(self) -> Self:
        logging.getLogger("httpx").setLevel(logging.WARNING)  # or each look at the job is a line in the task's log
        try:
            tls = self._address.tls()
        except OSError as error:  # ssl.SSLError is one
            raise RayJobsError(f"The certificates for Ray at {self._address} cannot be used: {error}.") from error
        self._client = httpx.AsyncClient(
            base_url=self._address.url, headers=self._address.request_headers(), timeout=REQUEST_TIMEOUT_S, follow_redirects=True, verify=tls
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self._client.aclose()

    async def submit(self, job: NewJob) -> None:
        """Starts a job, unless one of that id is there: what counts is that Ray has it, however often it was asked."""

        async def _try_once() -> None:
            response = await self._once("POST", "/api/jobs/", json=job.as_request())
            # Ray answers 500 to an id that it has, to a head that is still starting and to real faults: look the id up.
            if response.is_success or (await self._once("GET", _path(job.submission_id))).is_success:
                return
            if response.is_server_error:
                raise _RayAwayError(_first_line(response))
            self._checked(response)

        await self._patiently(_try_once)

    async def find(self, submission_id: str) -> RayJob | None:
        """The job of that id; None when Ray knows none."""
        response = await self._about_job("GET", submission_id)
        return None if response is None else _as_job(response.json())

    async def jobs(self) -> list[RayJob]:
        """All jobs that Ray knows and that were submitted to it."""
        response = await self._patiently(partial(self._answered, "GET", "/api/jobs/"))
        return [_as_job(told) for told in self._checked(response).json() if told.get("submission_id")]

    async def log_end(self, job: RayJob, lines: int) -> bytes | None:
        """The last lines of what a job has printed, as they are; None when they cannot be had just now. Waits for nothing."""
        if job.node is None:
            return None
        query: dict[str, str | int] = {"node_id": job.node, "filename": f"job-driver-{job.submission_id}.log", "lines": lines}
        try:
            response = await self._once("GET", "/api/v0/logs/file", params=query)
        except _RayAwayError:
            return None
        return response.content if response.is_success else None

    async def stop(self, submission_id: str) -> None:
        """Asks for a job's end; one that is over or unknown is left as it is. It may go on for a few seconds."""
        await self._about_job("POST", submission_id, "/stop")

    async def stop_and_wait(self, submission_id: str) -> RayJob | None:
        """Stops a job and waits until it really has stopped: Ray answers before that. The caller bounds the wait. None: Ray knows no such job."""
        await self.stop(submission_id)
        while True:
            job = await self.find(submission_id)
            if job is None or job.is_over:
                return job
            await asyncio.sleep(STOP_POLL_S)

    async def _about_job(self, method: str, submission_id: str, action: str = "") -> httpx.Response | None:
        """Ray's answer about one job; None when it knows no such job."""

        async def _try_once() -> httpx.Response | None:
            response = await self._answered(method, _path(submission_id) + action)
            if response.status_code != httpx.codes.NOT_FOUND:
                return self._checked(response)
            if submission_id in response.text:
                return None
            raise _RayAwayError(_first_line(response))  # of a proxy that does not find Ray itself

        return await self._patiently(_try_once)

    async def _once(self, method: str, path: str, json: object = None, params: Mapping[str, str | int] | None = None) -> httpx.Response:
        try:
            response = await self._client.request(method, path, json=json, params=params)
        except (httpx.TransportError, ssl.SSLError) as error:  # an alert of TLS 1.3 may come after the handshake, and httpx lets it through
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise RayJobsError(f"The certificate of Ray at {self._address} cannot be trusted ({error}).") from error
            raise _RayAwayError(f"{type(error).__name__}: {error}".rstrip(": ")) from error
        if response.status_code in (httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.GATEWAY_TIMEOUT, TOO_MANY_REQUESTS):
            raise _RayAwayError(_first_line(response))
        return response

    async def _answered(self, method: str, path: str) -> httpx.Response:
        """As `_once`, where an error of Ray's own means that it is not yet or no longer whole."""
        response = await self._once(method, path)
        if response.is_server_error:
            raise _RayAwayError(_first_line(response))
        return response

    async def _patiently(self, request: Callable[[], Awaitable[Answer]]) -> Answer:
        began = time.monotonic()

        def tell(state: RetryCallState) -> None:
            if state.attempt_number == 1:
                reason = state.outcome.exception() if state.outcome else None
                self._say(f"Ray at {self._address} does not answer ({reason}); it is waited for, {self._patience_s:.0f} s at most.")

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_RayAwayError),
            wait=wait_random_exponential(multiplier=FIRST_PAUSE_S, max=LONGEST_PAUSE_S),
            stop=stop_after_delay(self._patience_s),
            before_sleep=tell,
            reraise=True,
        )
        try:
            answer: Answer = await retrying(request)
        except _RayAwayError as error:
            raise RayJobsError(f"Ray at {self._address} did not answer for {self._patience_s:.0f} s ({error}).") from error
        if retrying.statistics.get("attempt_number", 1) > 1:
            self._say(f"Ray at {self._address} answers again after {time.monotonic() - began:.0f} s.")
        return answer

    def _checked(self, response: httpx.Response) -> httpx.Response:
        if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise RayRefusesError(f"Ray at {self._address} refuses the token; set it as the password of the Airflow connection.")
        if not response.is_success:
            raise RayJobsError(f"Ray at {self._address} refuses the request with status {response.status_code}: {_first_line(response)}")
        return response


def _as_job(told: dict[str, Any]) -> RayJob:
    return RayJob(
        submission_id=told["submission_id"],
        status=told["status"],
        message=told.get("message") or "",
        node=told.get("driver_node_id"),
        metadata=told.get("metadata") or {},
        started_s=told["start_time"] / 1000 if told.get("start_time") else None,
    )


def _path(submission_id: str) -> str:
    return f"/api/jobs/{quote(submission_id, safe='')}"


def _first_line(response: httpx.Response) -> str:
    lines = [line for line in response.text.strip().splitlines() if line.strip()]
    # Ray answers with a whole traceback, whose last line says what happened.
    said = lines[-1] if lines and lines[0].startswith("Traceback") else next(iter(lines), "no reason given")
    return said[:300]
