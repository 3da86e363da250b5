"""What a corpus store holds, in numbers, and all that it knows of one clip."""

import hashlib
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from schemas.errors import StoreError
from schemas.settings import Settings
from tasks import places
from tasks.corpus.store import CorpusStore

VERSION_LENGTH = 16
"""Hex digits of SHA-256: 64 bits."""


class CorpusStats(Settings):
    """A store in numbers. Content that lies in the store under two names counts once."""

    store: str
    batches: int = Field(description="finished batches")
    unfinished: int = Field(description="plans without a finished batch: a run at work, or one that was killed")
    sources: int = Field(description="sources of finished batches")
    clips: int
    frames: int
    hours: float
    speakers: dict[str, int] = Field(description="clips by speaker")
    rejects: dict[str, int] = Field(description="sources and clips turned away, by reason")
    retryable: int = Field(description="rejects that the next ingest tries again")
    snapshots: tuple[str, ...]
    bytes: int = Field(description="size of everything in the store")


class Totals(NamedTuple):
    """What a store holds in all. Content that lies in it under two names counts once."""

    batches: int
    unfinished: int
    sources: int
    clips: int
    frames: int
    duration_s: float


def totals(store: CorpusStore, clips: pa.Table) -> Totals:
    """Counts the plans of a store and the rows of its `clips()`, of which `frames` and `duration_s` are needed."""
    batches, plans = set(store.batches()), store.plans()
    return Totals(
        batches=len(batches),
        unfinished=sum(plan.batch not in batches for plan in plans),
        sources=len({source.uri for plan in plans if plan.batch in batches for source in plan.sources}),
        clips=len(clips),
        frames=pc.sum(clips["frames"]).as_py() or 0,
        duration_s=pc.sum(clips["duration_s"]).as_py() or 0.0,
    )


def corpus_version(store: CorpusStore) -> tuple[int, str]:
    """How many finished batches hold clips, and a name for that set (16 hex digits), which changes exactly when the set does.

    Reads file names and the footers of the `clips` tables. A batch's name stands for its content: a finished batch never changes.
    """
    batches = [batch for batch, clips in store.clip_counts().items() if clips]
    return len(batches), hashlib.sha256("\n".join(batches).encode()).hexdigest()[:VERSION_LENGTH]


def corpus_stats(uri: str) -> CorpusStats:
    """Reads the tables of a store; StoreError when there is none or it cannot be read."""
    store = CorpusStore.open(uri)
    clips, rejects = store.clips(("speaker", "frames", "duration_s")), store.rejects()
    held = totals(store, clips)
    return CorpusStats(
        store=store.uri,
        batches=held.batches,
        unfinished=held.unfinished,
        sources=held.sources,
        clips=held.clips,
        frames=held.frames,
        hours=held.duration_s / 3600,
        speakers=_count(clips["speaker"]),
        rejects=_count(rejects["reason"]),
        retryable=pc.sum(rejects["retryable"]).as_py() or 0,
        snapshots=tuple(store.snapshots()),
        bytes=places.total_bytes(store.uri),
    )


def show_clip(uri: str, clip_id: str) -> dict[str, Any]:
    """The row of a clip, with its batch; StoreError when the store does not have it."""
    store = CorpusStore.open(uri)
    clips = store.clips()
    rows = clips.filter(pc.equal(clips["clip_id"], clip_id)).to_pylist()
    if not rows:
        raise StoreError(f"The corpus store {store.uri} has no clip {clip_id}.")
    return dict(rows[0])


def _count(column: Any) -> dict[str, int]:
    counts = {item["values"].as_py(): item["counts"].as_py() for item in pc.value_counts(column)}
    return dict(sorted(counts.items()))
