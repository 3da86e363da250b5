"""Ray's job API over REST: all the control plane knows of the data plane, so it needs no ray of its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar
from urllib.parse import quote

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential  # type: ignore[import-not-found]  # comes with Airflow

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
"""Where a Ray head on this machine has its dashboard and job API."""
REQUEST_TIMEOUT_S = 30.0
LONGEST_PAUSE_S = 30.0
"""Seconds between two tries while Ray does not answer; shorter at first."""
AWAY_STATUSES = frozenset({502, 503, 504})
"""Answers of a proxy whose Ray head is away or starting."""
STATUS_UNKNOWN_JOB = 404

Answer = TypeVar("Answer")
JobStatus = Literal["PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"]


class RayJobsError(Exception):
    """Ray's job API refuses a request, or does not answer for too long. One sentence."""


class _RayAwayError(Exception):
    """Ray does not answer just now."""


@dataclass(frozen=True)
class RayAddress:
    """Where Ray's job API is, and the token it asks for. The token is in no printed form of this."""

    url: str = DEFAULT_ADDRESS
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class RayJob:
    """A job as Ray tells of it."""

    submission_id: str
    status: JobStatus
    message: str

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in ("STOPPED", "SUCCEEDED", "FAILED")


class RayJobsApi:
    """Submits, finds, reads and stops jobs. A Ray that does not answer is waited for, `patience_s` at most.

    Every method raises RayJobsError. `on_wait` is told, in one sentence, each time a request is put off.
    """

    def __init__(self, address: RayAddress, patience_s: float, on_wait: Callable[[str], object]) -> None:
        headers = {"Authorization": f"Bearer {address.token}"} if address.token else {}
        self._address = address.url
        self._client = httpx.Client(base_url=address.url, headers=headers, timeout=REQUEST_TIMEOUT_S, follow_redirects=True)
        self._patience_s = patience_s
        self._on_wait = on_wait

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def submit(self, submission_id: str, entrypoint: str, environment: Mapping[str, str]) -> None:
        """Starts a job, unless one of that id is there: what counts is that Ray has it, however often it was asked."""
        job = {"submission_id": submission_id, "entrypoint": entrypoint, "runtime_env": {"env_vars": dict(environment)}}

        def _try_once() -> None:
            response = self._once("POST", "/api/jobs/", json=job)
            # Ray answers 500 to an id that it has, to a head that is still starting and to real faults: look the id up.
            if response.is_success or self._once("GET", _path(submission_id)).is_success:
                return
            if response.is_server_error:
                raise _RayAwayError(_first_line(response))
            self._checked(response)

        self._patiently(_try_once)

    def find(self, submission_id: str) -> RayJob | None:
        """The job of that id; None when Ray knows none."""
        response = self._patiently(lambda: self._once("GET", _path(submission_id)))
        if response.status_code == STATUS_UNKNOWN_JOB:
            return None
        told = self._checked(response).json()
        return RayJob(submission_id, told["status"], told.get("message") or "")

    def logs(self, submission_id: str) -> str:
        """All that the job has printed; empty when Ray has no log of it."""
        response = self._patiently(lambda: self._once("GET", f"{_path(submission_id)}/logs"))
        return str(response.json().get("logs") or "") if response.is_success else ""

    def stop(self, submission_id: str) -> None:
        """Stops a job; one that is over or unknown is left as it is."""
        response = self._patiently(lambda: self._once("POST", f"{_path(submission_id)}/stop"))
        if response.status_code != STATUS_UNKNOWN_JOB:
            self._checked(response)

    def _once(self, method: str, path: str, json: object = None) -> httpx.Response:
        try:
            response = self._client.request(method, path, json=json)
        except httpx.TransportError as error:
            raise _RayAwayError(f"{type(error).__name__}: {error}") from error
        if response.status_code in AWAY_STATUSES:
            raise _RayAwayError(_first_line(response))
        return response

    def _patiently(self, request: Callable[[], Answer]) -> Answer:
        def tell(state: RetryCallState) -> None:
            reason = state.outcome.exception() if state.outcome else None
            self._on_wait(f"Ray at {self._address} does not answer ({reason}); trying again in {state.upcoming_sleep:.1f} s.")

        retrying = Retrying(
            retry=retry_if_exception_type(_RayAwayError),
            wait=wait_random_exponential(multiplier=1, max=LONGEST_PAUSE_S),
            stop=stop_after_delay(self._patience_s),
            before_sleep=tell,
            reraise=True,
        )
        try:
            answer: Answer = retrying(request)
        except _RayAwayError as error:
            raise RayJobsError(f"Ray at {self._address} did not answer for {self._patience_s:.0f} s ({error}).") from error
        return answer

    def _checked(self, response: httpx.Response) -> httpx.Response:
        if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise RayJobsError(f"Ray at {self._address} refuses the token; set it as the password of the Airflow connection.")
        if not response.is_success:
            raise RayJobsError(f"Ray at {self._address} refuses the request with status {response.status_code}: {_first_line(response)}")
        return response


def _path(submission_id: str) -> str:
    return f"/api/jobs/{quote(submission_id, safe='')}"


def _first_line(response: httpx.Response) -> str:
    lines = [line for line in response.text.strip().splitlines() if line.strip()]
    # Ray answers with a whole traceback, whose last line says what happened.
    said = lines[-1] if lines and lines[0].startswith("Traceback") else next(iter(lines), "no reason given")
    return said[:300]
