"""An Airflow task that is one Ray job: submitted, found again after a retry, followed to its end."""

import hashlib
import json
import logging
import os
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any

import fsspec
from airflow.sdk import BaseOperator, Connection
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowNotFoundException

from dags.operators.ray_jobs_api import RayAddress, RayJob, RayJobsApi, RayJobsError
from schemas.errors import SettingsError
from schemas.job_log import CLUSTER_PYTHON_VARIABLE, ERROR_PREFIX, RUN_VARIABLE
from schemas.settings import Settings, check_settings, read_settings, write_settings

POLL_S = 2.0
"""Seconds between two looks at a job."""
LONGEST_LOG_PAUSE_S = 30.0
"""Seconds between two looks at the log of a job that prints nothing; each look brings the whole log."""
LOG_CHARACTERS_A_SECOND = 100_000
"""How much of logs to read on average: a long log is looked at less often."""
PATIENCE_S = 600.0
"""Seconds to wait for a Ray that does not answer: a head that restarts, a network that is away."""
STOP_PATIENCE_S = 4.0
"""Seconds to wait when a job must be stopped: Airflow kills the process about five seconds after it asks."""
SHOWN_LINES = 20
"""Last lines of a failed job's log that its error carries."""


class RayJobOperator(BaseOperator):  # type: ignore[misc]
    """Runs `python -m ray_jobs.NAME --settings URI --result URI` on a Ray cluster and returns what it made.

    The submission id is made of dag, run, task, map index and generation (a clear begins a new one), and of a count of
    failed attempts. So a retry, or a task whose process died, finds its job again: one that runs is followed, one that
    succeeded is not run twice, one that failed or was stopped gets the next id. The job finds what its attempts have in
    common in its environment, as RUN_VARIABLE: a training goes on from the state of an attempt that was killed, and from no other.

    Args:
        job: module under `ray_jobs`.
        settings: URI of the flat YAML file that the job reads; this machine and the cluster must both reach it. None: there is no
            file, the overrides are all.
        settings_class: what the file is checked against before anything is submitted. Faults are not retried.
        results: folder or prefix for the job's result, a small JSON object of URIs and counts; it becomes the XCom value and
            the `extra` of each outlet asset's event. Lists in it are given as their lengths.
        overrides: settings that replace those of the file: of a task that is mapped over them, or what an earlier task returned.
            The job then reads a copy of the file with them, which is written beside its result.
        connection_id: Airflow connection of Ray's job API: host, port, and as password the token. Default without
            such a connection: http://127.0.0.1:8265, no token.
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

    def execute(self, context: Any) -> dict[str, Any]:
        """Runs or finds the job, waits for its end and returns its result. Raises AirflowException when it fails."""
        settings = self._checked_settings()
        logging.getLogger("httpx").setLevel(logging.WARNING)  # or each look at the job is a line in the task's log
        address = ray_address(self.connection_id)
        api = RayJobsApi(address, self.patience_s, self.log.warning)
        try:
            stem = submission_stem(context["ti"])
            submission_id, is_there = self._choose_id(api, stem)
            self._followed = (address, submission_id)
            if not is_there:
                self._submit(api, submission_id, stem, self._settings_location(submission_id, settings))
            self._require_success(self._follow(api, submission_id), api)
        except RayJobsError as error:
            raise AirflowException(str(error)) from error
        finally:
            api.close()
        self._followed = None
        result = self._read_result(submission_id)
        for asset in self.outlets:
            context["outlet_events"][asset].extra = result
        return result

    def on_kill(self) -> None:
        """Stops the job when the task is cleared, marked or killed while it runs."""
        if self._followed is None:
            return
        address, submission_id = self._followed
        self.log.info("Stopping Ray job %s.", submission_id)
        api = RayJobsApi(address, STOP_PATIENCE_S, self.log.warning)
        try:
            api.stop(submission_id)
        finally:
            api.close()

    def _checked_settings(self) -> Settings:
        try:
            of_file = read_settings(self.settings) if self.settings else {}
            return check_settings(self.settings_class, {**of_file, **(self.overrides or {})})
        except SettingsError as error:
            raise AirflowFailException(f"{self.settings or self.task_id}: {error}") from error

    def _choose_id(self, api: RayJobsApi, stem: str) -> tuple[str, bool]:
        """The id to follow, and whether Ray has such a job: one that runs or succeeded, or the first id not yet used."""
        attempt = 1
        while (found := api.find(f"{stem}.a{attempt}")) is not None:
            if found.status not in ("FAILED", "STOPPED"):
                self.log.info("Ray job %s is there already: %s.", found.submission_id, found.status.lower())
                return found.submission_id, True
            attempt += 1
        return f"{stem}.a{attempt}", False

    def _settings_location(self, submission_id: str, settings: Settings) -> str:
        """Where the job finds its settings: in their own file, or in a copy with the overrides, which is written here."""
        if self.settings and not self.overrides:
            return self.settings
        location = f"{self.results.rstrip('/')}/{submission_id}.settings.yaml"
        write_settings(settings, location)
        return location

    def _submit(self, api: RayJobsApi, submission_id: str, stem: str, settings: str) -> None:
        command = [os.environ.get(CLUSTER_PYTHON_VARIABLE, "python"), "-m", f"ray_jobs.{self.job}"]
        entrypoint = shlex.join([*command, "--settings", settings, "--result", self._result_location(submission_id)])
        self.log.info("Submitting Ray job %s: %s", submission_id, entrypoint)
        api.submit(submission_id, entrypoint, {RUN_VARIABLE: stem})

    def _follow(self, api: RayJobsApi, submission_id: str) -> RayJob:
        """Waits for the end of a job and brings its new log lines into this task's log."""
        log = _JobLog(api, submission_id, self.poll_s)
        while True:
            job = api.find(submission_id)
            if job is None:
                raise AirflowException(f"Ray no longer knows job {submission_id}: its head was restarted; a retry submits it afresh.")
            for line in log.new_lines(job.is_over):
                self.log.info("%s", line)
            if job.is_over:
                return job
            time.sleep(self.poll_s)

    def _require_success(self, job: RayJob, api: RayJobsApi) -> None:
        if job.status == "SUCCEEDED":
            return
        lines = api.logs(job.submission_id).rstrip().splitlines()
        raise AirflowException("\n".join([_failure(job, lines), "Its last log lines:", *lines[-SHOWN_LINES:]]))

    def _result_location(self, submission_id: str) -> str:
        return f"{self.results.rstrip('/')}/{submission_id}.json"

    def _read_result(self, submission_id: str) -> dict[str, Any]:
        location = self._result_location(submission_id)
        try:
            with fsspec.open(location, "rt", encoding="utf-8") as file:
                result = json.load(file)
        except (OSError, ValueError) as error:
            raise AirflowException(f"Ray job {submission_id} succeeded, but its result {location} cannot be read: {error}.") from error
        return {name: len(value) if isinstance(value, list) else value for name, value in result.items()}


class _JobLog:
    """The log of a job that runs, line by line. It is asked for less and less often while it brings nothing new."""

    def __init__(self, api: RayJobsApi, submission_id: str, poll_s: float) -> None:
        self._api, self._submission_id, self._poll_s = api, submission_id, poll_s
        self._pause_s = poll_s
        self._due_at = 0.0
        self._shown = 0

    def new_lines(self, is_over: bool) -> list[str]:
        """Whole lines that are new, all that are left when the job is over; none while it is too early for another look."""
        if not is_over and time.monotonic() < self._due_at:
            return []
        text = self._api.logs(self._submission_id)
        whole = len(text) if is_over else text.rfind("\n") + 1  # a half-written line is left for the next look
        lines = text[self._shown : whole].splitlines()
        self._shown = max(self._shown, whole)
        self._pause_s = self._poll_s if lines else 2 * self._pause_s
        self._due_at = time.monotonic() + min(max(self._pause_s, len(text) / LOG_CHARACTERS_A_SECOND), LONGEST_LOG_PAUSE_S)
        return lines


def _failure(job: RayJob, lines: Sequence[str]) -> str:
    """One sentence on why a job did not succeed: its own, where it ended with one, else Ray's."""
    if job.status == "STOPPED":
        return f"Ray job {job.submission_id} was stopped before its end."
    told = [line.removeprefix(ERROR_PREFIX) for line in lines if line.startswith(ERROR_PREFIX)]
    if told:
        return f"Ray job {job.submission_id} failed: {told[-1]}"
    reason = job.message.strip().partition("\n")[0].partition(", last available logs")[0] or "Ray gives no reason"
    return f"Ray job {job.submission_id} failed: {reason.rstrip('.')}; the last line of its log is: {lines[-1] if lines else '(nothing)'}"


def ray_address(connection_id: str) -> RayAddress:
    """Where Ray's job API is, from an Airflow connection; this machine's loopback when there is no such connection."""
    try:
        connection = Connection.get(connection_id)
    except AirflowNotFoundException:
        return RayAddress()
    host = connection.host or "127.0.0.1"
    if "://" not in host:
        scheme = connection.schema or ("https" if connection.conn_type == "https" else "http")
        host = f"{scheme}://{host}"
    url = f"{host}:{connection.port}" if connection.port else host
    return RayAddress(url, connection.password or None)


def submission_stem(ti: Any) -> str:
    """What the submission ids of one task of one run have in common, in this generation of it.

    `max_tries` stays the same over retries and grows when the task is cleared: a clear starts afresh. The run is in
    there as a hash, because run ids hold signs that file names and URLs do not.
    """
    task = f"{ti.dag_id}.{ti.task_id}"
    run = hashlib.sha256(json.dumps([ti.dag_id, ti.run_id, ti.task_id, ti.map_index]).encode()).hexdigest()[:16]
    return f"{re.sub(r'[^A-Za-z0-9._-]', '-', task)[:80]}.{run}.g{ti.max_tries}"
