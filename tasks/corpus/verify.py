"""Checking a store: every row is read, every picture and every sound decoded."""

import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import StoreError
from schemas.jobs import BatchPlan
from schemas.settings import SCHEMA_VERSION, MelSettings
from schemas.tables import AUDIO, CLIPS, LANDMARKS, MEL_BANDS, REJECTS
from tasks import places
from tasks.audio import SAMPLE_RATE, decode_flac
from tasks.corpus import layout
from tasks.corpus.faces import CODING
from tasks.corpus.known import planned_batches
from tasks.corpus.plan import plan_batch
from tasks.corpus.sealing import is_intact
from tasks.corpus.snapshot import is_as_written
from tasks.corpus.store import CorpusStore, read_parquet
from tasks.progress import Progress

SCHEMAS = {layout.CLIPS: CLIPS, layout.AUDIO: AUDIO, layout.LANDMARKS: LANDMARKS, layout.REJECTS: REJECTS}
Rows = dict[str, dict[str, Any]]
"""Rows of `clips` by clip_id."""
HeldClips = dict[str, frozenset[str]]
"""clip_ids by batch."""


class BatchTask(NamedTuple):
    """A finished batch that is to be read back, and the names of its face shards."""

    store: str
    batch: str
    shards: tuple[str, ...]


class VerifiedBatch(NamedTuple):
    """What reading a batch back has found, and the clips that it holds; none where its table of them cannot be read."""

    batch: str
    faults: tuple[str, ...]
    clip_ids: frozenset[str]


Spread = Callable[[Callable[[BatchTask], VerifiedBatch], Iterable[BatchTask]], Iterable[VerifiedBatch]]
PICTURE_LISTS = ("faces_offset", "faces_size", "faces_crc32")
"""Columns of `clips` with a number for each frame."""


def unfinished_batches(uri: str) -> int:
    """How many batches of a store are planned and not finished: there is nothing of them to be verified."""
    return len(set(planned_batches(uri)).difference(CorpusStore.open(uri).batches()))


def verify_store(uri: str, progress: Progress, batches: Collection[str] | None = None, spread: Spread = map) -> list[str]:
    """Faults of a store, each a sentence; none: it is sound. Raises StoreError when there is no store.

    Looks for missing and cut files, damaged pages, pictures and sound, byte ranges that miss their picture, rows that are not
    where they should be, values that are no numbers, plans that are not what their name was made of, sources of a finished batch
    that are neither kept nor turned away, shards of a finished batch that no clip lies in, and snapshots that are not as they were
    written or name clips that are not there. A flipped bit is found wherever it is, but in the zeros that fill up a tar file, in
    `retry_of` of a plan, and in the settings of a store that has no batch.

    batches: the finished ones that are read back; None: all. Plans that are not finished, and snapshots, are looked at in any case.
    spread: gives what a function makes of each of several tasks, as `map` does, in any order; a cluster may share them out.
    """
    store = CorpusStore.open(uri)
    chosen = [batch for batch in store.batches() if batches is None or batch in batches]
    shards = _shards_by_batch(store)
    held: HeldClips = {}
    faults, found = list(_unfinished_plan_faults(store, set(store.batches()))), dict[str, tuple[str, ...]]()
    for done, verified in enumerate(spread(verify_batch, [BatchTask(uri, batch, tuple(shards.get(batch, ()))) for batch in chosen])):
        progress(done, len(chosen), f"batch {verified.batch}")
        found[verified.batch] = verified.faults
        held[verified.batch] = verified.clip_ids
    progress(len(chosen), len(chosen), "batches")
    faults += [f"Batch {batch}: {fault}" for batch in chosen for fault in found[batch]]
    return faults + [f"Snapshot {name}: {fault}" for name in _snapshot_names(store) for fault in _snapshot_faults(store, name, held)]


def verify_batch(task: BatchTask) -> VerifiedBatch:
    """Reads a finished batch back. Raises StoreError when the store cannot be reached."""
    store = CorpusStore.open(task.store)
    held: HeldClips = {}
    faults = tuple(_batch_faults(store, task.batch, list(task.shards), held))
    return VerifiedBatch(task.batch, faults, held.get(task.batch, frozenset()))


def _unfinished_plan_faults(store: CorpusStore, finished: set[str]) -> Iterator[str]:
    for name in places.list_names(places.join(store.uri, layout.PLANS), ".json"):
        batch = name.removesuffix(".json")
        if batch not in finished:
            _, faults = _read_plan(store, batch)
            yield from (f"Batch {batch}: {fault}" for fault in faults)


def _read_plan(store: CorpusStore, batch: str) -> tuple[BatchPlan | None, list[str]]:
    """The plan of a batch, None when it cannot be read, and its faults."""
    try:
        plan = store.plan(batch)
    except StoreError as error:
        return None, [str(error)]
    name = plan_batch(plan.sources, plan.format, plan.cutting, plan.attempt, plan.retry_of).batch
    is_as_named = plan.batch == batch == name and plan.schema_version == SCHEMA_VERSION and (plan.attempt > 0) == (plan.retry_of is not None)
    faults = [] if is_as_named else ["Its plan is not the one that its name was made of."]
    return plan, faults + ([] if plan.format == store.format else ["Its plan has another format than the store."])


def _shards_by_batch(store: CorpusStore) -> dict[str, list[str]]:
    by_batch: dict[str, list[str]] = {}
    for shard in places.list_names(places.join(store.uri, layout.FACES), ".tar"):
        by_batch.setdefault(layout.batch_of_shard(shard), []).append(shard)
    return by_batch


def _batch_faults(store: CorpusStore, batch: str, shards: list[str], held: HeldClips) -> Iterator[str]:
    """Faults of a finished batch; its clips are added to `held`."""
    plan, faults = _read_plan(store, batch)
    yield from faults
    tables: dict[str, pa.Table] = {}
    for folder in (layout.CLIPS, layout.REJECTS):
        try:
            tables[folder] = pa.concat_tables(_row_groups(store, folder, batch))
        except StoreError as error:
            yield str(error)
    if layout.CLIPS in tables:
        clips: Rows = {row["clip_id"]: row for row in tables[layout.CLIPS].to_pylist()}
        held[batch] = frozenset(clips)
        yield from _audio_faults(store, batch, clips)
        yield from _landmark_faults(store, batch, clips)
        yield from _picture_faults(store, clips)
        used = {clip["faces_shard"] for clip in clips.values()}
        yield from (f"No clip lies in the face shard {shard}; a killed run left it behind." for shard in shards if shard not in used)
    if plan is not None and len(tables) == len((layout.CLIPS, layout.REJECTS)):
        yield from _source_faults(plan, tables[layout.CLIPS], tables[layout.REJECTS])


def _source_faults(plan: BatchPlan, clips: pa.Table, rejects: pa.Table) -> Iterator[str]:
    """Sources of the plan of which nothing came, not a clip and not a reject, and rows of sources that are not in it as they say."""
    planned = {source.uri: (source.speaker, source.split) for source in plan.sources}
    sources = [*clips["source"].to_pylist(), *rejects["source"].to_pylist()]
    yield from (f"The source {uri} is neither kept nor turned away." for uri in planned.keys() - set(sources))
    yield from (f"The source {uri} is not in its plan." for uri in sorted(set(sources) - planned.keys()))
    said = zip(*(clips[name].to_pylist() for name in ("source", "speaker", "split")), strict=True)
    wrong = sorted({uri for uri, speaker, split in said if planned.get(uri, (speaker, split)) != (speaker, split)})
    yield from (f"Clips of the source {uri} have another speaker or split than its plan." for uri in wrong)


def _snapshot_names(store: CorpusStore) -> list[str]:
    """Of all snapshots, also those of which one file is lost."""
    left_out = places.list_names(places.join(store.uri, layout.SNAPSHOTS), layout.LEFT_OUT)
    return sorted({*store.snapshots(), *(name.removesuffix(layout.LEFT_OUT) for name in left_out)})


def _snapshot_faults(store: CorpusStore, name: str, held: HeldClips) -> Iterator[str]:
    locations = (layout.snapshot_location(store.uri, name), layout.left_out_location(store.uri, name))
    missing = [places.name_of(location) for location in locations if not places.exists(location)]
    if missing:
        yield f"Its file {missing[0]} is missing."
        return
    try:
        content, left_out = places.read_many(locations)
        if not is_as_written(content, left_out):
            yield "Its files are not as they were written."
            return
        clips = store.snapshot(name).clips
    except (OSError, StoreError) as error:
        yield f"It cannot be read: {error}"
        return
    for batch in {clip.batch for clip in clips} - held.keys():
        held[batch] = _clip_ids(store, batch)
    lost = [clip.clip_id for clip in clips if clip.clip_id not in held[clip.batch]]
    if lost:
        yield f"It names {len(lost)} clips that are not in the store, the first of them {lost[0]}."


def _clip_ids(store: CorpusStore, batch: str) -> frozenset[str]:
    """The clips of a batch that was not read back; none where it is lost."""
    try:
        return frozenset(store.table(layout.CLIPS, batch, ["clip_id"])["clip_id"].to_pylist())
    except StoreError:
        return frozenset()


def _row_groups(store: CorpusStore, folder: str, batch: str) -> Iterator[pa.Table]:
    """The rows of a table in pieces; StoreError when it is damaged or has other columns."""
    location = layout.table_location(store.uri, folder, batch)
    try:
        with places.local_copy(location) as path:
            if not is_intact(path):
                raise StoreError(f"Its table {folder} is not as it was written.")
            with read_parquet(str(path)) as file:
                if not file.schema_arrow.equals(SCHEMAS[folder]):
                    raise StoreError(f"The columns of its table {folder} are not those of this version.")
                yield SCHEMAS[folder].empty_table()
                for group in range(file.metadata.num_row_groups):
                    yield file.read_row_group(group).replace_schema_metadata(None)
    except FileNotFoundError as error:
        raise StoreError(f"Its table {folder} is missing.") from error


def _audio_faults(store: CorpusStore, batch: str, clips: Rows) -> Iterator[str]:
    seen: list[str] = []
    try:
        for table in _row_groups(store, layout.AUDIO, batch):
            for row in table.to_pylist():
                seen.append(row["clip_id"])
                if row["clip_id"] in clips:
                    yield from _sound_faults(row, clips[row["clip_id"]])
    except StoreError as error:
        yield str(error)
        return
    yield from _row_faults(layout.AUDIO, seen, dict.fromkeys(clips, 1))


def _sound_faults(row: dict[str, Any], clip: dict[str, Any]) -> Iterator[str]:
    samples = round(clip["frames"] * SAMPLE_RATE / clip["fps"])
    mel = np.asarray(row["mel"], dtype=np.float32)
    if mel.shape != (1 + samples // MelSettings().hop, MEL_BANDS) or not np.isfinite(mel).all():
        yield f"The mel spectrogram of clip {clip['clip_id']} does not fit its length or holds values that are no numbers."
    try:
        found = len(decode_flac(row["flac"]))
    except RuntimeError as error:  # soundfile's errors
        yield f"The sound of clip {clip['clip_id']} cannot be decoded: {error}"
        return
    if found != samples:
        yield f"The sound of clip {clip['clip_id']} has {found} samples, not {samples}."


def _landmark_faults(store: CorpusStore, batch: str, clips: Rows) -> Iterator[str]:
    seen: list[str] = []
    try:
        for table in _row_groups(store, layout.LANDMARKS, batch):
            seen += table["clip_id"].to_pylist()
            yield from _point_faults(table)
    except StoreError as error:
        yield str(error)
        return
    yield from _row_faults(layout.LANDMARKS, seen, {clip_id: clip["frames"] for clip_id, clip in clips.items()})


def _point_faults(table: pa.Table) -> Iterator[str]:
    for clip_id in pc.unique(table["clip_id"]).to_pylist():
        rows = table.filter(pc.equal(table["clip_id"], clip_id))
        if rows["frame"].to_pylist() != list(range(len(rows))):
            yield f"The landmarks of clip {clip_id} are not in order of frames."
        columns = [rows[name].combine_chunks().flatten() for name in ("box", "pose", "content")]
        if not all(np.isfinite(column.to_numpy(zero_copy_only=False)).all() for column in columns):
            yield f"The landmarks of clip {clip_id} hold values that are no numbers."


def _row_faults(folder: str, seen: list[str], expected: dict[str, int]) -> Iterator[str]:
    counts = Counter(seen)
    for clip_id in sorted(counts.keys() | expected.keys()):
        if counts[clip_id] != expected.get(clip_id, 0):
            yield f"The table {folder} has {counts[clip_id]} rows for clip {clip_id}, not {expected.get(clip_id, 0)}."


def _picture_faults(store: CorpusStore, clips: Rows) -> Iterator[str]:
    by_shard: dict[str, list[dict[str, Any]]] = {}
    for clip in clips.values():
        by_shard.setdefault(clip["faces_shard"], []).append(clip)
    for shard, held in sorted(by_shard.items()):
        try:
            with places.local_copy(layout.shard_location(store.uri, shard)) as path:
                yield from _shard_faults(store, path, held)
        except FileNotFoundError:
            yield f"The face shard {shard} is missing."
        except (OSError, tarfile.TarError) as error:
            yield f"The face shard {shard} is damaged: {error}."


def _shard_faults(store: CorpusStore, path: Path, clips: list[dict[str, Any]]) -> Iterator[str]:
    suffix, _ = CODING[store.format.picture]
    with tarfile.open(path) as tar:
        members = {member.name: (member.offset_data, member.size) for member in tar}
    with path.open("rb") as file:
        for clip in clips:
            if {len(clip[name]) for name in PICTURE_LISTS} != {clip["frames"]}:
                yield f"The clip {clip['clip_id']} has {clip['frames']} frames but another number of pictures."
            for frame, (offset, size, checksum) in enumerate(zip(*(clip[name] for name in PICTURE_LISTS), strict=False)):
                name = f"{clip['clip_id']}.{frame:06d}{suffix}"
                fault = _place_fault(members.get(name), (offset, size)) or _picture_fault(file, offset, size, checksum, store.format.crop.size)
                if fault:
                    yield f"The picture {name} of the face shard {path.name} {fault}."


def _place_fault(member: tuple[int, int] | None, place: tuple[int, int]) -> str | None:
    if member is None:
        return "is missing"
    return None if member == place else "is not where the clip's row says"


def _picture_fault(file: IO[bytes], offset: int, size: int, checksum: int, side: int) -> str | None:
    file.seek(offset)
    content = file.read(size)
    if len(content) != size:
        return "is cut off"
    if zlib.crc32(content) != checksum:
        return "is damaged"
    picture = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_COLOR) if content else None
    if picture is None:
        return "cannot be decoded"
    return None if picture.shape == (side, side, 3) else f"is not of {side} x {side} pixels"
