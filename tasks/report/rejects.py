"""What was turned away: how many sources and pieces of sources for each reason, and some of them by name."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.reasons import EXPLANATIONS, Reason

EXAMPLES = 4
"""Turned-away sources named for each reason."""


@dataclass(frozen=True)
class RejectGroup:
    """What was turned away for one reason."""

    reason: str
    explanation: str
    sources: int
    """Sources that gave no clip. Each stands under one reason: its own, or else the most frequent one of its pieces."""
    pieces: int
    """Pieces cut out of a source, and what follows the damage of a source that gave clips before it."""
    retryable: int
    examples: list[str]
    """A line a source, of EXAMPLES sources."""
    more_sources: int
    """Sources with this reason that are not among the examples."""
    files: list[str]
    """The sources of the examples, for pictures of them."""


def reject_groups(rejects: pa.Table, gave_clips: set[str]) -> list[RejectGroup]:
    """A group a reason, the most frequent first. gave_clips: URIs of the sources that have clips in the store."""
    sources = Counter(_reasons_of_sources(rejects, gave_clips).values())
    in_part = pc.or_(pc.is_valid(rejects["clip_id"]), pc.is_in(rejects["source"], pa.array(sorted(gave_clips), pa.string())))
    pieces = Counter(rejects.filter(in_part)["reason"].to_pylist())
    reasons = sorted(set(rejects["reason"].to_pylist()), key=lambda reason: (-sources[reason] - pieces[reason], reason))
    return [_reject_group(reason, rejects.filter(pc.equal(rejects["reason"], reason)), sources[reason], pieces[reason]) for reason in reasons]


def _reasons_of_sources(rejects: pa.Table, gave_clips: set[str]) -> dict[str, str]:
    """The one reason of each source that gave no clip."""
    of_source: dict[str, str] = {}
    of_pieces: dict[str, Counter[str]] = defaultdict(Counter)
    for source, clip_id, reason in zip(*(rejects[name].to_pylist() for name in ("source", "clip_id", "reason")), strict=True):
        if source in gave_clips:
            continue
        if clip_id is None:
            of_source[source] = reason
        else:
            of_pieces[source][reason] += 1
    most_frequent = {source: min(counts, key=lambda reason: (-counts[reason], reason)) for source, counts in of_pieces.items()}
    return most_frequent | of_source


def _reject_group(reason: str, rows: pa.Table, sources: int, pieces: int) -> RejectGroup:
    by_source = rows.group_by("source", use_threads=False).aggregate([("clip_id", "count"), ("detail", "first"), ("detail", "count_distinct")])
    named = by_source.slice(0, EXAMPLES).to_pylist()
    return RejectGroup(
        reason=reason,
        explanation=explanation_of(reason),
        sources=sources,
        pieces=pieces,
        retryable=pc.sum(rows["retryable"]).as_py() or 0,
        examples=[_example(row) for row in named],
        more_sources=len(by_source) - len(named),
        files=[row["source"] for row in named],
    )


def _example(row: dict[str, Any]) -> str:
    """What happened to a source or to pieces of it; most details of whole sources name it already."""
    source, detail, pieces = row["source"], str(row["detail_first"]), row["clip_id_count"]
    if not pieces:
        return detail if source in detail else f"{source}: {detail}"
    counted = "1 piece" if pieces == 1 else f"{pieces:,} pieces{', one of them' if row['detail_count_distinct'] > 1 else ''}"
    return f"{source}, {counted}: {detail}"


def explanation_of(reason: str) -> str:
    """A reason in a person's words; nothing for one that this version does not know."""
    return EXPLANATIONS[Reason(reason)] if reason in set(Reason) else ""
