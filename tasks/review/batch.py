"""A bulk run as a batch of the review room: which dubs are to be shown, what of them is there already, and the list that is written last."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from pydantic import ValidationError

from schemas.errors import SettingsError, StoreError
from schemas.gate import Gate
from schemas.jobs import DubJob, ReviewSummary
from schemas.locations import without_secrets
from schemas.review import BATCH_FILE, BATCH_NAME, ITEMS_FOLDER, ReviewBatch, ReviewItem, item_key
from schemas.settings import BulkDubSettings, ReviewSettings, check_settings, read_settings
from tasks import places
from tasks.dubbing.bulk_plan import settings_of
from tasks.dubbing.job_list import read_job_list
from tasks.dubbing.results import FOLDER, read_results
from tasks.progress import Progress
from tasks.review.item import DubToShow, gate_of, make_item

NAMED_IN_NOTE = 3
"""Dubs that cannot be shown and that the batch's note names."""

Made = Iterator[tuple[DubToShow, ReviewItem | str]]
Make = Callable[[Iterable[DubToShow]], Made]
"""Makes items, in any order: each dub with its item, or with a sentence on why it cannot be shown."""


@dataclass(frozen=True)
class ReviewPlan:
    """What a batch takes. kept: items that are there and still true, their gates judged anew. failed_jobs: jobs of the run that made no dub."""

    settings: ReviewSettings
    batch: str
    folder: str
    to_make: tuple[DubToShow, ...]
    kept: tuple[ReviewItem, ...]
    failed_jobs: int


def review_here(settings: ReviewSettings, progress: Progress) -> ReviewSummary:
    """Makes a batch in this process. Raises as `plan_review`."""
    return review(settings, lambda dubs: ((dub, make_item(dub)) for dub in dubs), progress)


def review(settings: ReviewSettings, make: Make, progress: Progress) -> ReviewSummary:
    """Makes what is not there yet, and then writes the list of the batch. `make` says where the work is done. Raises as `plan_review`."""
    plan = plan_review(settings)
    items, not_shown = list(plan.kept), dict[str, str]()
    progress(0, len(plan.to_make), "dubs")
    for done, (dub, made) in enumerate(make(plan.to_make), start=1):
        if isinstance(made, ReviewItem):
            _write_item(plan.folder, made)
            items.append(made)
        else:
            not_shown[dub.job_id] = made
        progress(done, len(plan.to_make), "dubs prepared for review")
    gate = gate_of_run(items, plan.failed_jobs + len(not_shown), settings)
    _write_batch(plan, items, not_shown, gate)
    return ReviewSummary(
        batch=plan.batch,
        location=plan.folder,
        dubs=len(items),
        made=len(items) - len(plan.kept),
        held=sum(not item.gate.is_open for item in items),
        not_shown=not_shown,
        failed_jobs=plan.failed_jobs,
        gate=gate,
    )


def plan_review(settings: ReviewSettings) -> ReviewPlan:
    """Reads the run's settings, list and results, and what of the batch is there.

    Raises SettingsError for settings or a list that cannot be used and for a name that no batch may have, StoreError where the run has no results.
    """
    run = bulk_settings(settings)
    batch = settings.batch or PurePosixPath(run.jobs).name
    if not BATCH_NAME.fullmatch(batch):
        raise SettingsError(f"A batch cannot be called {batch}: give `batch`, of letters, digits, spaces and . _ + = @ - alone, at most 120 of them.")
    folder = places.join(settings.review, batch)
    jobs, rows = {job.job_id: job for job in read_job_list(run.jobs, run.out)}, read_results(run.out)
    if not rows:
        raise StoreError(f"There are no dubbing results in {without_secrets(places.join(run.out, FOLDER))}; dub the list first.")
    shown = [_to_show(job, rows[job_id], run, folder, settings) for job_id, job in jobs.items() if job_id in rows and rows[job_id]["status"] == "done"]
    kept = {dub.job_id: item for dub in shown if (item := _kept(dub)) is not None}
    return ReviewPlan(
        settings=settings,
        batch=batch,
        folder=folder,
        to_make=tuple(dub for dub in shown if dub.job_id not in kept),
        kept=tuple(kept.values()),
        failed_jobs=len(jobs) - len(shown),
    )


def bulk_settings(settings: ReviewSettings) -> BulkDubSettings:
    """The settings of the run that is reviewed. SettingsError."""
    given = {name: value for name in ("jobs", "out") if (value := getattr(settings, name)) is not None}
    return check_settings(BulkDubSettings, read_settings(settings.dub_settings) | given)


def _to_show(job: DubJob, row: dict[str, object], run: BulkDubSettings, folder: str, settings: ReviewSettings) -> DubToShow:
    return DubToShow(row=row, job=job, dub=settings_of(job, run), folder=folder, review=settings)


def _kept(dub: DubToShow) -> ReviewItem | None:
    """The item of just this dub, if it is there; its gate is judged by the settings of now. One that cannot be read is made anew."""
    location = _item_location(dub.folder, dub.job)
    if not places.exists(location):
        return None
    try:
        item = ReviewItem.model_validate_json(places.read_bytes(location))
    except ValidationError:
        return None
    if item.fingerprint != dub.row["fingerprint"]:
        return None
    gate = gate_of(item.metrics, dub.review)
    if gate == item.gate:
        return item
    judged = item.model_copy(update={"gate": gate})
    _write_item(dub.folder, judged)
    return judged


def gate_of_run(items: list[ReviewItem], without_dub: int, settings: ReviewSettings) -> Gate:
    """Whether enough jobs of a run made a dub that passed. without_dub: jobs whose dub failed or cannot be shown."""
    if not settings.min_passed_share:
        return Gate()
    jobs, passed = len(items) + without_dub, sum(item.gate.is_open for item in items)
    sentence = f"{passed} of {jobs} jobs made a dub that passed, which is {passed / jobs:.0%}; at least {settings.min_passed_share:.0%} are asked for."
    return Gate(status="passed" if passed >= settings.min_passed_share * jobs else "held", sentence=sentence)


def _write_item(folder: str, item: ReviewItem) -> None:
    places.write_bytes(_item_location(folder, item.job), item.model_dump_json().encode())


def _item_location(folder: str, job: DubJob) -> str:
    return places.join(folder, ITEMS_FOLDER, f"{item_key(job.job_id)}.json")


def _write_batch(plan: ReviewPlan, items: list[ReviewItem], not_shown: dict[str, str], gate: Gate) -> None:
    content = ReviewBatch(title=plan.settings.title, note=_note(plan, not_shown), gate=gate, rows=tuple(item.row() for item in items))
    places.write_bytes(places.join(plan.folder, BATCH_FILE), content.model_dump_json().encode())


def _note(plan: ReviewPlan, not_shown: dict[str, str]) -> str:
    """What people should know of jobs that they do not see here; empty: they see all."""
    said = [f"{plan.failed_jobs} jobs of the list have no dub."] if plan.failed_jobs else []
    if not_shown:
        named = " ".join(f"{job_id}: {why}" for job_id, why in list(not_shown.items())[:NAMED_IN_NOTE])
        said.append(f"{len(not_shown)} dubs cannot be shown. {named}")
    return " ".join(said)
