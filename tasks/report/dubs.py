"""The page of a bulk dubbing run: where to look first, a row a job, and the least sure dubs to play."""

import json
from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean

from schemas.errors import DubmillError, StoreError
from schemas.jobs import Moment, SourceShown
from schemas.reasons import WHY_SOURCE_SHOWN
from tasks import places
from tasks.dubbing.confidence import WORTH_A_LOOK
from tasks.dubbing.results import FOLDER, Row, read_results
from tasks.durations import time_code
from tasks.report.page import picture_uri, write_page
from tasks.report.rejects import explanation_of
from tasks.report.video import PageVideo, page_video, stills

MOST_VIDEOS = 6
MOST_ROWS = 500
"""Rows of a table; ten thousand would make a browser slow."""
MOST_MOMENTS = 12
"""Seconds shown as pictures, the least sure ones of the whole run."""
MOMENTS_OF_ONE = 3
"""Of them at most so many of one dub, so that one that went wrong does not hide the others."""
MOMENTS_NAMED = 5
"""Seconds named in a dub's row, the least sure ones."""
STILL_HEIGHT = 200


@dataclass(frozen=True)
class FailureGroup:
    """Failed jobs of one reason."""

    reason: str
    explanation: str
    count: int


@dataclass(frozen=True)
class FailedRow:
    """A job that failed."""

    job_id: str
    reason: str
    detail: str


@dataclass(frozen=True)
class PassedThrough:
    """How long a dub shows the source for one reason, and when it first does."""

    why: str
    seconds: float
    first_at: str


@dataclass(frozen=True)
class DubRow:
    """A job that is done. confidence and least: the mean and the lowest of its seconds, 0..1. These and source_shown are None in rows of an older dubmill."""

    job_id: str
    output: str
    duration_s: float
    frames: int
    dubbed_frames: int
    frames_per_second: float
    confidence: float | None
    least: float | None
    worst: list[Moment]
    source_shown_s: float
    source_shown: list[PassedThrough] | None


@dataclass(frozen=True)
class ShownMoment:
    """A second to look at: its picture, None where the dub cannot be read."""

    job_id: str
    time_code: str
    confidence: float
    why: str
    picture: str | None


@dataclass(frozen=True)
class ShownDub:
    """A dub on the page, or a sentence why it cannot be shown."""

    job_id: str
    video: PageVideo | None
    fault: str
    look_at: str


@dataclass(frozen=True)
class DubsFacts:
    """What the page says of a run. confidence: the mean of all seconds; risky_s: seconds that are worth a look."""

    results: str
    jobs: int
    done: int
    duration_s: float
    source_shown_s: float
    confidence: float | None
    risky_s: int
    worth_a_look: float
    failures: list[FailureGroup]
    failed: list[FailedRow]
    failed_left_out: int
    moments: list[ShownMoment]
    dubs: list[DubRow]
    dubs_left_out: int
    shown: list[ShownDub]


def dubs_report(results_location: str | Path, html: str | Path) -> None:
    """Writes the page of a bulk run, given its output folder or the `results` folder in it.

    Raises StoreError when there are no results or the page cannot be written.
    """
    write_page("dubs.html.j2", html, title="Dubs", dubs=dubs_facts(str(results_location)))


def dubs_facts(results_location: str) -> DubsFacts:
    """Reads what the page says. Raises StoreError when there are no results."""
    out = results_location.rstrip("/").removesuffix(f"/{FOLDER}")
    rows = sorted(read_results(out).values(), key=lambda row: str(row["job_id"]))
    if not rows:
        raise StoreError(f"There are no dubbing results at {results_location}.")
    failed = [FailedRow(str(row["job_id"]), str(row["reason"]), str(row["detail"] or "")) for row in rows if row["status"] != "done"]
    done = [row for row in rows if row["status"] == "done"]
    dubs = sorted(map(_dub, done), key=_least_sure_first)
    seconds = [float(second) for row in done for second in _listed(row["confidence"])]
    return DubsFacts(
        results=places.join(out, FOLDER),
        jobs=len(rows),
        done=len(dubs),
        duration_s=sum(dub.duration_s for dub in dubs),
        source_shown_s=sum(dub.source_shown_s for dub in dubs),
        confidence=fmean(seconds) if seconds else None,
        risky_s=sum(second < WORTH_A_LOOK for second in seconds),
        worth_a_look=WORTH_A_LOOK,
        failures=[FailureGroup(reason, explanation_of(reason), count) for reason, count in Counter(row.reason for row in failed).most_common()],
        failed=failed[:MOST_ROWS],
        failed_left_out=max(len(failed) - MOST_ROWS, 0),
        moments=_shown_moments(out, dubs),
        dubs=dubs[:MOST_ROWS],
        dubs_left_out=max(len(dubs) - MOST_ROWS, 0),
        shown=[_shown(out, dub) for dub in dubs[:MOST_VIDEOS]],
    )


def _dub(row: Row) -> DubRow:
    seconds = [float(second) for second in _listed(row["confidence"])]
    return DubRow(
        job_id=str(row["job_id"]),
        output=str(row["output"]),
        duration_s=_number(row["duration_s"]),
        frames=int(_number(row["frames"])),
        dubbed_frames=int(_number(row["dubbed_frames"])),
        frames_per_second=_number(row["frames_per_second"]),
        confidence=fmean(seconds) if seconds else None,
        least=min(seconds) if seconds else None,
        worst=[Moment.model_validate(moment) for moment in json.loads(str(row["worst"] or "[]"))],
        source_shown_s=_number(row["source_shown_s"]),
        source_shown=_passed_through(row["source_shown"]),
    )


def _listed(value: object) -> list[float]:
    return value if isinstance(value, list) else []


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _passed_through(column: object) -> list[PassedThrough] | None:
    """The seconds by reason, the longest first."""
    if column is None:
        return None
    stretches = [SourceShown.model_validate(one) for one in json.loads(str(column))]
    by_reason = {reason: list(of) for reason, of in groupby(sorted(stretches, key=lambda one: (one.reason, one.start_s)), key=lambda one: one.reason)}
    said = [PassedThrough(WHY_SOURCE_SHOWN[reason], sum(one.end_s - one.start_s for one in of), time_code(of[0].start_s)) for reason, of in by_reason.items()]
    return sorted(said, key=lambda one: -one.seconds)


def _least_sure_first(dub: DubRow) -> tuple[float, float, str]:
    """By the least sure second, then by the mean; dubs of which nothing is known come last."""
    return (2.0 if dub.least is None else dub.least, dub.confidence or 0.0, dub.job_id)


def _shown_moments(out: str, dubs: list[DubRow]) -> list[ShownMoment]:
    """The least sure seconds of the run, with their pictures; each dub is opened once."""
    every = [(moment, dub) for dub in dubs for moment in dub.worst[:MOMENTS_OF_ONE]]
    chosen = sorted(every, key=lambda pair: (pair[0].confidence, pair[1].job_id, pair[0].second))[:MOST_MOMENTS]
    wanted = {dub.job_id: dub for _, dub in chosen}
    pictures = {job_id: _stills(out, dub, [moment.second for moment, of in chosen if of is dub]) for job_id, dub in wanted.items()}
    return [ShownMoment(dub.job_id, time_code(moment.second), moment.confidence, moment.why, pictures[dub.job_id].get(moment.second)) for moment, dub in chosen]


def _stills(out: str, dub: DubRow, seconds: list[int]) -> dict[int, str]:
    """The middle of seconds as pictures for a page; of those that can be read."""
    middles_s = [min(second + 0.5, (second + dub.duration_s) / 2) for second in seconds]
    try:
        pictures = stills(_found(dub.output, out), middles_s, STILL_HEIGHT)
    except (DubmillError, OSError):
        return {}
    return {second: picture_uri(picture) for second, picture in zip(seconds, pictures, strict=True) if picture is not None}


def _shown(out: str, dub: DubRow) -> ShownDub:
    look_at = ", ".join(f"{time_code(moment.second)} ({moment.confidence:.0%})" for moment in dub.worst[:MOMENTS_NAMED])
    try:
        return ShownDub(dub.job_id, page_video(_found(dub.output, out)), "", look_at)
    except (DubmillError, OSError) as error:
        return ShownDub(dub.job_id, None, str(error), look_at)


def _found(output: str, out: str) -> str:
    """Where a dub lies: as its row says, or, when the run's folder was moved or named from another folder, by its name below it."""
    if places.is_remote(output) or places.exists(output):
        return output
    below = next((output[index + 1 :] for index, sign in enumerate(output) if sign == "/" and places.exists(places.join(out, output[index + 1 :]))), output)
    return places.join(out, below)
