"""What came of each scenario, as a row of the fault table."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.case import JOB_TASKS, Case
from tests.chaos.work import Kept, kept, written_again

OVERLAP_BORNE_S = 2.0
"""After a clear the old job and the new one overlap until the old one has stopped, which is to take no longer."""
TOLD_CHARACTERS = 150
SHORT = {"ingest_corpus": "ingest", "bulk_dubbing": "dub"}


@dataclass(frozen=True)
class Undisturbed:
    """What the others are held against: what was kept, and the seconds of each DAG's run from its beginning to its end."""

    kept: Kept
    seconds: dict[str, float]


@dataclass(frozen=True)
class Row:
    """What came of a scenario. By DAG: state of its last run; what its user reads; seconds from that run's beginning to its end; jobs submitted.

    recovered_s: seconds that the fault cost: how much longer the run took than an undisturbed one, of the two DAGs the larger figure, or
        what the scenario says that it measures. Below zero: the two runs were equal but for what else the machine did.
    most_alive, overlap_s: jobs alive at once for one task at most, and how long there was more than one.
    lost, doubled: clips and dubs that the undisturbed run kept and this one did not, and rows beyond one for the same clip or dub.
    done_again: batches and dubs that were made and written more than once, though each counts once.
    faults: whatever else is not as it would have been undisturbed. notes: what the scenario says of its course.
    """

    fault: str
    states: dict[str, str]
    told: dict[str, str]
    seconds: dict[str, float]
    recovered_s: float | None
    submitted: dict[str, int]
    most_alive: int
    overlap_s: float
    lost: dict[str, int]
    doubled: dict[str, int]
    done_again: dict[str, int]
    faults: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def is_as_promised(self) -> bool:
        """Whether the runs ended well, nothing is lost, doubled or wrong, and no task had two jobs beyond the moment after a clear."""
        kept_whole = not any((*self.lost.values(), *self.doubled.values(), *self.faults))
        return kept_whole and set(self.states.values()) == {"success"} and self.overlap_s <= OVERLAP_BORNE_S


def row_of(case: Case, fault: str, undisturbed: Undisturbed) -> Row:
    """Counts what a scenario has left."""
    found, last = kept(case.work), {run.dag_id: run for run in case.runs}
    jobs = {dag_id: case.watch.jobs_of(f"{dag_id}.{task}") for dag_id, task in JOB_TASKS.items()}
    seconds = {dag_id: case.ended_s[run.run_id] for dag_id, run in last.items() if run.run_id in case.ended_s}
    lost, doubled, faults = compared(found, undisturbed.kept)
    return Row(
        fault=fault,
        states={dag_id: case.state(run) for dag_id, run in last.items()},
        told=dict(case.told),
        seconds=seconds,
        recovered_s=case.recovered_s if case.recovered_s is not None else _longer_by(seconds, undisturbed.seconds),
        submitted={dag_id: len(seen.submitted) for dag_id, seen in jobs.items()},
        most_alive=max(seen.most for seen in jobs.values()),
        overlap_s=max(seen.overlap_s for seen in jobs.values()),
        lost=lost,
        doubled=doubled,
        done_again=dict(zip(("batches", "dubs"), written_again(case.stage.bad_days.puts, case.work), strict=True)),
        faults=faults,
        notes=tuple(case.notes),
    )


def compared(found: Kept, whole: Kept) -> tuple[dict[str, int], dict[str, int], tuple[str, ...]]:
    """Clips and dubs lost, those doubled, and whatever else is not as in what an undisturbed run kept."""
    lost = {"clips": len(whole.clips.keys() - found.clips.keys()), "dubs": len(whole.dubs.keys() - found.dubs.keys())}
    doubled = {"clips": _beyond_one(found.clips), "dubs": _beyond_one(found.dubs)}
    return lost, doubled, tuple(_faults(found, whole))


def markdown(rows: Sequence[Row], undisturbed: Undisturbed) -> str:
    """The fault table, with a line for each scenario."""
    usual = ", ".join(f"{SHORT[dag_id]} {seconds:.0f} s" for dag_id, seconds in undisturbed.seconds.items())
    head = ["fault", "outcome", "cost, s", "jobs submitted", "alive at once", "lost", "doubled", "done again", "what the user reads"]
    lines = [f"An undisturbed run: {usual}, {_counted(undisturbed.kept)}.", "", _line(head), _line(["---"] * len(head))]
    return "\n".join([*lines, *map(_table_line, rows)])


def _table_line(row: Row) -> str:
    outcome = "as promised" if row.is_as_promised else "NOT as promised"
    states = "; ".join([_by_dag(row.states), *row.notes, *row.faults])
    alive = f"{row.most_alive}" if row.most_alive <= 1 else f"{row.most_alive} for {row.overlap_s:.1f} s"
    cost = "—" if row.recovered_s is None else f"{row.recovered_s:.0f}"
    counts = [_numbers(row.lost), _numbers(row.doubled), _numbers(row.done_again)]
    told = "; ".join(dict.fromkeys(_shortened(text) for text in row.told.values() if text)) or "its progress"
    return _line([row.fault, f"{outcome}: {states}", cost, _by_dag(row.submitted), alive, *counts, told])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _by_dag(values: Mapping[str, object]) -> str:
    return ", ".join(f"{SHORT[dag_id]} {value}" for dag_id, value in values.items())


def _numbers(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items()) if any(counts.values()) else "0"


def _shortened(text: str) -> str:
    return text if len(text) <= TOLD_CHARACTERS else f"{text[: TOLD_CHARACTERS - 1]}…"


def _counted(whole: Kept) -> str:
    return f"{len(whole.clips)} clips, {len(whole.dubs)} dubs"


def _longer_by(seconds: Mapping[str, float], usual: Mapping[str, float]) -> float | None:
    return max((seconds[dag_id] - usual[dag_id] for dag_id in seconds.keys() & usual.keys()), default=None)


def _beyond_one(counts: Counter[str]) -> int:
    return sum(count - 1 for count in counts.values())


def _faults(found: Kept, whole: Kept) -> Iterator[str]:
    changed = [clip for clip, digest in found.content.items() if whole.content.get(clip, digest) != digest]
    other = [job for job, frames in found.frames.items() if whole.frames.get(job, frames) != frames]
    strange = found.clips.keys() - whole.clips.keys()
    for what, these in (("clips of another content", changed), ("clips that should not be there", strange), ("dubs of another length", other)):
        if these:
            yield f"{len(these)} {what}"
    yield from (f"{count} dubs failed: {reason}" for reason, count in sorted(found.failed.items()))
    yield from found.damage
