"""Taking a person or a clip out of a corpus store for good: batches and snapshots are made anew without them.

What is to go is first written to the store's forgotten list, as digests that name nobody; then all that the list covers is taken out.
So a run that is killed at any moment leaves a store that verifies, and the next one finishes the work, whatever it is asked.
Every batch is made anew beside the old one before that is deleted, and every snapshot before the one that it replaces.
"""

import hashlib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from schemas.errors import StoreError
from schemas.jobs import BatchPlan, PlannedSource, Snapshot
from schemas.settings import Settings
from schemas.tables import LEFT_OUT
from tasks import places
from tasks.corpus import layout, twins
from tasks.corpus.collect import StoredFile, files_by_batch, listed, remove_batch
from tasks.corpus.known import add_forgotten, drop_index, planned_batches, read_forgotten, read_plans, source_digest
from tasks.corpus.rewrite import plan_without, rewrite_batch, seen_version
from tasks.corpus.snapshot import write_snapshot
from tasks.corpus.store import CorpusStore
from tasks.lineage.checkpoints import REPLACEMENT
from tasks.lineage.holders import holding_dubs, holding_models
from tasks.progress import Progress, silent

CONTENT_LENGTH = 16
"""Hex digits at the beginning of a clip_id: the hash of the source's content."""
SUFFIX_LENGTH = 8
"""Hex digits at the end of the name of a snapshot that replaces another."""
REPLACED = re.compile(f"({REPLACEMENT}[0-9a-f]{{{SUFFIX_LENGTH}}})+$")
NAMELESS = "snapshot"
"""The beginning of a new snapshot's name where the old one's would tell who was forgotten."""

Row = dict[str, Any]


class ForgetSummary(Settings):
    """What held a person or clip, and what became of it, or would become of it in a dry run."""

    store: str
    dry_run: bool
    not_found: tuple[str, ...] = Field(description="speakers and clips asked for of which the store holds nothing, or nothing any more")
    sources: int = Field(description="sources that go whole; they do not come back, nor does their content under another name")
    clips: tuple[str, ...] = Field(description="clips that go, by clip_id")
    shards: tuple[str, ...] = Field(description="face shards in which their pictures lie")
    batches: dict[str, str] = Field(description="batches that held them, each with the one that replaces it; empty: nothing is left of it")
    leftovers: tuple[str, ...] = Field(description="unfinished batches that held them or were to; their other sources are new again")
    snapshots: dict[str, str] = Field(description="snapshots that named them or their batches, each with its replacement; empty: it has none")
    look_alikes: tuple[str, ...] = Field(description="clips that stay and show the same footage in another coding; forget them too where they should go")
    models: tuple[str, ...] = Field(description="checkpoints trained on them; a model cannot unlearn: delete it and train again on the new snapshot")
    dubs: tuple[str, ...] = Field(description="outputs of dubbing runs made from their sources; they stay until you delete them")


def forget(
    store_uri: str,
    speakers: Sequence[str] = (),
    clips: Sequence[str] = (),
    also: Sequence[str] = (),
    dry_run: bool = False,
    progress: Progress = silent,
) -> ForgetSummary:
    """Takes speakers and clips out of a store, and lists what else holds them.

    A speaker goes with every source of that name, kept or turned away, and with every other source of the same content, whoever it is
    said to be. A clip goes from every batch that holds it; when it was the last one of its content, its sources go whole. They do not
    come back: the forgotten list of the store has the digests of sources, the hashes of contents, and the clip_ids of single clips,
    whose sources stay with their other clips and are not read again in the version that was seen.
    also: folders or prefixes of models and dubs to be looked through; nothing there is changed. A second run no longer knows which
    models and dubs there were: keep the summary of the first.
    Not for the moment at which an ingest runs. Raises StoreError: no store, or something of it that cannot be read or written.
    """
    if not speakers and not clips:
        raise StoreError("There is nobody to forget: name a speaker or a clip.")
    contents = _read_store(CorpusStore.open(store_uri), progress)
    wanted = _wanted(contents, frozenset(speakers), frozenset(clips))
    removal = _removal(contents, wanted, (*speakers, *clips))
    summary = _summary(contents, removal, speakers, clips, also).replaced(dry_run=dry_run)
    if not dry_run:
        add_forgotten(store_uri, wanted.sources, wanted.contents | wanted.clips)
        _carry_out(contents, removal, progress)
    return summary


@dataclass(frozen=True)
class _Batch:
    """A finished batch, as far as it tells whose its clips are."""

    plan: BatchPlan
    rows: list[Row]
    """clip_id, source, speaker and faces_shard of each row of `clips`."""
    turned_away: list[Row]
    """clip_id and source of each row of `rejects` that got as far as a clip_id."""

    def clip_ids(self) -> dict[str, set[str]]:
        """By source URI."""
        held: dict[str, set[str]] = {}
        for row in self.rows:
            held.setdefault(row["source"], set()).add(row["clip_id"])
        return held


@dataclass(frozen=True)
class _Contents:
    """What there is in a store."""

    store: CorpusStore
    batches: list[_Batch]
    unfinished: list[BatchPlan]
    files: dict[str, list[StoredFile]]

    def rows(self) -> Iterator[Row]:
        for batch in self.batches:
            yield from batch.rows

    def plans(self) -> list[BatchPlan]:
        return [*(batch.plan for batch in self.batches), *self.unfinished]


@dataclass(frozen=True)
class _Wanted:
    """What is to go, and whatever went before."""

    sources: frozenset[bytes]
    """Digests of sources that do not come back: those that go whole, and those that stay without some of their clips."""
    contents: frozenset[str]
    clips: frozenset[str]
    """clip_ids of single clips whose sources stay."""

    def has_source(self, source: PlannedSource) -> bool:
        return _digest(source) in self.sources

    def has_clip(self, clip_id: str) -> bool:
        return _content(clip_id) in self.contents or clip_id in self.clips

    def takes(self, source: PlannedSource, clip_ids: Collection[str]) -> bool:
        """Whether a source goes whole from a batch that has those clips of it."""
        return all(_content(clip_id) in self.contents for clip_id in clip_ids) if clip_ids else self.has_source(source)


@dataclass(frozen=True)
class _Removal:
    """What is to be done."""

    wanted: _Wanted
    replacements: dict[str, BatchPlan | None]
    """By the name of a batch that goes, the plan of the one that replaces it; None: nothing is left of it."""
    leftovers: list[str]
    snapshots: dict[str, tuple[Snapshot, pa.Table] | None]
    """By the name of a snapshot that goes, the one that replaces it and its table of left-out clips; None: it has no training clip left."""

    def batch_now(self, batch: str) -> str:
        """The name under which the clips of a batch that stay are found then."""
        plan = self.replacements.get(batch)
        return plan.batch if plan else batch


def _read_store(store: CorpusStore, progress: Progress) -> _Contents:
    names = store.batches()
    batches = []
    for done, name in enumerate(names):
        progress(done, len(names), f"looking into batch {name}")
        rows = store.table(layout.CLIPS, name, ["clip_id", "source", "speaker", "faces_shard"]).to_pylist()
        rejects = store.table(layout.REJECTS, name, ["clip_id", "source"]).to_pylist()
        batches.append(_Batch(store.plan(name), rows, [row for row in rejects if row["clip_id"] is not None]))
    unfinished = list(read_plans(store.uri, sorted(set(planned_batches(store.uri)) - set(names))))
    return _Contents(store, batches, unfinished, files_by_batch(store.uri))


def _wanted(contents: _Contents, speakers: frozenset[str], clips: frozenset[str]) -> _Wanted:
    """What is asked for, and what the forgotten list holds already, should a run have been killed before all of that was out."""
    before = read_forgotten(contents.store.uri)
    hashes = {content for content in before.contents if len(content) == CONTENT_LENGTH}
    single = (before.contents - hashes) | clips
    hashes |= {_content(row["clip_id"]) for row in contents.rows() if row["speaker"] in speakers}
    hashes |= set(_turned_away(contents, speakers)) | _emptied(contents, single)
    sources = {_digest(source) for plan in contents.plans() for source in plan.sources if source.speaker in speakers}
    sources |= {_digest(source) for batch in contents.batches for source in _sources_of(batch, hashes, single)}
    return _Wanted(before.sources | sources, frozenset(hashes), frozenset(clip for clip in single if _content(clip) not in hashes))


def _turned_away(contents: _Contents, speakers: frozenset[str]) -> Iterator[str]:
    """Contents of those speakers of which clips were turned away: with other settings they would be kept."""
    for batch in contents.batches:
        uris = {source.uri for source in batch.plan.sources if source.speaker in speakers}
        yield from (_content(row["clip_id"]) for row in batch.turned_away if row["source"] in uris)


def _emptied(contents: _Contents, single: frozenset[str]) -> set[str]:
    """Contents of which no clip is left without those."""
    touched = {_content(row["clip_id"]) for row in contents.rows() if row["clip_id"] in single}
    return touched - {_content(row["clip_id"]) for row in contents.rows() if row["clip_id"] not in single}


def _sources_of(batch: _Batch, hashes: set[str], single: frozenset[str]) -> Iterator[PlannedSource]:
    uris = {row["source"] for row in batch.rows if _content(row["clip_id"]) in hashes or row["clip_id"] in single}
    return (source for source in batch.plan.sources if source.uri in uris)


def _removal(contents: _Contents, wanted: _Wanted, asked: Sequence[str]) -> _Removal:
    replacements = {batch.plan.batch: _replacement(batch, wanted) for batch in contents.batches if _is_touched(batch, wanted)}
    for name, plan in replacements.items():
        if plan is not None and (made := replacements.get(str(plan.retry_of))) is not None:
            replacements[name] = plan.model_copy(update={"retry_of": made.batch})
    under_way = {plan.batch for plan in replacements.values() if plan is not None}
    leftovers = [batch for batch in _tainted_leftovers(contents, wanted) if batch not in under_way]
    removal = _Removal(wanted, replacements, leftovers, {})
    for name in contents.store.snapshots():
        snapshot, left_out = contents.store.snapshot(name), contents.store.left_out(name)
        if _names_any(snapshot, left_out, removal):
            removal.snapshots[name] = _snapshot_without(snapshot, left_out, removal, asked)
    return removal


def _is_touched(batch: _Batch, wanted: _Wanted) -> bool:
    return any(wanted.has_clip(row["clip_id"]) for row in batch.rows) or bool(_sources_taken(batch, wanted))


def _sources_taken(batch: _Batch, wanted: _Wanted) -> set[str]:
    """URIs of the sources that go whole from a batch."""
    held = batch.clip_ids()
    return {source.uri for source in batch.plan.sources if wanted.takes(source, held.get(source.uri, ()))}


def _replacement(batch: _Batch, wanted: _Wanted) -> BatchPlan | None:
    held, taken = batch.clip_ids(), _sources_taken(batch, wanted)
    stays = {source.uri: held.get(source.uri, set()) for source in batch.plan.sources if source.uri not in taken}
    kept = {uri: {clip_id for clip_id in clip_ids if not wanted.has_clip(clip_id)} for uri, clip_ids in stays.items()}
    return plan_without(batch.plan, kept, {uri: clip_ids - kept[uri] for uri, clip_ids in stays.items()})


def _tainted_leftovers(contents: _Contents, wanted: _Wanted) -> Iterator[str]:
    """Unfinished batches that name what is to go, in their plan or in what a killed run left of their tables."""
    finished = {batch.plan.batch for batch in contents.batches}
    plans = {plan.batch: plan for plan in contents.unfinished}
    for batch in sorted(contents.files.keys() - finished):
        sources = plans[batch].sources if batch in plans else ()
        if any(wanted.has_source(source) for source in sources) or any(map(wanted.has_clip, _clip_ids_left(contents, batch))):
            yield batch


def _clip_ids_left(contents: _Contents, batch: str) -> set[str]:
    """clip_ids in the tables of an unfinished batch."""
    there = {file.folder for file in contents.files[batch] if not file.is_temporary}
    tables = [contents.store.table(folder, batch, ["clip_id"]) for folder in (layout.AUDIO, layout.LANDMARKS) if folder in there]
    return {clip_id for table in tables for clip_id in table["clip_id"].unique().to_pylist()}


def _names_any(snapshot: Snapshot, left_out: pa.Table, removal: _Removal) -> bool:
    named = [(clip.batch, clip.clip_id) for clip in snapshot.clips]
    named += zip(left_out["batch"].to_pylist(), left_out["clip_id"].to_pylist(), strict=True)
    return any(batch in removal.replacements or removal.wanted.has_clip(clip_id) for batch, clip_id in named)


def _snapshot_without(snapshot: Snapshot, left_out: pa.Table, removal: _Removal, asked: Sequence[str]) -> tuple[Snapshot, pa.Table] | None:
    kept = [clip for clip in snapshot.clips if not removal.wanted.has_clip(clip.clip_id)]
    clips = tuple(clip.model_copy(update={"batch": removal.batch_now(clip.batch)}) for clip in kept)
    if not any(clip.split == "train" for clip in clips):
        return None
    rows = [_row_without(row, removal) for row in left_out.to_pylist() if not removal.wanted.has_clip(row["clip_id"])]
    counts = {setting: sum(row["setting"] == setting for row in rows) for setting in sorted({row["setting"] for row in rows})}
    changed = _named(snapshot.model_copy(update={"clips": clips, "left_out": counts, "checksum": ""}), "")
    digest = hashlib.sha256(changed.model_dump_json().encode()).hexdigest()  # of all but its name: two that lose theirs stay two
    base = REPLACED.sub("", snapshot.name)
    name = (NAMELESS if any(word in base for word in asked) else base) + REPLACEMENT + digest[:SUFFIX_LENGTH]
    return _named(changed, name), pa.Table.from_pylist(rows, schema=LEFT_OUT)


def _named(snapshot: Snapshot, name: str) -> Snapshot:
    return snapshot.model_copy(update={"name": name, "selection": snapshot.selection.model_copy(update={"name": name})})


def _row_without(row: Row, removal: _Removal) -> Row:
    """A row of a left-out clip that stays; what it was a twin of may be gone."""
    twin_of = None if row["twin_of"] and removal.wanted.has_clip(row["twin_of"]) else row["twin_of"]
    return row | {"batch": removal.batch_now(row["batch"]), "twin_of": twin_of}


def _summary(contents: _Contents, removal: _Removal, speakers: Sequence[str], clips: Sequence[str], also: Sequence[str]) -> ForgetSummary:
    wanted = removal.wanted
    gone = [row for row in contents.rows() if wanted.has_clip(row["clip_id"])]
    sources = {uri for batch in contents.batches for uri in _sources_taken(batch, wanted)}
    there = {source.speaker for plan in contents.plans() for source in plan.sources} | {row["clip_id"] for row in contents.rows()}
    return ForgetSummary(
        store=contents.store.uri,
        dry_run=False,
        not_found=tuple(name for name in (*speakers, *clips) if name not in there),
        sources=len(sources),
        clips=tuple(sorted({row["clip_id"] for row in gone})),
        shards=tuple(sorted({row["faces_shard"] for row in gone})),
        batches={batch: plan.batch if plan else "" for batch, plan in removal.replacements.items()},
        leftovers=tuple(removal.leftovers),
        snapshots={name: made[0].name if made else "" for name, made in removal.snapshots.items()},
        look_alikes=tuple(_look_alikes(contents.store, wanted) if gone else ()),
        models=tuple(holding_models(also, removal.snapshots)),
        dubs=tuple(holding_dubs(also, sources | {row["source"] for row in gone}, wanted.contents | {_content(row["clip_id"]) for row in gone})),
    )


def _look_alikes(store: CorpusStore, wanted: _Wanted) -> list[str]:
    """Clips that stay, of the same footage as one that goes, as far as their fingerprints tell."""
    clips = store.clips(twins.COLUMNS)
    clip_ids = clips["clip_id"].to_pylist()
    goes = np.array([wanted.has_clip(clip_id) for clip_id in clip_ids], dtype=bool)
    stand_in = twins.find_twins(clips)
    alike = np.isin(stand_in, stand_in[goes]) & ~goes
    return sorted(clip_ids[position] for position in np.flatnonzero(alike))


def _carry_out(contents: _Contents, removal: _Removal, progress: Progress) -> None:
    """First all that is new, then snapshots and batches go: whatever is there at any moment is whole."""
    store, wanted = contents.store, removal.wanted
    for done, (batch, plan) in enumerate(removal.replacements.items()):
        progress(done, len(removal.replacements), f"batch {batch}")
        if plan is not None:
            rewrite_batch(store, batch, plan, lambda clip_id: not wanted.has_clip(clip_id))
    for made in removal.snapshots.values():
        if made is not None:
            write_snapshot(store, *made)
    for name in removal.snapshots:
        places.remove(layout.snapshot_location(store.uri, name))
    _remove_remains_of_snapshots(store)
    _point_retries_anew(contents, removal)
    for batch in (*removal.replacements, *removal.leftovers):
        remove_batch(contents.files[batch])
    drop_index(store.uri)
    progress(len(removal.replacements), len(removal.replacements), "batches")


def _remove_remains_of_snapshots(store: CorpusStore) -> None:
    """Tables of left-out clips whose snapshot is gone, now or since a run that was killed, and what killed runs were writing."""
    owned = {layout.left_out_location(store.uri, name) for name in store.snapshots()}
    for file in listed(store.uri, layout.SNAPSHOTS):
        if file.is_temporary or (file.location.endswith(".parquet") and file.location not in owned):
            places.remove(file.location)


def _point_retries_anew(contents: _Contents, removal: _Removal) -> None:
    """A later try of a source that stays must still name the batch whose outcome it bettered. No row of it changes."""
    for plan in contents.plans():
        if plan.retry_of in removal.replacements and plan.batch not in removal.replacements:
            named = plan.model_copy(update={"retry_of": removal.batch_now(str(plan.retry_of))})
            places.write_bytes(layout.plan_location(contents.store.uri, plan.batch), named.model_dump_json().encode())


def _digest(source: PlannedSource) -> bytes:
    return source_digest(source.uri, source.size, seen_version(source).version)


def _content(clip_id: str) -> str:
    return clip_id[:CONTENT_LENGTH]
