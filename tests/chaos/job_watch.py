"""Which jobs of which task are alive, seen several times a second: by what Ray says, and by the processes that there are."""

import re
import threading
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

import httpx

from tests.chaos.processes import command_lines

LOOK_EVERY_S = 0.3
JOB_ID = re.compile(r"(?P<task>[\w.-]+\.[0-9a-f]{16})\.g\d+\.a\d+")
"""A submission id: dag, task and a hash of the run, then generation and attempt."""
AT_WORK = frozenset({"PENDING", "RUNNING"})


@dataclass
class TaskJobs:
    """What was seen of one task's jobs. most: alive at once. overlap_s: how long more than one was alive."""

    submitted: set[str] = field(default_factory=set)
    most: int = 0
    overlap_s: float = 0.0


class JobWatch:
    """Watches within its context. A job is alive while Ray says so or while a process of its driver lives, whatever Ray says.

    place: in the command of every driver that is meant, so that nobody else's count. Jobs of before do not count.
    """

    def __init__(self, ray_url: str, place: str) -> None:
        self.tasks: dict[str, TaskJobs] = defaultdict(TaskJobs)
        self.alive: frozenset[str] = frozenset()
        """Submission ids of the jobs alive at the last look."""
        self._place = place
        self._client = httpx.Client(base_url=ray_url, trust_env=False, timeout=5.0)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def __enter__(self) -> Self:
        self._of_before = frozenset(self._told())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._client.close()

    def jobs_of(self, task: str) -> TaskJobs:
        """All tasks whose ids begin so (`<dag>.<task>`), as one: what was submitted for all, the worst of any."""
        found = [jobs for name, jobs in list(self.tasks.items()) if name.startswith(f"{task}.")]
        submitted = {job for jobs in found for job in jobs.submitted}
        return TaskJobs(submitted, max((jobs.most for jobs in found), default=0), max((jobs.overlap_s for jobs in found), default=0.0))

    def is_submitted_now(self, task: str) -> bool:
        """Whether Ray has a job of that task just now."""
        return any(job.startswith(f"{task}.") for job in self._told().keys() - self._of_before)

    def _look_on(self) -> None:
        looked_s = time.monotonic()
        while not self._ended.wait(LOOK_EVERY_S):
            told = self._told()
            alive = {job for job, status in told.items() if status in AT_WORK} | self._with_processes()
            passed_s, looked_s = time.monotonic() - looked_s, time.monotonic()
            self._count({*told, *alive} - self._of_before, alive - self._of_before, passed_s)

    def _count(self, submitted: set[str], alive: set[str], passed_s: float) -> None:
        by_task = defaultdict(set)
        for job in submitted:
            if named := JOB_ID.fullmatch(job):
                by_task[named["task"]].add(job)
        for task, jobs in by_task.items():
            seen = self.tasks[task]
            seen.submitted |= jobs
            seen.most = max(seen.most, len(jobs & alive))
            seen.overlap_s += passed_s if len(jobs & alive) > 1 else 0.0
        self.alive = frozenset(alive)

    def _told(self) -> dict[str, str]:
        """Status of every job that Ray knows, by submission id; none while Ray is away."""
        with suppress(httpx.HTTPError, ValueError):
            answer = self._client.get("/api/jobs/")
            if answer.is_success:
                return {job["submission_id"]: job["status"] for job in answer.json() if job.get("submission_id")}
        return {}

    def _with_processes(self) -> set[str]:
        lines = (line for _, line in command_lines() if self._place in line and "ray_jobs." in line)
        return {named[0] for line in lines if (named := JOB_ID.search(line))}
