"""Follows a Ray job while its Airflow task is deferred: one coroutine in the triggerer, no worker."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.sdk.execution_time.xcom import XCom
from airflow.triggers.base import BaseTrigger, TriggerEvent

from dags.operators.ray_connection import RayAddress, read_address_async
from dags.operators.ray_job_log import JobLog
from dags.operators.ray_jobs_api import RayJob, RayJobsApi, RayJobsError, RayRefusesError
from schemas.job_log import PROGRESS_PREFIX

POLL_S = 1.0
"""Seconds between two looks at a fresh job."""
LONGEST_POLL_S = 30.0
"""Seconds between two looks at a job that has run for five minutes and more."""
POLL_SHARE = 0.1
"""Of a job's age until the next look: its end is noticed at most a tenth of its time late."""
LOG_POLL_S = 2.0
"""Seconds between two looks at a log at least: each that brings lines is also a row written in Airflow's database."""
JITTER = 0.1
"""Share by which a pause is longer or shorter, so that a hundred jobs begun together are not looked at together."""
STOP_LIMIT_S = 25.0
"""Seconds until a stopped job must have stopped; Airflow gives `on_kill` of a trigger 30."""
CONNECTION_POLL_S = 5.0
"""Seconds between two tries to read the connection."""
LAST_LOOKS = 3
"""How often the rest of the log of a job that is over is asked for."""
LINES_AT_A_TIME = 100
"""Lines written to the task's log before others in the triggerer get their turn."""
XCOM_KEY = "ray_job"
"""Where the trigger notes how far a job is: people see it on the task's XCom page, and a restarted triggerer goes on from it."""

Outcome = Literal["SUCCEEDED", "FAILED", "STOPPED", "LOST", "TIMED_OUT", "AWAY"]
"""What became of a job. LOST: Ray's head has forgotten it. AWAY: Ray did not answer for too long, and the job may still run."""


class RayJobTrigger(BaseTrigger):  # type: ignore[misc]
    """Waits for the end of a Ray job and brings its new log lines into the task's log.

    Fires once, with `submission_id`, `status` (an Outcome) and `message`, one sentence or Ray's own. A triggerer that is restarted
    goes on where it was; the job does not notice. Only a person who acts on the task, or the time limit, stops the job.

    Args:
        connection_id: Airflow connection of Ray's job API; None: this machine's, without a token. What it holds is read here and kept nowhere.
        submission_id: the job.
        began_s: when it was first followed, in seconds of the epoch: the older a job, the longer the pauses between two looks.
        ends_s: when it is stopped, in seconds of the epoch; None: never.
        patience_s: how long a Ray that does not answer is waited for.
        poll_s: seconds between two looks at a fresh job.
    """

    def __init__(
        self,
        *,
        connection_id: str | None,
        submission_id: str,
        began_s: float,
        ends_s: float | None = None,
        patience_s: float,
        poll_s: float = POLL_S,
    ) -> None:
        super().__init__()
        self.connection_id = connection_id
        self.submission_id = submission_id
        self.began_s = began_s
        self.ends_s = ends_s
        self.patience_s = patience_s
        self.poll_s = poll_s
        self._progress = ""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and what it is made of: all that Airflow's database holds of this."""
        names = ("connection_id", "submission_id", "began_s", "ends_s", "patience_s", "poll_s")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Follows the job to its end, or to the time limit."""
        status, message = await self._outcome()
        yield TriggerEvent({"submission_id": self.submission_id, "status": status, "message": message})

    async def on_kill(self) -> None:
        """Stops the job: a person has cleared the deferred task, marked it, or marked its run."""
        await self._stop()

    async def _outcome(self) -> tuple[Outcome, str]:
        left_s = None if self.ends_s is None else max(self.ends_s - time.time(), 0.0)
        try:
            async with asyncio.timeout(left_s):
                return await self._follow()
        except TimeoutError:
            await self._stop()
            return "TIMED_OUT", f"Ray job {self.submission_id} had not ended when its time was over."
        except RayJobsError as error:
            return "AWAY", str(error)

    async def _follow(self) -> tuple[Outcome, str]:
        """Follows the job. A token that was changed meanwhile is read anew; one that is refused again raises RayJobsError."""
        address = await self._address()
        while True:
            try:
                return await self._follow_at(address)
            except RayRefusesError:
                address, refused = await self._address(), address
                if address == refused:
                    raise

    async def _follow_at(self, address: RayAddress) -> tuple[Outcome, str]:
        async with RayJobsApi(address, self.patience_s, self.log.warning) as api:
            log = JobLog(api, await self._go_on(), max(self.poll_s, LOG_POLL_S))
            while (job := await api.find(self.submission_id)) is not None:
                await self._tell(job, log)
                if job.status in ("SUCCEEDED", "FAILED", "STOPPED"):
                    return job.status, job.message.strip().partition("\n")[0]
                await asyncio.sleep(self._pause_s())
        return "LOST", f"Ray no longer knows job {self.submission_id}: its head was restarted; a retry submits it afresh."

    def _pause_s(self) -> float:
        age_s = max(time.time() - self.began_s, 0.0)
        return min(max(self.poll_s, POLL_SHARE * age_s), LONGEST_POLL_S) * random.uniform(1 - JITTER, 1 + JITTER)

    async def _address(self) -> RayAddress:
        """Waits for a connection that cannot be had just now. Raises RayJobsError when it stays away."""
        if self.connection_id is None:
            return RayAddress()
        until = time.monotonic() + self.patience_s
        while (address := await read_address_async(self.connection_id)) is None:
            if time.monotonic() > until:
                raise RayJobsError(f"Airflow has no connection {self.connection_id}.")
            await asyncio.sleep(CONNECTION_POLL_S)
        return address

    async def _stop(self) -> None:
        """Stops the job and waits until it has stopped, within STOP_LIMIT_S. Says how that went."""
        self.log.info("Stopping Ray job %s.", self.submission_id)
        try:
            async with asyncio.timeout(STOP_LIMIT_S), RayJobsApi(await self._address(), STOP_LIMIT_S, self.log.warning) as api:
                job = await api.stop_and_wait(self.submission_id)
        except TimeoutError:
            self.log.warning("Ray job %s has not stopped within %.0f s.", self.submission_id, STOP_LIMIT_S)
        except RayJobsError as error:
            self.log.warning("Ray job %s could not be stopped: %s", self.submission_id, error)
        else:
            self.log.info("Ray job %s is over: %s.", self.submission_id, job.status.lower() if job else "unknown to Ray")

    async def _tell(self, job: RayJob, log: JobLog) -> None:
        """Brings new lines of the job's log into the task's, and notes how far that has come."""
        lines = await log.new_lines(job)
        for _ in range(LAST_LOOKS if job.is_over and job.node else 0):
            if lines is not None:
                break
            await asyncio.sleep(self.poll_s)
            lines = await log.new_lines(job)
        if lines is None and job.is_over and job.node:
            self.log.warning("The rest of the log of Ray job %s cannot be read.", job.submission_id)
        for number, line in enumerate(lines or (), start=1):
            self.log.info("%s", line)
            if number % LINES_AT_A_TIME == 0:
                await asyncio.sleep(0)
        if lines:
            await self._note(log.shown_bytes, lines)

    async def _go_on(self) -> int:
        """Takes over what an earlier triggerer has noted in this try of the task; returns how many bytes of the job's log were shown."""
        if self.task_instance is None:  # within `airflow dags test`
            return 0
        try:
            noted = await XCom.aget_one(key=XCOM_KEY, **self._place())
        except AirflowRuntimeError as error:
            self.log.warning("What was noted of Ray job %s cannot be read (%s): its log is shown from its beginning.", self.submission_id, error)
            return 0
        if not isinstance(noted, dict) or noted.get("submission_id") != self.submission_id:
            return 0
        self._progress = noted["progress"]
        return int(noted["log_bytes"])

    async def _note(self, shown_bytes: int, lines: Sequence[str]) -> None:
        self._progress = next((line.removeprefix(PROGRESS_PREFIX) for line in reversed(lines) if line.startswith(PROGRESS_PREFIX)), self._progress)
        if self.task_instance is None:
            return
        try:
            noted = {"submission_id": self.submission_id, "progress": self._progress, "log_bytes": shown_bytes}
            await XCom.aset(key=XCOM_KEY, value=noted, **self._place())
        except AirflowRuntimeError as error:
            self.log.warning("How far Ray job %s is cannot be noted: %s", self.submission_id, error)

    def _place(self) -> dict[str, Any]:
        ti = self.task_instance
        return {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "map_index": ti.map_index}
