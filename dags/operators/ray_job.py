"""An Airflow task that is one Ray job: submitted, found again after a retry, followed to its end while the task is deferred."""

import asyncio
import hashlib
import json
import os
import re
import shlex
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any

import fsspec
import yaml
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTimeout, TaskDeferralTimeout, TaskDeferred

from dags.operators.job_owner import JobOwner, deployment
from dags.operators.ray_connection import RayAddress, read_address
from dags.operators.ray_job_trigger import POLL_S, XCOM_KEY, RayJobTrigger, noted
from dags.operators.ray_jobs_api import NewJob, RayJob, RayJobsApi, RayJobsError
from schemas.errors import SettingsError, StoreError
from schemas.job_log import CLUSTER_PYTHON_VARIABLE, DAG_RUN_VARIABLE, ERROR_PREFIX, RUN_VARIABLE, SUBMISSION_VARIABLE
from schemas.locations import reachable
from schemas.settings import Settings, check_settings, read_settings, write_settings

PATIENCE_S = 600.0
"""Seconds to wait for a Ray that does not answer: a head that restarts, a network that is away."""
STOP_PATIENCE_S = 4.0
"""Seconds in which a job must have stopped: Airflow kills the process about five seconds after it asks."""
FORMER_STOP_S = 30.0
"""Seconds to wait for the end of a job of before a clear: Ray kills one that does not end within three."""
LAST_LINES_PATIENCE_S = 30.0
"""Seconds to wait for a Ray that does not answer when only a failed job's last lines are missing."""
TIMEOUT_MARGIN = timedelta(minutes=2)
"""How long after a task's time limit Airflow itself ends the deferral, for a triggerer that did not: it is down."""
READ_LINES = 200
"""Last lines of a failed job's log in which its own sentence is looked for: a few more may come after it."""
SHOWN_LINES = 20
"""Last lines of a failed job's log that its error carries."""
STORE_KEY = "ray_job"
"""Under which a task remembers its job, over retries and clears, in Airflow's task state store."""
WORKING_DIR_VARIABLE = "DUBMILL_WORKING_DIR"
"""Environment variable, for development: URI of a zip file of code (file://, s3://, https://, gcs://) that jobs run in. Default: what the image holds."""


@dataclass(frozen=True)
class Attempt:
    """The job that a task remembers. stem: of its generation. number: from 1 on. is_submitted: Ray has taken it, so a Ray without it has lost it."""

    stem: str
    number: int
    is_submitted: bool = False

    @property
    def submission_id(self) -> str:
        """The id of the job at Ray."""
        return f"{self.stem}.a{self.number}"


class RayJobOperator(BaseOperator):  # type: ignore[misc]
    """Runs `python -m ray_jobs.NAME --settings URI --result URI` on a Ray cluster and returns what it made.

    The submission id is made of this Airflow's name, dag, run, task, map index and generation (a clear begins a new one), and
    of a count of attempts. So a retry, or a task whose process died, finds its job again: one that runs is followed, one that
    succeeded is not run twice, one that failed, was stopped, or was lost by a restarted Ray head gets the next id.
    A clear first stops the job of before it. The job finds what its attempts have in common in its environment, as
    RUN_VARIABLE: a training goes on from the state of an attempt that was killed, and from no other.

    While the job runs the task is deferred: it holds no worker, only its slot in a pool that counts deferred tasks.
    `execution_timeout` counts from the start of the try to the job's end, which is stopped then.

    Args:
        job: module under `ray_jobs`.
        settings: URI of the flat YAML file that the job reads; this machine and the cluster must both reach it. None: there is no
            file, the overrides are all.
        settings_class: what the file is checked against before anything is submitted. Faults are not retried.
        results: folder or prefix for the job's result, a small JSON object of URIs and counts; it becomes the XCom value and
            the `extra` of each outlet asset's event. Lists in it are given as their lengths.
        overrides: settings that replace those of the file: of a task that is mapped over them, or what an earlier task returned.
            The job then reads a copy of the file with them, which is written beside its result.
        connection_id: Airflow connection of Ray's job API: host, port, schema, as password the token, and in `extra` whatever
            of `headers`, `verify`, `client_certificate` and `client_key` is needed (see RayAddress). Default without
            such a connection: http://127.0.0.1:8265, no token.
        poll_s: seconds between two looks at a fresh job; the older it is the longer.
        patience_s: seconds to wait for a Ray that does not answer.
    """

    template_fields: Sequence[str] = ("settings", "overrides", "results")
    ui_color = "#d6eaf8"

    def __init__(
        self,
        *,
        job: str,
        settings: str | None = None,
        settings_class: type[Settings],
        results: str,
        overrides: Mapping[str, Any] | None = None,
        connection_id: str = "ray_default",
        poll_s: float = POLL_S,
        patience_s: float = PATIENCE_S,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job = job
        self.settings = settings
        self.settings_class = settings_class
        self.results = results
        self.overrides = overrides
        self.connection_id = connection_id
        self.poll_s = poll_s
        self.patience_s = patience_s
        self._followed: tuple[RayAddress, str] | None = None
        self._is_killed = False

    def execute(self, context: Any) -> dict[str, Any]:
        """Runs or finds the job and defers until its end; returns the result of one that has succeeded already."""
        settings = self._checked_settings()
        began_s = time.time()
        connected = read_address(self.connection_id)
        try:
            job_id, is_done = asyncio.run(self._find_or_submit(connected or RayAddress(), context, settings))
        except RayJobsError as error:
            raise AirflowException(str(error)) from error
        if self._is_killed:
            self._stop(connected or RayAddress(), job_id, STOP_PATIENCE_S)  # it may have been submitted after it was to be stopped
            raise AirflowException(f"Ray job {job_id} was stopped before its end.")
        if is_done:
            return self._taken_result(context, job_id)
        context["ti"].xcom_push(key=XCOM_KEY, value=noted(job_id))
        raise self._deferral(job_id, began_s, has_connection=connected is not None)

    def _deferral(self, job_id: str, began_s: float, *, has_connection: bool) -> TaskDeferred:
        limit = self.execution_timeout
        trigger = RayJobTrigger(
            connection_id=self.connection_id if has_connection else None,
            submission_id=job_id,
            began_s=began_s,
            ends_s=began_s + limit.total_seconds() if limit else None,
            patience_s=self.patience_s,
            poll_s=self.poll_s,
        )
        return TaskDeferred(trigger=trigger, method_name="resume", timeout=limit + TIMEOUT_MARGIN if limit else None)

    def resume(self, context: Any, event: dict[str, Any]) -> dict[str, Any]:
        """Takes the result of a job that has succeeded. Raises AirflowException, or AirflowTaskTimeout, for all else that the trigger tells."""
        job_id, status = event["submission_id"], event["status"]
        if status == "SUCCEEDED":
            return self._taken_result(context, job_id)
        if status == "FAILED":
            raise AirflowException(self._failure(job_id, event["message"]))
        if status == "STOPPED":
            raise AirflowException(f"Ray job {job_id} was stopped before its end.")
        if status == "TIMED_OUT":
            raise AirflowTaskTimeout(event["message"])
        raise AirflowException(event["message"])

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Any) -> Any:
        """Stops the job when Airflow itself ends the deferral because the task's time is over: the triggerer was down."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout as error:
            attempt = remembered(context)
            if attempt:
                self._stop(read_address(self.connection_id) or RayAddress(), attempt.submission_id, FORMER_STOP_S)
            raise AirflowTaskTimeout(f"Ray job {attempt.submission_id if attempt else ''} had not ended when its time was over.") from error

    def on_kill(self) -> None:
        """Stops the job when the task is cleared, marked or killed while it runs, and waits until it has stopped."""
        self._is_killed = True
        if self._followed is None:
            return
        # Called in the middle of whatever this process does, often within its event loop: the job is stopped by another.
        stopping = threading.Thread(target=self._stop, args=(*self._followed, STOP_PATIENCE_S), daemon=True)
        stopping.start()
        stopping.join(STOP_PATIENCE_S)

    def _stop(self, address: RayAddress, submission_id: str, limit_s: float) -> None:
        self.log.info("Stopping Ray job %s.", submission_id)
        try:
            job = asyncio.run(self._stop_within(address, submission_id, limit_s))
        except TimeoutError:
            self.log.warning("Ray job %s has not stopped within %.0f s.", submission_id, limit_s)
        except RayJobsError as error:
            self.log.warning("Ray job %s could not be stopped: %s", submission_id, error)
        else:
            self.log.info("Ray job %s is over: %s.", submission_id, job.status.lower() if job else "unknown to Ray")

    async def _stop_within(self, address: RayAddress, submission_id: str, limit_s: float) -> RayJob | None:
        async with asyncio.timeout(limit_s), RayJobsApi(address, limit_s, self.log.warning) as api:
            return await api.stop_and_wait(submission_id)

    def _checked_settings(self) -> Settings:
        try:
            of_file = read_settings(self.settings) if self.settings else {}
            return check_settings(self.settings_class, {**of_file, **(self.overrides or {})})
        except SettingsError as error:
            kind = AirflowException if _may_pass(error) else AirflowFailException
            raise kind(f"{self.settings or self.task_id}: {error}") from error

    async def _find_or_submit(self, address: RayAddress, context: Any, settings: Settings) -> tuple[str, bool]:
        """The id of the job to follow, and whether it has succeeded already."""
        stem, former = submission_stem(context["ti"]), remembered(context)
        async with RayJobsApi(address, self.patience_s, self.log.warning) as api:
            if former and former.stem != stem:
                await self._end_former(api, former.submission_id)
                former = None
            attempt, job = await self._choose(api, stem, former)
            self._followed = (address, attempt.submission_id)
            if job is None and not self._is_killed:
                remember(context, attempt)
                await self._submit(api, context["ti"], attempt, settings)
        if not self._is_killed:
            remember(context, replace(attempt, is_submitted=True))
        return attempt.submission_id, job is not None and job.status == "SUCCEEDED"

    async def _end_former(self, api: RayJobsApi, submission_id: str) -> None:
        """Stops a job of before a clear that still runs, so that two are never at the same work."""
        job = await api.find(submission_id)
        if job is None or job.is_over:
            return
        self.log.info("Stopping Ray job %s, which is of before this task was cleared.", submission_id)
        try:
            async with asyncio.timeout(FORMER_STOP_S):
                await api.stop_and_wait(submission_id)
        except TimeoutError:
            self.log.warning("Ray job %s has not stopped within %.0f s; it is left behind.", submission_id, FORMER_STOP_S)

    async def _choose(self, api: RayJobsApi, stem: str, former: Attempt | None) -> tuple[Attempt, RayJob | None]:
        """The attempt to follow and its job: one that runs or succeeded, or None with the first number not yet used."""
        number = former.number if former else 1
        if former and former.is_submitted and await api.find(former.submission_id) is None:
            self.log.warning("Ray no longer knows job %s: its head was restarted.", former.submission_id)
            number += 1  # the lost job may still be dying: it must not meet one of its own name
        while (job := await api.find(Attempt(stem, number).submission_id)) is not None and job.status in ("FAILED", "STOPPED"):
            number += 1
        if job:
            self.log.info("Ray job %s is there already: %s.", job.submission_id, job.status.lower())
        return Attempt(stem, number), job

    def _settings_location(self, submission_id: str, settings: Settings) -> str:
        """Where the job finds its settings: in their own file, or in a copy with the overrides, which is written here."""
        if self.settings and not self.overrides:
            return self.settings
        location = f"{self.results.rstrip('/')}/{submission_id}.settings.yaml"
        write_settings(settings, location)
        return location

    async def _submit(self, api: RayJobsApi, ti: Any, attempt: Attempt, settings: Settings) -> None:
        job_id = attempt.submission_id
        command = [os.environ.get(CLUSTER_PYTHON_VARIABLE) or "python", "-m", f"ray_jobs.{self.job}"]
        places = ["--settings", self._settings_location(job_id, settings), "--result", self._result_location(job_id)]
        entrypoint = shlex.join([*command, *places])
        environment = {RUN_VARIABLE: attempt.stem, SUBMISSION_VARIABLE: job_id, DAG_RUN_VARIABLE: f"{ti.dag_id}/{ti.run_id}/{ti.task_id}"}
        self.log.info("Submitting Ray job %s: %s", job_id, entrypoint)
        await api.submit(NewJob(job_id, entrypoint, environment, JobOwner.of(ti).metadata(), os.environ.get(WORKING_DIR_VARIABLE) or None))

    def _failure(self, job_id: str, message: str) -> str:
        """A sentence on why a job failed (its own, where it ended with one, else Ray's) and its last lines."""
        lines = self._last_lines(job_id)
        told = [line.removeprefix(ERROR_PREFIX) for line in lines if line.startswith(ERROR_PREFIX)]
        reason = message.partition(", last available logs")[0].rstrip(".") or "Ray gives no reason"
        sentence = told[-1] if told else f"{reason}; the last line of its log is: {lines[-1] if lines else '(nothing)'}"
        return "\n".join([f"Ray job {job_id} failed: {sentence}", "Its last log lines:", *lines[-SHOWN_LINES:]])

    def _last_lines(self, job_id: str) -> list[str]:
        async def read() -> bytes | None:
            address = read_address(self.connection_id) or RayAddress()
            async with RayJobsApi(address, min(self.patience_s, LAST_LINES_PATIENCE_S), self.log.warning) as api:
                job = await api.find(job_id)
                return await api.log_end(job, READ_LINES) if job else None

        try:
            return (asyncio.run(read()) or b"").decode("utf-8", errors="replace").rstrip().splitlines()
        except RayJobsError:
            return []

    def _taken_result(self, context: Any, submission_id: str) -> dict[str, Any]:
        """The result of a job that has succeeded, also given to the events of the outlet assets."""
        self._followed = None
        result = self._read_result(submission_id)
        for asset in self.outlets:
            context["outlet_events"][asset].extra = result
        return result

    def _result_location(self, submission_id: str) -> str:
        return f"{self.results.rstrip('/')}/{submission_id}.json"

    def _read_result(self, submission_id: str) -> dict[str, Any]:
        location = self._result_location(submission_id)
        try:
            with reachable(location), fsspec.open(location, "rt", encoding="utf-8") as file:
                content = file.read()
            result = json.loads(content)
        except (StoreError, OSError, ValueError) as error:
            raise AirflowException(f"Ray job {submission_id} succeeded, but its result {location} cannot be read: {error}") from error
        return {name: len(value) if isinstance(value, list) else value for name, value in result.items()}


def remembered(context: Any) -> Attempt | None:
    """The job that this task has followed last, in whichever try and generation."""
    told = context["task_state_store"].get(STORE_KEY)
    return Attempt(**told) if told else None


def remember(context: Any, attempt: Attempt) -> None:
    """Keeps what `remembered` gives: survives retries and clears, for as long as Airflow keeps the state of tasks (30 days)."""
    context["task_state_store"].set(STORE_KEY, asdict(attempt))


def _may_pass(error: SettingsError) -> bool:
    """Whether settings that could not be read may be there in a while: their place was away, rather than empty or wrong."""
    cause = error.__cause__
    return cause is not None and not isinstance(cause, FileNotFoundError | ValueError | ImportError | yaml.YAMLError)


def submission_stem(ti: Any) -> str:
    """What the submission ids of one task of one run have in common, in this generation of it.

    `max_tries` stays the same over retries and grows when the task is cleared: a clear starts afresh. The run is in
    there as a hash, because run ids hold signs that file names and URLs do not; so is the name of this Airflow, because
    another one on the same Ray cluster may have the same DAG and, by a schedule, a run of the same id.
    """
    task = f"{ti.dag_id}.{ti.task_id}"
    run = hashlib.sha256(json.dumps([deployment(), ti.dag_id, ti.run_id, ti.task_id, ti.map_index]).encode()).hexdigest()[:16]
    return f"{re.sub(r'[^A-Za-z0-9._-]', '-', task)[:80]}.{run}.g{ti.max_tries}"
