"""Long lists of dubs: one job to one result row, the canary before the rest, and the loop of one process.

Faults of a job's media are that job's row and never the end of the run. A job is done when its row says so, its fingerprint
(row, settings, models) is the same, and its output is there; it is not done again. Failed jobs are tried again by the next run.
"""

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable

from structlog.contextvars import bound_contextvars

from schemas.errors import DubmillError, MediaError, SettingsError, StoreError
from schemas.job_log import DAG_RUN_VARIABLE
from schemas.jobs import BulkDubSummary, DubJob, DubOrigin, DubSummary, FailedJob
from schemas.reasons import EXPLANATIONS, Reason
from schemas.settings import BulkDubSettings
from tasks import places
from tasks.dubbing.bulk_plan import BulkPlan, fingerprints, plan_bulk, settings_of
from tasks.dubbing.dub import dub_video
from tasks.dubbing.generate import Networks
from tasks.dubbing.inputs import FetchedAhead
from tasks.dubbing.job_list import output_location
from tasks.dubbing.results import FOLDER, ResultWriter, Row
from tasks.dubbing.template import TemplateMemory
from tasks.dubbing.time_limit import LEAST_S, in_time, time_limit_s
from tasks.progress import Progress, silent
from tasks.published import with_weights_in_use

log = logging.getLogger(__name__)

Work = Callable[[tuple[DubJob, ...]], Iterable[Row]]
"""Does jobs and gives their result rows, in any order."""
CANARY_BEARS = 0.5
"""Share of the canary's jobs that may fail: more, and it is likely the settings or the list that are wrong."""
ORIGIN = (
    *("landmark_generator_sha256", "renderer_sha256", "landmark_generator_snapshot", "renderer_snapshot"),
    *("video_sha256", "speech_sha256", "consent"),
)
"""Columns of a row that say what its dub was made of."""
MOST_NAMED = 5
"""Failed jobs that a summary names."""
GO_ON = (
    "mend it, and if it lay in the files and not in the settings or the list, go on with `canary: 0` in the settings file "
    "(that of --settings, or the DAG's) until one job is done"
)
"""How to go on after a canary that failed. Other settings have a canary of their own; whether a file was mended is not known before it is read."""


def bulk_dub_here(settings: BulkDubSettings, progress: Progress = silent) -> BulkDubSummary:
    """Does the jobs of a list one after the other in this process. Faults of media are rows, not errors.

    Raises SettingsError, CheckpointError or StoreError when the run as a whole cannot work, and DubmillError when too much of its canary
    fails. A job that hangs in compiled code holds up this process for good: only workers (`--ray`) can be ended for it.
    """
    settings = with_weights_in_use(settings)
    plan = plan_bulk(settings)
    worker: list[JobWorker] = []  # made when the first job is there to be done, kept for the others

    def work(jobs: tuple[DubJob, ...]) -> Iterable[Row]:
        worker[:] = worker or [JobWorker(settings)]
        return map(worker[0], jobs)

    return run_bulk(settings, plan, work, progress)


def run_bulk(settings: BulkDubSettings, plan: BulkPlan, work: Work, progress: Progress) -> BulkDubSummary:
    """Gives the plan's jobs to `work`, the canary first, writes the rows that come back, and counts them.

    The canary is of jobs that have not failed before as they are now, and there is none when these are no more than it has.
    Raises DubmillError when more than half of it fails: the others are not begun. Its rows are written.
    Raises it before any job when earlier runs with these settings have shown that already: each run would wear out other jobs.
    The rows of a run that is interrupted are written too; the KeyboardInterrupt gets a note that says how far it came.
    """
    _require_no_failed_canary(settings, plan)
    tally = _Tally(plan)
    canary, rest = _parted(plan, settings.canary)
    tally.tell(progress)
    try:
        with ResultWriter(settings.out) as results:
            _take_rows(work(canary) if canary else (), tally, results, progress)
            if canary and tally.failed.total() > CANARY_BEARS * len(canary):
                raise DubmillError(_canary_sentence(settings, tally, len(rest)))
            _take_rows(work(rest) if rest else (), tally, results, progress)
    except KeyboardInterrupt as interruption:
        interruption.add_note(f"Stopped after {tally.rows} of {tally.jobs} jobs{', whose rows are written' if tally.rows else ''}")
        raise
    return tally.summary(settings.out)


def _require_no_failed_canary(settings: BulkDubSettings, plan: BulkPlan) -> None:
    """DubmillError when nothing was ever done with these settings, as many jobs have failed as a canary does not bear, and others are to begin."""
    outcomes = Counter(row["status"] for row in plan.alike.values())
    if not settings.canary or outcomes["done"] or outcomes["failed"] <= CANARY_BEARS * settings.canary or not plan.fresh:
        return
    reasons = _counts(Counter(str(row["reason"]) for row in plan.alike.values()))
    raise DubmillError(
        f"With these settings {outcomes['failed']} jobs have failed before ({reasons}) and none was ever done, so the other {len(plan.fresh)} were not begun; "
        f"the rows in {places.join(settings.out, FOLDER)} say why; {GO_ON}."
    )


def _parted(plan: BulkPlan, canary: int) -> tuple[tuple[DubJob, ...], tuple[DubJob, ...]]:
    """The canary, and what is done if that goes well."""
    fresh = plan.fresh
    if len(fresh) <= canary:
        return (), plan.jobs
    first = fresh[:canary]
    ids = {job.job_id for job in first}
    return first, tuple(job for job in plan.jobs if job.job_id not in ids)


def _take_rows(rows: Iterable[Row], tally: "_Tally", results: ResultWriter, progress: Progress) -> None:
    for row in rows:
        if tally.takes(row):
            results.add(row)
        tally.tell(progress)


def _canary_sentence(settings: BulkDubSettings, tally: "_Tally", rest: int) -> str:
    results = places.join(settings.out, FOLDER)
    return (
        f"{tally.failed.total()} of the first {tally.rows} jobs failed ({_counts(tally.failed)}), so the other {rest} were not begun; "
        f"their rows in {results} say why; {GO_ON}."
    )


def _counts(reasons: Counter[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())


class _Tally:
    """Counts rows as they come."""

    def __init__(self, plan: BulkPlan) -> None:
        self._plan = plan
        self.jobs = len(plan.jobs)
        self.rows = 0
        self.failed: Counter[str] = Counter()
        self._first_failed: list[FailedJob] = []

    def takes(self, row: Row) -> bool:
        """Counts a row; False: it is a failure that says the same as the one that is written already. A dub that was made tells of itself anew."""
        self.rows += 1
        if row["status"] == "failed":
            self.failed[str(row["reason"])] += 1
            if len(self._first_failed) < MOST_NAMED:
                self._first_failed.append(FailedJob(job_id=str(row["job_id"]), reason=str(row["reason"]), detail=str(row["detail"])))
        known = self._plan.known.get(str(row["job_id"]))
        return row["status"] == "done" or known is None or any(row[name] != value for name, value in known.items())

    def tell(self, progress: Progress) -> None:
        """Says how far the run is, where there is anything to do."""
        if self.jobs:
            progress(self.rows, self.jobs, f"jobs, {self.failed.total()} failed")

    def summary(self, out: str) -> BulkDubSummary:
        """What the run ended with."""
        return BulkDubSummary(
            out=out,
            jobs=self._plan.listed,
            already_done=self._plan.already_done,
            done=self.rows - self.failed.total(),
            failed=dict(self.failed),
            first_failed=tuple(self._first_failed),
            results=places.join(out, FOLDER),
            models=self._plan.hashes,
            snapshots=self._plan.snapshots,
        )


class JobWorker:
    """Does jobs one after the other with networks that are loaded once; remembers the last video's template."""

    def __init__(self, settings: BulkDubSettings, on_dub: Callable[[DubSummary], object] = lambda _: None) -> None:
        """on_dub: told of each dub that was made."""
        self.settings = settings
        self._on_dub = on_dub
        self.networks = Networks.load(settings)
        self.memory = TemplateMemory()
        self._speech = FetchedAhead()

    def limit_s(self, job: DubJob) -> float:
        """The time limit of a job, by the length of its speech, which is fetched for that and stays for the job itself."""
        with bound_contextvars(job_id=job.job_id):
            return self._limit_s(job)

    def _limit_s(self, job: DubJob) -> float:
        try:
            return time_limit_s(self._speech.fetch(job.speech), self.settings.time_limit_factor)
        except MediaError:  # the job itself tells why
            return LEAST_S
        except Exception:  # raised on a cluster it would end the run; the job itself meets it again, and that is its row
            log.exception("the speech of job %s does not say how long it is", job.job_id)
            return LEAST_S

    def __call__(self, job: DubJob, limit_s: float | None = None) -> Row:
        """The result row of one job, done or failed; raises nothing of the job's making. limit_s: by default of the job's speech."""
        with bound_contextvars(job_id=job.job_id):
            row = self._row(job, limit_s)
            log.info("%s: %s", row["status"], row["output"] or f"{row['reason']}: {row['detail']}")
        return row

    def _row(self, job: DubJob, limit_s: float | None) -> Row:
        start = time.perf_counter()
        try:
            summary = self._dub(job, limit_s or self.limit_s(job))
        except DubmillError as error:
            return self._failed(job, _reason(error), str(error))
        except Exception as error:
            log.exception("job %s failed unexpectedly", job.job_id)
            return self._failed(job, Reason.INTERNAL, f"{type(error).__name__}: {error}")
        self._on_dub(summary)
        return _row(job, self.settings, self.networks.versions, status="done", **_facts(summary, time.perf_counter() - start))

    def _dub(self, job: DubJob, limit_s: float) -> DubSummary:
        out, settings = output_location(self.settings.out, job), settings_of(job, self.settings)
        with self._speech.taken(job.speech) as speech:
            return dub_video(job.video, str(speech), out, settings, in_time(limit_s), self.networks, self.memory, job.segments)

    def _failed(self, job: DubJob, reason: Reason, detail: str) -> Row:
        return failed_row(job, self.settings, self.networks.versions, reason, detail)


def failed_row(job: DubJob, settings: BulkDubSettings, versions: dict[str, str], reason: Reason, detail: str | None = None) -> Row:
    """The result row of a job that failed; `versions` of the checkpoints as in the plan. detail: by default the reason in a person's words."""
    return _row(job, settings, versions, status="failed", reason=reason.value, detail=detail or EXPLANATIONS[reason])


def _row(job: DubJob, settings: BulkDubSettings, versions: dict[str, str], **facts: object) -> Row:
    named: Row = {"job_id": job.job_id, "video": job.video, "speech": job.speech}
    empty = dict.fromkeys(("output", "reason", "detail", "duration_s", "frames", "dubbed_frames", "frames_per_second"))
    looks = dict.fromkeys(("source_shown_s", "source_shown", "confidence", "worst"))
    origin = dict.fromkeys(ORIGIN) | {"dag_run": os.environ.get(DAG_RUN_VARIABLE) or None}
    return named | empty | looks | origin | facts | versions | {"fingerprint": fingerprints(settings, versions)(job)}


def _facts(summary: DubSummary, seconds: float) -> dict[str, object]:
    shown = summary.source_shown
    return {
        "output": summary.output,
        "duration_s": summary.duration_s,
        "frames": summary.frames,
        "dubbed_frames": summary.dubbed_frames,
        "frames_per_second": summary.frames / seconds,
        "source_shown_s": sum(stretch.end_s - stretch.start_s for stretch in shown),
        "source_shown": json.dumps([stretch.model_dump() for stretch in shown]),
        "confidence": list(summary.confidence),
        "worst": json.dumps([moment.model_dump() for moment in summary.worst]),
        **(_origin(summary.made_of) if summary.made_of else {}),
    }


def _origin(made_of: DubOrigin) -> dict[str, object]:
    return {
        **{f"{name}_sha256": digest for name, digest in made_of.models.items()},
        **{f"{name}_snapshot": snapshot for name, snapshot in made_of.snapshots.items()},
        "video_sha256": made_of.video,
        "speech_sha256": made_of.speech,
        "consent": made_of.consent,
    }


def _reason(error: DubmillError) -> Reason:
    if isinstance(error, MediaError):
        return error.reason
    if isinstance(error, StoreError):
        return Reason.OUTPUT_UNWRITABLE
    if isinstance(error, SettingsError):
        return Reason.BAD_SETTINGS
    return Reason.INTERNAL
