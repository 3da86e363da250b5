"""What a corpus store holds, in numbers, and all that it knows of one clip."""

import hashlib
from collections import Counter
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from schemas.errors import StoreError
from schemas.jobs import Snapshot
from schemas.reasons import EXPLANATIONS, Reason
from schemas.settings import Settings
from tasks import places
from tasks.corpus import layout
from tasks.corpus.store import CorpusStore, first_of_each_clip
from tasks.durations import spoken_duration

VERSION_LENGTH = 16
"""Hex digits of SHA-256: 64 bits."""
MILLION = 1_000_000
SHOWN_SPEAKERS = 10
"""Speakers in the table for people; the others are counted."""
COLUMNS = ("source", "speaker", "frames", "duration_s")
LISTS_OF_PICTURES = ("faces_offset", "faces_size", "faces_crc32")
"""Columns with a number for each frame."""
HASHES = ("face_hash", "audio_hash")


class StoredFiles(Settings):
    """What lies in one folder of a store."""

    files: int
    bytes: int


class SnapshotCounts(Settings):
    """What a snapshot chose."""

    name: str
    clips: int
    splits: dict[str, int] = Field(description="clips by split")
    split_by: str
    shifted: int = Field(description="clips whose sound is moved by its measured offset")
    left_out: dict[str, int] = Field(description="clips of the store that were not chosen, by the setting that left them out")


class CorpusStats(Settings):
    """A store in numbers: the way from sources to clips to snapshots. Content that lies in the store under two names counts once as clips."""

    store: str
    batches: int = Field(description="finished batches")
    unfinished: int = Field(description="plans without a finished batch: a run at work, or one that was killed")
    sources: int = Field(description="sources of finished batches")
    sources_kept: int = Field(description="sources that gave a clip or more")
    sources_turned_away: int = Field(description="sources that gave none")
    rejects: dict[str, int] = Field(description="sources and clips turned away, by reason")
    rejected_clips: dict[str, int] = Field(description="those of them that are pieces of a source, which may have given other clips")
    retryable: int = Field(description="rejects that the next ingest tries again")
    clips: int
    copies: int = Field(description="clips that are in the store already under another name, and are not counted again")
    frames: int
    hours: float
    speakers: dict[str, int] = Field(description="clips by speaker")
    hours_by_speaker: dict[str, float] = Field(description="most first")
    snapshots: tuple[SnapshotCounts, ...]
    storage: dict[str, StoredFiles] = Field(description="files and bytes by folder of the store")
    files: int
    bytes: int = Field(description="size of everything in the store")
    files_a_million_frames: float | None = Field(description="none: there is no frame")
    bytes_a_frame: float | None = Field(description="none: there is no frame")


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
    sources, unfinished = planned_sources(store)
    frames, duration_s = pc.sum(clips["frames"]).as_py() or 0, pc.sum(clips["duration_s"]).as_py() or 0.0
    return Totals(len(store.batches()), unfinished, len(sources), len(clips), frames, duration_s)


def planned_sources(store: CorpusStore) -> tuple[set[str], int]:
    """URIs of the sources of finished batches, and how many plans have no finished batch. One plan in memory at a time."""
    finished, unfinished = set(store.batches()), 0
    sources: set[str] = set()
    for plan in store.plans():
        if plan.batch in finished:
            sources.update(source.uri for source in plan.sources)
        else:
            unfinished += 1
    return sources, unfinished


class CorpusState(NamedTuple):
    """What tells whether a corpus has grown."""

    batches: int
    """Finished ones that hold clips."""
    clips: int
    """Rows of their tables; content that lies in the store under two names counts twice."""
    version: str
    """A name for the set of those batches, 16 hex digits, which changes exactly when the set does."""


def corpus_state(store: CorpusStore) -> CorpusState:
    """Reads file names and the footers of the `clips` tables. A batch's name stands for its content: a finished batch never changes."""
    counts = {batch: clips for batch, clips in store.clip_counts().items() if clips}
    version = hashlib.sha256("\n".join(counts).encode()).hexdigest()[:VERSION_LENGTH]
    return CorpusState(len(counts), sum(counts.values()), version)


def corpus_stats(uri: str) -> CorpusStats:
    """Reads the tables of a store and lists its files; StoreError when there is none or it cannot be read."""
    store = CorpusStore.open(uri)
    rows, rejects = store.clip_rows(COLUMNS), store.rejects()
    clips = first_of_each_clip(rows)
    held, storage = totals(store, clips), stored_files(store.uri)
    kept = pc.count_distinct(rows["source"]).as_py()
    files, size = sum(folder.files for folder in storage.values()), sum(folder.bytes for folder in storage.values())
    return CorpusStats(
        store=store.uri,
        batches=held.batches,
        unfinished=held.unfinished,
        sources=held.sources,
        sources_kept=kept,
        sources_turned_away=held.sources - kept,
        rejects=_count(rejects["reason"]),
        rejected_clips=_count(rejects.filter(pc.is_valid(rejects["clip_id"]))["reason"]),
        retryable=pc.sum(rejects["retryable"]).as_py() or 0,
        clips=held.clips,
        copies=len(rows) - len(clips),
        frames=held.frames,
        hours=held.duration_s / 3600,
        speakers=_count(clips["speaker"]),
        hours_by_speaker=_hours_by_speaker(clips),
        snapshots=tuple(_snapshot_counts(store.snapshot(name)) for name in store.snapshots()),
        storage=storage,
        files=files,
        bytes=size,
        files_a_million_frames=files * MILLION / held.frames if held.frames else None,
        bytes_a_frame=size / held.frames if held.frames else None,
    )


def stats_table(stats: CorpusStats) -> list[tuple[str, str]]:
    """The numbers of a store as rows (what, how much) for someone who never saw the code; what is a part of a row above is indented."""
    return [*_store_rows(stats), *_funnel_rows(stats), *_snapshot_rows(stats), *_speaker_rows(stats), *_storage_rows(stats)]


def show_clip(uri: str, clip_id: str) -> dict[str, Any]:
    """The row of a clip, with its batch; StoreError when the store does not have it.

    In place of the byte range of each picture there are the number of pictures and their bytes; fingerprints are in hex digits.
    """
    store = CorpusStore.open(uri)
    clips = store.clips(())
    found = clips.filter(pc.equal(clips["clip_id"], clip_id))["batch"].to_pylist()
    if not found:
        raise StoreError(f"The corpus store {store.uri} has no clip {clip_id}.")
    rows = store.table(layout.CLIPS, found[0])
    row = rows.filter(pc.equal(rows["clip_id"], clip_id)).to_pylist()[0]
    shown = {name: value for name, value in row.items() if name not in (*LISTS_OF_PICTURES, *HASHES)}
    hashes = {name: " ".join(f"{word:016x}" for word in row[name]) for name in HASHES}
    return {**shown, **hashes, "pictures": len(row["faces_size"]), "pictures_bytes": sum(row["faces_size"]), "batch": found[0]}


def _count(column: Any) -> dict[str, int]:
    counts = {item["values"].as_py(): item["counts"].as_py() for item in pc.value_counts(column)}
    return dict(sorted(counts.items()))


def _hours_by_speaker(clips: pa.Table) -> dict[str, float]:
    summed = clips.group_by("speaker").aggregate([("duration_s", "sum")]).sort_by([("duration_s_sum", "descending"), ("speaker", "ascending")])
    return {row["speaker"]: row["duration_s_sum"] / 3600 for row in summed.to_pylist()}


def _snapshot_counts(snapshot: Snapshot) -> SnapshotCounts:
    splits = Counter(clip.split for clip in snapshot.clips)
    return SnapshotCounts(
        name=snapshot.name,
        clips=len(snapshot.clips),
        splits={split: splits[split] for split in ("train", "val", "test")},
        split_by=snapshot.split_by,
        shifted=sum(clip.sound_shift_frames != 0 for clip in snapshot.clips),
        left_out=snapshot.left_out,
    )


def stored_files(store_uri: str) -> dict[str, StoredFiles]:
    """Files and bytes of a store by folder; a file beside the folders by its own name. Lists the store once."""
    found = list(places.list_objects(store_uri))
    depth = min((file.path.count("/") for file in found), default=0)  # where the settings lie
    sizes: dict[str, list[int]] = {}
    for file in found:
        sizes.setdefault(file.path.split("/")[depth], []).append(file.size)
    return {name: StoredFiles(files=len(sizes[name]), bytes=sum(sizes[name])) for name in sorted(sizes)}


def _store_rows(stats: CorpusStats) -> list[tuple[str, str]]:
    waiting = f", {stats.unfinished} planned and not finished" if stats.unfinished else ""
    return [("store", stats.store), ("batches", f"{stats.batches} finished{waiting}")]


def _funnel_rows(stats: CorpusStats) -> list[tuple[str, str]]:
    reasons = [(f"  turned away: {reason}", _turned_away(stats, reason)) for reason in sorted(stats.rejects, key=lambda reason: -stats.rejects[reason])]
    copies = [("  copies, not counted again", f"{stats.copies} clips")] if stats.copies else []
    again = [("  to be tried again", f"{stats.retryable} by the next ingest")] if stats.retryable else []
    return [
        ("sources", f"{stats.sources}: {stats.sources_kept} gave clips, {stats.sources_turned_away} gave none"),
        *reasons,
        *again,
        ("clips", f"{stats.clips} ({stats.frames} frames, {spoken_duration(3600 * stats.hours)})"),
        *copies,
    ]


def _turned_away(stats: CorpusStats, reason: str) -> str:
    pieces = stats.rejected_clips.get(reason, 0)
    whole = stats.rejects[reason] - pieces
    counts = [_counted(count, what) for count, what in ((whole, "source"), (pieces, "piece")) if count]
    return f"{' and '.join(counts)}: {_explanation(reason)}"


def _explanation(reason: str) -> str:
    return EXPLANATIONS[Reason(reason)] if reason in set(Reason) else "a reason of another version"


def _snapshot_rows(stats: CorpusStats) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for snapshot in stats.snapshots:
        splits = ", ".join(f"{count} {split}" for split, count in snapshot.splits.items())
        moved = f"; the sound of {snapshot.shifted} is moved" if snapshot.shifted else ""
        rows.append((f"snapshot {snapshot.name}", f"{_counted(snapshot.clips, 'clip')} ({splits}; split by {snapshot.split_by}{moved})"))
        rows += [(f"  left out by {setting}", _counted(count, "clip")) for setting, count in sorted(snapshot.left_out.items(), key=lambda item: -item[1])]
    return rows


def _speaker_rows(stats: CorpusStats) -> list[tuple[str, str]]:
    shown = list(stats.hours_by_speaker.items())[:SHOWN_SPEAKERS]
    rest = list(stats.hours_by_speaker.items())[SHOWN_SPEAKERS:]
    others = [(f"  {len(rest)} others", spoken_duration(3600 * sum(hours for _, hours in rest)))] if rest else []
    rows = [(f"  {speaker}", f"{spoken_duration(3600 * hours)}, {_counted(stats.speakers[speaker], 'clip')}") for speaker, hours in shown]
    return [("speakers", str(len(stats.speakers))), *rows, *others]


def _storage_rows(stats: CorpusStats) -> list[tuple[str, str]]:
    folders = [(f"  {name}", f"{_megabytes(folder.bytes)} in {_counted(folder.files, 'file')}") for name, folder in stats.storage.items()]
    rows = [("storage", f"{_megabytes(stats.bytes)} in {stats.files} files"), *folders]
    if stats.bytes_a_frame is None or stats.files_a_million_frames is None:
        return rows
    return [*rows, ("  a frame", f"{stats.bytes_a_frame:.0f} bytes"), ("  a million frames", f"{stats.files_a_million_frames:.0f} files")]


def _megabytes(size: int) -> str:
    return f"{size / MILLION:.1f} MB" if size >= MILLION / 10 else f"{size / 1000:.1f} kB"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
