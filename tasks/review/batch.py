"""A bulk run as a batch of the review room: which dubs are to be shown, what of them is there already, and the list that is written last."""

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath

from pydantic import ValidationError

from schemas.errors import SettingsError, StoreError
from schemas.gate import Gate
from schemas.jobs import DubJob, ReviewSummary
from schemas.locations import without_secrets
from schemas.review import BATCH_FILE, BATCH_NAME, ITEMS_FOLDER, ReviewBatch, ReviewItem, ReviewRow, batch_name, item_key
from schemas.settings import BulkDubSettings, ReviewSettings, check_settings, read_settings
from tasks import places
from tasks.dubbing.bulk_plan import fingerprints, settings_of
from tasks.dubbing.job_list import output_location, read_job_list
from tasks.dubbing.results import FOLDER, READERS, Row, read_results
from tasks.progress import Progress
from tasks.review.figures import instruments_for
from tasks.review.item import PREVIEWS, DubToShow, gate_of, make_item, recipe_of

log = logging.getLogger(__name__)

MOST_NAMED = 5
"""Dubs that cannot be shown and that a summary names; the batch's note names the first of them."""
READ_AT_ONCE = 256
"""Items that are read side by side, and held: some hundred kilobytes each."""
CHANGED = "its row of the list, or the run's settings, have changed since it was dubbed; dub the list again"

Made = Iterator[tuple[DubToShow, ReviewItem | str]]
Make = Callable[[Iterable[DubToShow]], Made]
"""Makes items, in any order: each dub with its item, or with a sentence on why it cannot be shown."""


@dataclass(frozen=True)
class ReviewPlan:
    """What a batch takes. kept: what the list says of items that are there and still true, their gates judged anew.

    not_shown: why dubs are not shown at all, by job_id. failed_jobs: jobs of the run that made no dub.
    """

    settings: ReviewSettings
    batch: str
    title: str
    folder: str
    to_make: tuple[DubToShow, ...]
    kept: tuple[ReviewRow, ...]
    not_shown: dict[str, str]
    failed_jobs: int


def review_here(settings: ReviewSettings, progress: Progress) -> ReviewSummary:
    """Makes a batch in this process. Raises as `plan_review`."""
    return review(settings, lambda dubs: ((dub, make_item(dub)) for dub in dubs), progress)


def review(settings: ReviewSettings, make: Make, progress: Progress) -> ReviewSummary:
    """Makes what is not there yet, and then writes the list of the batch. `make` says where the work is done. Raises as `plan_review`."""
    plan = plan_review(settings)
    rows, not_shown = {row.job_id: row for row in plan.kept}, dict(plan.not_shown)
    progress(0, len(plan.to_make), "dubs")
    for done, (dub, made) in enumerate(make(plan.to_make), start=1):
        if isinstance(made, ReviewItem):
            _write_item(plan.folder, made)
            rows[dub.job_id] = made.row()
        else:
            not_shown[dub.job_id] = made
        progress(done, len(plan.to_make), "dubs prepared for review")
    for job_id, why in not_shown.items():
        log.warning("%s cannot be shown: %s", job_id, why)
    ordered = tuple(rows[job_id] for job_id in sorted(rows))
    gate = gate_of_run(ordered, plan.failed_jobs + len(not_shown), settings)
    content = ReviewBatch(title=plan.title, note=_note(plan, not_shown), gate=gate, rows=ordered)
    places.write_bytes(places.join(plan.folder, BATCH_FILE), content.model_dump_json().encode())
    return ReviewSummary(
        batch=plan.batch,
        location=plan.folder,
        dubs=len(ordered),
        made=len(ordered) - len(plan.kept),
        held=sum(not row.gate.is_open for row in ordered),
        not_shown=len(not_shown),
        first_not_shown=dict(list(not_shown.items())[:MOST_NAMED]),
        failed_jobs=plan.failed_jobs,
        gate=gate,
    )


def plan_review(settings: ReviewSettings) -> ReviewPlan:
    """Reads the run's settings, list and results, and what of the batch is there.

    Raises SettingsError for settings or a list that cannot be used and for a name that no batch may have, StoreError where the run has no
    results, CheckpointError for weights that cannot be used.
    """
    run = bulk_settings(settings)
    batch = settings.batch or batch_name(run.jobs)
    if not BATCH_NAME.fullmatch(batch):
        raise SettingsError(f"A batch cannot be called {batch}: letters, digits, spaces and . _ + = @ - alone, at most 120 of them.")
    instruments_for(settings).__exit__(None, None, None)  # weights that cannot be used are told before any work
    jobs, rows = read_job_list(run.jobs, run.out), read_results(run.out)
    if not rows:
        raise StoreError(f"There are no dubbing results in {without_secrets(places.join(run.out, FOLDER))}; dub the list first.")
    done = {job.job_id: (job, row) for job in jobs if (row := rows.get(job.job_id)) is not None and row["status"] == "done"}
    changed = {job_id for job_id, (job, row) in done.items() if fingerprints(run, _versions(row))(job) != row["fingerprint"]}
    folder = places.join(settings.review, batch)
    shown = [_to_show(job, row, run, folder, settings) for job_id, (job, row) in done.items() if job_id not in changed]
    kept = {row.job_id: row for row in _kept(shown, folder)}
    return ReviewPlan(
        settings=settings,
        batch=batch,
        title=settings.title or (PurePosixPath(run.jobs).name if settings.batch is None else batch),
        folder=folder,
        to_make=tuple(dub for dub in shown if dub.job_id not in kept),
        kept=tuple(kept.values()),
        not_shown=dict.fromkeys(sorted(changed), CHANGED),
        failed_jobs=len(jobs) - len(done),
    )


def bulk_settings(settings: ReviewSettings) -> BulkDubSettings:
    """The settings of the run that is reviewed, which may have run in another folder. SettingsError."""
    given = {name: value for name in ("jobs", "out") if (value := getattr(settings, name)) is not None}
    try:
        return check_settings(BulkDubSettings, read_settings(settings.dub_settings) | given).with_absolute_locations()
    except SettingsError as error:
        raise SettingsError(f"{without_secrets(settings.dub_settings)}, the settings of the bulk run: {error}") from error


def _versions(row: Row) -> dict[str, str]:
    return {network: str(row[network]) for network in ("landmark_generator", "renderer")}


def _to_show(job: DubJob, row: Row, run: BulkDubSettings, folder: str, settings: ReviewSettings) -> DubToShow:
    return DubToShow(row=row, job=job, output=output_location(run.out, job), dub=settings_of(job, run), folder=folder, review=settings)


def _kept(shown: list[DubToShow], folder: str) -> Iterator[ReviewRow]:
    """What the list says of items that are there, of just these dubs, with their previews; their gates are judged by the settings of now.

    One that cannot be read is made anew.
    """
    there, previews = (set(places.list_names(places.join(folder, name))) for name in (ITEMS_FOLDER, PREVIEWS))
    known = [dub for dub in shown if _item_name(dub.job) in there]
    for start in range(0, len(known), READ_AT_ONCE):
        some = known[start : start + READ_AT_ONCE]
        contents = places.read_many([places.join(folder, ITEMS_FOLDER, _item_name(dub.job)) for dub in some])
        with ThreadPoolExecutor(READERS) as readers:
            rows = list(readers.map(_kept_row, some, contents, itertools.repeat(previews)))
        yield from (row for row in rows if row is not None)


def _kept_row(dub: DubToShow, content: bytes, previews: set[str]) -> ReviewRow | None:
    try:
        item = ReviewItem.model_validate_json(content)
        is_of_this = (item.fingerprint, item.recipe, item.version) == (dub.row["fingerprint"], recipe_of(dub.review), places.version(dub.output))
    except (ValidationError, FileNotFoundError):
        return None
    if not is_of_this or not {PurePosixPath(video).name for video in (item.source, item.dub_preview) if video} <= previews:
        return None
    gate = gate_of(item.metrics, dub.review)
    if gate != item.gate:
        item = item.model_copy(update={"gate": gate})
        _write_item(dub.folder, item)
    return item.row()


def gate_of_run(rows: Sequence[ReviewRow], without_dub: int, settings: ReviewSettings) -> Gate:
    """Whether enough jobs of a run made a dub that passed. without_dub: jobs whose dub failed or cannot be shown."""
    if not settings.min_passed_share:
        return Gate(sentence="No share of the jobs is asked for.")
    jobs, passed = len(rows) + without_dub, sum(row.gate.is_open for row in rows)
    sentence = f"{passed} of {jobs} jobs made a dub that passed, which is {passed / jobs:.3g} of them; at least {settings.min_passed_share:.3g} is asked for."
    return Gate(status="passed" if passed / jobs >= settings.min_passed_share else "held", sentence=sentence)


def _write_item(folder: str, item: ReviewItem) -> None:
    places.write_bytes(places.join(folder, ITEMS_FOLDER, _item_name(item.job)), item.model_dump_json().encode())


def _item_name(job: DubJob) -> str:
    return f"{item_key(job.job_id)}.json"


def _note(plan: ReviewPlan, not_shown: dict[str, str]) -> str:
    """What people should know of jobs that they do not see here; empty: they see all."""
    said = [f"Jobs of the list without a dub: {plan.failed_jobs}."] if plan.failed_jobs else []
    if not_shown:
        named = "; ".join(f"{job_id}: {why.rstrip('.')}" for job_id, why in list(not_shown.items())[:MOST_NAMED])
        said.append(f"Dubs that cannot be shown: {len(not_shown)}. {named}.")
    return " ".join(said)
