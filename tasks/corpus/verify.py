"""Checking a store: every row is read, every picture and every sound decoded."""

import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import StoreError
from schemas.settings import FormatSettings, MelSettings
from schemas.tables import AUDIO, CLIPS, LANDMARKS, MEL_BANDS, REJECTS
from tasks import places
from tasks.audio import SAMPLE_RATE, decode_flac
from tasks.corpus import layout
from tasks.corpus.faces import CODING
from tasks.corpus.store import CorpusStore
from tasks.progress import Progress

SCHEMAS = {layout.CLIPS: CLIPS, layout.AUDIO: AUDIO, layout.LANDMARKS: LANDMARKS, layout.REJECTS: REJECTS}
Rows = dict[str, dict[str, Any]]
"""Rows of `clips` by clip_id."""
PNG_START = b"\x89PNG\r\n\x1a\n"
"""A PNG is this and then chunks of length (4 bytes), name (4), content, CRC-32 of name and content (4)."""


def verify_store(uri: str, progress: Progress) -> list[str]:
    """Faults of a store, each a sentence; none: it is sound. Raises StoreError when there is no store.

    Looks for missing and cut files, damaged pages, pictures and sound, byte ranges that miss their picture, rows that are not
    where they should be, values that are no numbers, sources of a finished batch that are neither kept nor turned away, and
    shards of a finished batch that no clip lies in.
    """
    store = CorpusStore.open(uri)
    batches = store.batches()
    faults = list(_plan_faults(store, batches))
    shards = _shards_by_batch(store)
    for done, batch in enumerate(batches):
        progress(done, len(batches), f"batch {batch}")
        faults += [f"Batch {batch}: {fault}" for fault in _batch_faults(store, batch, shards.get(batch, []))]
    progress(len(batches), len(batches), "batches")
    return faults


def _plan_faults(store: CorpusStore, batches: list[str]) -> Iterator[str]:
    try:
        plans = {plan.batch: plan for plan in store.plans()}
    except StoreError as error:
        yield str(error)
        return
    for batch in batches:
        if batch not in plans:
            yield f"Batch {batch}: it has no plan."
        elif plans[batch].format != store.format:
            yield f"Batch {batch}: its plan has another format than the store."


def _shards_by_batch(store: CorpusStore) -> dict[str, list[str]]:
    by_batch: dict[str, list[str]] = {}
    for shard in places.list_names(places.join(store.uri, layout.FACES), ".tar"):
        by_batch.setdefault(layout.batch_of_shard(shard), []).append(shard)
    return by_batch


def _batch_faults(store: CorpusStore, batch: str, shards: list[str]) -> Iterator[str]:
    tables: dict[str, pa.Table] = {}
    for folder in (layout.CLIPS, layout.REJECTS):
        try:
            tables[folder] = store.table(folder, batch)
        except StoreError as error:
            yield str(error)
    for folder, table in tables.items():
        if not table.schema.equals(SCHEMAS[folder]):
            yield f"The columns of its table {folder} are not those of this version."
            return
    if layout.CLIPS in tables:
        clips: Rows = {row["clip_id"]: row for row in tables[layout.CLIPS].to_pylist()}
        yield from _audio_faults(store, batch, clips)
        yield from _landmark_faults(store, batch, clips)
        yield from _picture_faults(store, clips)
        used = {clip["faces_shard"] for clip in clips.values()}
        yield from (f"No clip lies in the face shard {shard}; a killed run left it behind." for shard in shards if shard not in used)
    if len(tables) == len((layout.CLIPS, layout.REJECTS)):
        yield from _source_faults(store, batch, tables)


def _source_faults(store: CorpusStore, batch: str, tables: dict[str, pa.Table]) -> Iterator[str]:
    """Sources of the plan of which nothing came: not a clip and not a reject."""
    accounted = {source for table in tables.values() for source in table["source"].to_pylist()}
    try:
        planned = store.plan(batch).sources
    except StoreError:
        return  # said already
    yield from (f"The source {source.uri} is neither kept nor turned away." for source in planned if source.uri not in accounted)


def _row_groups(store: CorpusStore, folder: str, batch: str) -> Iterator[pa.Table]:
    with store.parquet(folder, batch) as file:
        if not file.schema_arrow.equals(SCHEMAS[folder]):
            raise StoreError(f"The columns of its table {folder} are not those of this version.")
        for group in range(file.metadata.num_row_groups):
            yield file.read_row_group(group)


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
            if not len(clip["faces_offset"]) == len(clip["faces_size"]) == clip["frames"]:
                yield f"The clip {clip['clip_id']} has {clip['frames']} frames but another number of pictures."
            for frame, place in enumerate(zip(clip["faces_offset"], clip["faces_size"], strict=False)):
                name = f"{clip['clip_id']}.{frame:06d}{suffix}"
                fault = _picture_fault(file, place, members.get(name), store.format)
                if fault:
                    yield f"The picture {name} of the face shard {path.name} {fault}."


def _picture_fault(file: IO[bytes], place: tuple[int, int], member: tuple[int, int] | None, store_format: FormatSettings) -> str | None:
    if member is None:
        return "is missing"
    if member != place:
        return "is not where the clip's row says"
    file.seek(place[0])
    content = file.read(place[1])
    if len(content) != place[1]:
        return "is cut off"
    side = store_format.crop.size
    picture = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_COLOR)
    if picture is None or (store_format.picture == "png" and not _is_whole_png(content)):
        return "is damaged"
    return None if picture.shape == (side, side, 3) else f"is not of {side} x {side} pixels"


def _is_whole_png(content: bytes) -> bool:
    """Whether every chunk's checksum is right and the last chunk is the closing one: decoders forgive both."""
    position, name = len(PNG_START), b""
    while position + 12 <= len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        name = content[position + 4 : position + 8]
        checked = content[position + 4 : position + 8 + length]
        checksum = content[position + 8 + length : position + 12 + length]
        if zlib.crc32(checked).to_bytes(4, "big") != checksum:
            return False
        position += 12 + length
    return content.startswith(PNG_START) and name == b"IEND" and position == len(content)
