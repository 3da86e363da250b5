"""What the lists show: of all batches how far people are, of one batch each dub with the verdict that counts."""

from collections import Counter

from pydantic import BaseModel

from dags.review_room.material import FoundBatch
from dags.review_room.messages import message_counts
from dags.review_room.room import Rooms
from dags.review_room.verdicts import GivenVerdict, latest_verdicts
from schemas.gate import Gate
from schemas.review import ReviewRow

PAGE_ROWS = 200
"""Dubs listed on a page: more are slow to draw, and the riskiest come first anyway."""


class RowView(BaseModel):
    """A dub in the list of its batch. verdict: the one that counts of this very dub; None: it is open."""

    key: str
    job_id: str
    risk: float
    gate: Gate
    duration_s: float
    moments: int
    worst: str
    verdict: str | None
    author: str = ""
    settled: bool = False


class BatchSummary(BaseModel):
    """A batch in the list of all. fault: why it cannot be read."""

    name: str
    title: str
    fault: str = ""
    dubs: int = 0
    decided: int = 0
    verdicts: dict[str, int] = {}
    held: int = 0
    gate: Gate = Gate()
    risk: float = 0.0
    messages: int = 0


def dub_of(one: ReviewRow | GivenVerdict) -> tuple[str, str, str]:
    """Which dub of its batch a row or a verdict is of."""
    return one.job_id, one.fingerprint, one.version


def row_views(batch: FoundBatch, given: list[GivenVerdict]) -> list[RowView]:
    """The dubs of a batch, the riskiest first. A verdict on a dub that was made anew since does not count for the new one."""
    counts = {dub_of(verdict): verdict for verdict in given}
    rows = batch.content.riskiest_first() if batch.content else ()
    views = []
    for row in rows:
        verdict = counts.get(dub_of(row))
        view = RowView(**row.model_dump(exclude={"fingerprint", "version"}), key=row.key, verdict=verdict.verdict if verdict else None)
        views.append(view if verdict is None else view.model_copy(update={"author": verdict.author, "settled": verdict.settled}))
    return views


def batch_summaries(rooms: Rooms) -> list[BatchSummary]:
    """All batches: those with something open first, then by name."""
    messages = message_counts(rooms.database)
    summaries = [_summary(batch, rooms, messages.get(batch.name, 0)) for batch in rooms.material.batches()]
    return sorted(summaries, key=lambda summary: (summary.decided >= summary.dubs and not summary.fault, summary.name))


def _summary(batch: FoundBatch, rooms: Rooms, messages: int) -> BatchSummary:
    if batch.content is None:
        return BatchSummary(name=batch.name, title=batch.name, fault=batch.fault, messages=messages)
    rows = row_views(batch, latest_verdicts(rooms.database, batch.name))
    verdicts = Counter(row.verdict for row in rows if row.verdict)
    return BatchSummary(
        name=batch.name,
        title=batch.content.title or batch.name,
        dubs=len(rows),
        decided=verdicts.total(),
        verdicts=dict(verdicts),
        held=sum(row.gate.status == "held" for row in rows),
        gate=batch.content.gate,
        risk=max((row.risk for row in rows if row.verdict is None), default=0.0),
        messages=messages,
    )
