"""Long lists of dubs: what is left to do, one job to one result row, and the loop of one process.

Faults of a job's media are that job's row and never the end of the run. A job is done when its row says so, its fingerprint
(row, settings, models) is the same, and its output is there; it is not done again. Failed jobs are tried again by the next run.
"""

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from schemas.errors import DubmillError, MediaError, SettingsError, StoreError
from schemas.jobs import BulkDubSummary, DubJob, DubSummary
from schemas.reasons import EXPLANATIONS, Reason
from schemas.settings import BulkDubSettings, DubSettings
from tasks import places
from tasks.dubbing.dub import dub_video
from tasks.dubbing.generate import Networks, check_headers, checkpoint_versions
from tasks.dubbing.job_list import output_location, read_job_list
from tasks.dubbing.results import FOLDER, ResultWriter, Row, read_results
from tasks.dubbing.template import TemplateMemory
from tasks.progress import Progress, silent
from tasks.published import with_weights_in_use

log = logging.getLogger(__name__)

SHAPING = ("fps", "references", "landmark_references", "precision", "crf")
"""Settings that change what an output shows."""


@dataclass(frozen=True)
class BulkPlan:
    """What a run has to do: jobs in an order that keeps those of one video together, the rows that stand already,
    and the versions of the checkpoints.
    """

    jobs: tuple[DubJob, ...]
    listed: int
    known: dict[str, Row]
    versions: dict[str, str]

    @property
    def already_done(self) -> int:
        """Jobs that an earlier run has done."""
        return self.listed - len(self.jobs)


def plan_bulk(settings: BulkDubSettings) -> BulkPlan:
    """Reads the job list and the results so far. Raises SettingsError for the list and CheckpointError for the models."""
    listed = read_job_list(settings.jobs, settings.out)
    check_headers(settings)
    versions = checkpoint_versions(settings)
    known = read_results(settings.out)
    left = [job for job in listed if not _is_done(job, settings, versions, known)]
    return BulkPlan(tuple(sorted(left, key=lambda job: job.video)), len(listed), known, versions)


def bulk_dub_here(settings: BulkDubSettings, progress: Progress = silent) -> BulkDubSummary:
    """Does the jobs of a list one after the other in this process. Faults of media are rows, not errors.

    Raises SettingsError, CheckpointError or StoreError when the run as a whole cannot work.
    """
    settings = with_weights_in_use(settings)
    plan = plan_bulk(settings)
    return run_bulk(settings, plan, lambda jobs: map(JobWorker(settings), jobs), progress)


def run_bulk(settings: BulkDubSettings, plan: BulkPlan, work: Callable[[tuple[DubJob, ...]], Iterable[Row]], progress: Progress) -> BulkDubSummary:
    """Gives the plan's jobs to `work`, writes the rows that come back, in any order, and counts them."""
    failed: Counter[str] = Counter()
    rows = work(plan.jobs) if plan.jobs else iter(())
    with ResultWriter(settings.out) as results:
        for done, row in enumerate(rows, start=1):
            if row["status"] == "failed":
                failed[str(row["reason"])] += 1
            if row != plan.known.get(str(row["job_id"])):  # the same failure again adds nothing
                results.add(row)
            progress(done, len(plan.jobs), f"jobs, {failed.total()} failed")
    return BulkDubSummary(
        out=settings.out,
        jobs=plan.listed,
        already_done=plan.already_done,
        done=len(plan.jobs) - failed.total(),
        failed=dict(failed),
        results=places.join(settings.out, FOLDER),
    )


class JobWorker:
    """Does jobs one after the other with networks that are loaded once; remembers the last video's template."""

    def __init__(self, settings: BulkDubSettings) -> None:
        self.settings = settings
        self.networks = Networks.load(settings)
        self.memory = TemplateMemory()

    def __call__(self, job: DubJob) -> Row:
        """The result row of one job, done or failed; raises nothing of the job's making."""
        out = output_location(self.settings.out, job)
        start = time.perf_counter()
        try:
            summary = dub_video(job.video, job.speech, out, _settings_of(job, self.settings), networks=self.networks, memory=self.memory)
        except DubmillError as error:
            return self._failed(job, _reason(error), str(error))
        except Exception as error:
            log.exception("job %s failed unexpectedly", job.job_id)
            return self._failed(job, Reason.INTERNAL, f"{type(error).__name__}: {error}")
        return _row(job, self.settings, self.networks.versions, status="done", **_facts(summary, time.perf_counter() - start))

    def _failed(self, job: DubJob, reason: Reason, detail: str) -> Row:
        return _row(job, self.settings, self.networks.versions, status="failed", reason=reason.value, detail=detail)


def lost_row(job: DubJob, settings: BulkDubSettings, versions: dict[str, str]) -> Row:
    """The result row of a job whose worker died each time it was tried; `versions` of the checkpoints as in the plan."""
    return _row(job, settings, versions, status="failed", reason=Reason.WORKER_LOST.value, detail=EXPLANATIONS[Reason.WORKER_LOST])


def _row(job: DubJob, settings: BulkDubSettings, versions: dict[str, str], **facts: object) -> Row:
    empty = dict.fromkeys(("output", "reason", "detail", "duration_s", "frames", "dubbed_frames", "frames_per_second"))
    named: Row = {"job_id": job.job_id, "video": job.video, "speech": job.speech}
    return named | empty | facts | versions | {"fingerprint": fingerprint(job, settings, versions)}


def fingerprint(job: DubJob, settings: BulkDubSettings, versions: dict[str, str]) -> str:
    """16 hex digits of all that shapes a job's output: its row, where it goes, the settings and the models."""
    shaping = _settings_of(job, settings).model_dump(include=set(SHAPING))
    everything = [job.job_id, job.video, job.speech, output_location(settings.out, job), shaping, versions]
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()[:16]


def _is_done(job: DubJob, settings: BulkDubSettings, versions: dict[str, str], known: dict[str, Row]) -> bool:
    row = known.get(job.job_id)
    if row is None or row["status"] != "done" or row["fingerprint"] != fingerprint(job, settings, versions):
        return False
    return places.exists(str(row["output"]))


def _settings_of(job: DubJob, settings: BulkDubSettings) -> DubSettings:
    """The run's settings with what the job's row overrides."""
    shared = settings.model_dump(include=set(DubSettings.model_fields))
    return DubSettings(**shared).replaced(fps=job.fps, references=job.references)


def _facts(summary: DubSummary, seconds: float) -> dict[str, object]:
    return {
        "output": summary.output,
        "duration_s": summary.duration_s,
        "frames": summary.frames,
        "dubbed_frames": summary.dubbed_frames,
        "frames_per_second": summary.frames / seconds,
    }


def _reason(error: DubmillError) -> Reason:
    if isinstance(error, MediaError):
        return error.reason
    if isinstance(error, StoreError):
        return Reason.OUTPUT_UNWRITABLE
    if isinstance(error, SettingsError):
        return Reason.BAD_SETTINGS
    return Reason.INTERNAL


def grouped(jobs: Iterable[DubJob], most: int) -> Iterator[list[DubJob]]:
    """Jobs of one video that follow each other, at most `most` together: what one worker does in one go."""
    group: list[DubJob] = []
    for job in jobs:
        if group and (job.video != group[0].video or len(group) == most):
            yield group
            group = []
        group.append(job)
    if group:
        yield group
