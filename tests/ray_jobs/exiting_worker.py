"""Actors for the tests of `ray_jobs.dub`: in a module of their own, because Ray's workers import them by name."""

import os

from ray_jobs.dub import GroupWorker
from schemas.jobs import DubJob
from schemas.settings import BulkDubSettings
from tasks.dubbing.results import Row

DEADLY = "deadly"


class ExitingWorker(GroupWorker):
    """Says that a job is done without doing it; a job called DEADLY ends the worker's process, as a crash in a decoder would."""

    def __init__(self, settings: BulkDubSettings, threads: int) -> None:
        self.threads = threads
        self._work = self._say_or_exit

    def _say_or_exit(self, job: DubJob) -> Row:
        if job.job_id == DEADLY:
            os._exit(1)
        return {"job_id": job.job_id, "status": "done", "detail": f"{self.threads} threads"}
