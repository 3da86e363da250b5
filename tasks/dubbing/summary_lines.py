"""How a person reads what a dub, or a list of dubs, ended with."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from statistics import fmean

from schemas.jobs import BulkDubSummary, DubSummary, Moment, SourceShown
from schemas.reasons import WHY_SOURCE_SHOWN
from tasks.dubbing.confidence import WORTH_A_LOOK
from tasks.dubbing.patch import INDEX
from tasks.durations import spoken_duration, time_code

MOST_STRETCHES = 10
"""Stretches that show the source which are named; how many more there are is said."""


def dub_lines(summary: DubSummary) -> list[str]:
    """A dub as a person reads it."""
    return [
        f"output: {summary.output}, {spoken_duration(summary.duration_s)}, {summary.width} × {summary.height}, {_rate(summary.fps)}",
        f"dubbed: {summary.dubbed_frames:,} of {summary.frames:,} frames",
        f"source shown: {_source_shown(summary.source_shown)}",
        *_confidence_lines(summary),
        f"first pass: {'not needed, what an earlier dub found in the video was kept' if summary.template_was_kept else 'made'}",
        *([f"patch: {summary.patch}, the faces alone with alpha; {INDEX} in it says where each goes"] if summary.patch else []),
        f"seconds of work, side by side: {', '.join(f'{stage} {seconds:.1f}' for stage, seconds in summary.seconds_by_stage.items())}",
    ]


def bulk_lines(summary: BulkDubSummary) -> list[str]:
    """A run over a list as a person reads it: its counts, the first jobs that failed and why, and where every job's row is."""
    failed = sum(summary.failed.values())
    by_reason = f" ({', '.join(f'{reason} {count:,}' for reason, count in summary.failed.items())})" if failed else ""
    more = failed - len(summary.first_failed)
    return [
        f"jobs: {summary.jobs:,}, of which {summary.already_done:,} were done before",
        f"done: {summary.done:,}",
        f"failed: {failed:,}{by_reason}",
        *(f"  {job.job_id}: {job.reason}: {job.detail}" for job in summary.first_failed),
        *([f"  and {more:,} more"] if more > 0 and summary.first_failed else []),
        f"results: {summary.results}, a row a job",
        f"to look at: dubmill report dubs {summary.out} --html dubs.html",
    ]


def stretches_in_words(stretches: Sequence[SourceShown]) -> str:
    """When the source shows and why, the first ones of many."""
    said = [f"{one.start_s:.1f} to {one.end_s:.1f} s ({WHY_SOURCE_SHOWN[one.reason]})" for one in stretches[:MOST_STRETCHES]]
    more = len(stretches) - len(said)
    return ", ".join([*said, *([f"and {more} more (--json shows them)"] if more else [])])


def moment_in_words(moment: Moment) -> str:
    """A second to look at: "0:07 (41%, the head is turned away)"."""
    return f"{time_code(moment.second)} ({moment.confidence:.0%}, {moment.why})"


def _rate(fps: str) -> str:
    rate = Fraction(fps)
    return f"{float(rate):.6g} frames a second"


def _source_shown(stretches: Sequence[SourceShown]) -> str:
    if not stretches:
        return "nowhere"
    return f"{spoken_duration(sum(one.end_s - one.start_s for one in stretches))} in all, {stretches_in_words(stretches)}"


def _confidence_lines(summary: DubSummary) -> Iterator[str]:
    if not summary.confidence:
        return
    levels = f"{fmean(summary.confidence):.0%} on average, {min(summary.confidence):.0%} in the least sure second"
    yield f"confidence: {levels} (100%: nothing speaks against it; under {WORTH_A_LOOK:.0%}: worth a look)"
    if summary.worst:
        yield f"look first at: {', '.join(map(moment_in_words, summary.worst))}"
