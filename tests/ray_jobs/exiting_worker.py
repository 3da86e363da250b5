"""Actors for the tests of `ray_jobs.dub`: in a module of their own, because Ray's workers import them by name.

What a job does to its worker is in its job_id: DEADLY ones end the process each time, as a crash in a decoder would; ONCE ones are
killed in the middle of their work the first time, as by a machine that is taken away; a HANGING one never comes to an end; a LATE one
ends the process when its time limit is over, but not yet its grace; of a MUTE one it takes forever to find out how long its speech is.
"""

import os
import signal
import threading
import time
from pathlib import Path

from ray_jobs.dub import DubActor
from schemas.jobs import DubJob
from tasks.dubbing.results import Row

DEADLY, ONCE, HANGING, LATE, MUTE = "deadly", "once", "hanging", "late", "silent"
HANGING_LIMIT_S = 0.5
HANG_S = 120.0
WORKED_ON_S = 0.1
"""How long a ONCE job is worked on before its worker is killed."""


class ExitingActor(DubActor):
    """Dubs, unless a job ends it. Each beginning of a job is a line of `begun` in the output folder."""

    grace_s = 0.0

    def read_limit_s(self, job: DubJob) -> float:
        return HANGING_LIMIT_S if HANGING in job.job_id else super().read_limit_s(job)

    def work(self, job: DubJob, limit_s: float) -> Row:
        begun = Path(self.settings.out) / "begun"
        begun.parent.mkdir(parents=True, exist_ok=True)
        is_first = not begun.exists() or job.job_id not in begun.read_text().split()
        with begun.open("a") as file:
            file.write(f"{job.job_id} {os.getpid()}\n")
        if DEADLY in job.job_id:
            os._exit(1)
        if ONCE in job.job_id and is_first:
            threading.Timer(WORKED_ON_S, os.kill, (os.getpid(), signal.SIGKILL)).start()
        if HANGING in job.job_id:
            time.sleep(HANG_S)
        return super().work(job, limit_s)


class SayingActor(ExitingActor):
    """Says that a job is done without doing it, so that no network is needed."""

    def ready(self) -> str:
        return "" if self.settings.renderer == "none" else f"There is no {self.settings.renderer}."

    def read_limit_s(self, job: DubJob) -> float:
        if MUTE in job.job_id:
            time.sleep(HANG_S)
        return HANGING_LIMIT_S if HANGING in job.job_id or LATE in job.job_id else 600.0

    def work(self, job: DubJob, limit_s: float) -> Row:
        self._worker = self._say  # type: ignore[assignment]
        return super().work(job, limit_s)

    def _say(self, job: DubJob, limit_s: float) -> Row:
        time.sleep(5 * WORKED_ON_S if ONCE in job.job_id else 0)
        return {"job_id": job.job_id, "status": "done", "detail": f"{self.threads} threads"}


class GracefulActor(SayingActor):
    """Ends itself only some time after a job's limit, as in production, and soon when a speech does not tell how long it is."""

    grace_s = 3.0
    reading_s = 0.5

    def work(self, job: DubJob, limit_s: float) -> Row:
        if LATE in job.job_id:
            time.sleep(2 * limit_s)
            os._exit(1)
        return super().work(job, limit_s)


class DyingActor(SayingActor):
    """Dies whenever it begins."""

    def ready(self) -> str:
        os._exit(1)
