"""The page of a bulk dubbing run: a row a job, and the first dubs to look at."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import MediaError, StoreError
from tasks import places
from tasks.dubbing.results import FOLDER, Row, read_results
from tasks.report.page import write_page
from tasks.report.rejects import explanation_of
from tasks.report.video import PageVideo, page_video

MOST_VIDEOS = 6
MOST_ROWS = 500
"""Rows of the table, failed jobs first; ten thousand would make a browser slow."""


@dataclass(frozen=True)
class FailureGroup:
    """Failed jobs of one reason."""

    reason: str
    explanation: str
    count: int


@dataclass(frozen=True)
class ShownDub:
    """A dub on the page, or a sentence why it cannot be shown."""

    job_id: str
    video: PageVideo | None
    fault: str


@dataclass(frozen=True)
class DubsFacts:
    """What the page says of a run."""

    results: str
    jobs: int
    done: int
    duration_s: float
    failures: list[FailureGroup]
    rows: list[Row]
    left_out: int
    shown: list[ShownDub]


def dubs_report(results_location: str | Path, html: str | Path) -> None:
    """Writes the page of a bulk run, given its output folder or the `results` folder in it.

    Raises StoreError when there are no results or the page cannot be written.
    """
    write_page("dubs.html.j2", html, title="Dubs", dubs=dubs_facts(str(results_location)))


def dubs_facts(results_location: str) -> DubsFacts:
    """Reads what the page says. Raises StoreError when there are no results."""
    out = results_location.rstrip("/").removesuffix(f"/{FOLDER}")
    rows = sorted(read_results(out).values(), key=lambda row: (row["status"] == "done", str(row["job_id"])))
    if not rows:
        raise StoreError(f"There are no dubbing results at {results_location}.")
    done = [row for row in rows if row["status"] == "done"]
    counts = Counter(str(row["reason"]) for row in rows if row["status"] != "done")
    return DubsFacts(
        results=places.join(out, FOLDER),
        jobs=len(rows),
        done=len(done),
        duration_s=sum(float(str(row["duration_s"] or 0)) for row in done),
        failures=[FailureGroup(reason, explanation_of(reason), count) for reason, count in counts.most_common()],
        rows=rows[:MOST_ROWS],
        left_out=max(len(rows) - MOST_ROWS, 0),
        shown=[_shown(out, row) for row in done[:MOST_VIDEOS]],
    )


def _shown(out: str, row: Row) -> ShownDub:
    output = str(row["output"])
    location = _found(output, out)
    try:
        return ShownDub(str(row["job_id"]), page_video(location), "")
    except (MediaError, OSError) as error:
        return ShownDub(str(row["job_id"]), None, str(error))


def _found(output: str, out: str) -> str:
    """Where a dub lies: as its row says, or, when the run's folder was moved or named from another folder, by its name below it."""
    if places.is_remote(output) or places.exists(output):
        return output
    below = next((output[index + 1 :] for index, sign in enumerate(output) if sign == "/" and places.exists(places.join(out, output[index + 1 :]))), output)
    return places.join(out, below)
