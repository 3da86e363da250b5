"""Freezing a choice of clips: which ones a training run reads, in which split, with which sound."""

import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import compress
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import StoreError
from schemas.jobs import Snapshot, SnapshotClip, Split
from schemas.settings import SnapshotSettings
from schemas.tables import LEFT_OUT
from tasks import places
from tasks.corpus import layout, twins
from tasks.corpus.splits import choose_splits
from tasks.corpus.store import CorpusStore

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

NAME_LENGTH = 16
"""Hex digits of SHA-256 in the name of a snapshot that is given none."""
TIMES = ("segment_start_s", "segment_end_s")
"""Where in its source a clip lies."""
MEASURES = ("speaker", "split", *TIMES, "frames", "detected_share", "yaw_extent_deg", "av_offset_frames", "av_confidence", *twins.COLUMNS)
TWINS = "twins"
"""The setting by which clips are left out last, of those that pass every threshold: a bad twin must not displace a good one."""
NO_CHECKSUM = b'"checksum": ""'
"""As it stands in a snapshot's file while the file's checksum is made."""
CHECKSUM = re.compile(rb'"checksum": "([0-9a-f]{64})"')


class Threshold(NamedTuple):
    """A setting as it tells n clips apart."""

    setting: str
    measure: FloatArray
    """(n,)"""
    passes: BoolArray
    """(n,); a measure that is no number does not pass"""


class Selection(NamedTuple):
    """What a snapshot's settings choose."""

    passing: pa.Table
    """Rows of `clips` that pass every threshold, in order of clip_id."""
    stand_in: IntArray
    """(passing,) row that stands for each: the same one for all twins of one footage."""
    is_chosen: BoolArray
    """(passing,)"""
    left_out: pa.Table
    """schemas.tables.LEFT_OUT, in order of clip_id."""

    @property
    def chosen(self) -> pa.Table:
        """Rows of `clips`, in order of clip_id."""
        return self.passing.filter(pa.array(self.is_chosen))


def freeze_snapshot(store: CorpusStore, settings: SnapshotSettings) -> Snapshot:
    """Chooses clips, splits them, and writes the choice to `snapshots/<name>.json`, the others to `snapshots/<name>.left-out.parquet`.

    The same clips and settings give the same files whoever ingested first. Each clip that is not chosen is left out by one
    setting: the first it fails, in the order of `thresholds`, then `twins`. Train is never empty; with few clips there is no
    validation split, and training then validates on what it trains on. A snapshot that is there already with the same content
    is left as it is; StoreError when its content differs, or when no clip passes.
    """
    selection = select(store.clips(MEASURES).sort_by("clip_id"), settings)
    counts = dict(sorted(Counter(selection.left_out["setting"].to_pylist()).items()))
    if not selection.is_chosen.any():
        raise StoreError(f"No clip of the corpus store {store.uri} passes the selection: {_said(counts, settings)}.")
    split_by, splits = choose_splits(selection.passing, selection.stand_in, settings)
    clips = tuple(_clips(selection.chosen, compress(splits, selection.is_chosen.tolist()), settings))
    snapshot = Snapshot(name=settings.name, selection=settings, format=store.format, clips=clips, left_out=counts, split_by=split_by)
    if not settings.name:
        name = hashlib.sha256(snapshot.model_dump_json().encode()).hexdigest()[:NAME_LENGTH]
        snapshot = snapshot.model_copy(update={"name": name})
    return _keep(store, snapshot, selection.left_out)


def select(clips: pa.Table, settings: SnapshotSettings) -> Selection:
    """Applies a snapshot's settings to rows of `clips` with the columns MEASURES and `batch`, in order of clip_id."""
    setting = np.full(len(clips), "", dtype=object)
    measure = np.full(len(clips), np.nan)
    twin_of = np.full(len(clips), None, dtype=object)
    for threshold in reversed(thresholds(clips, settings)):  # the first one that a clip fails is written last
        setting[~threshold.passes] = threshold.setting
        measure[~threshold.passes] = threshold.measure[~threshold.passes]
    passing = np.flatnonzero(setting == "")
    stand_in = twins.find_twins(clips.take(passing))
    is_chosen = (stand_in == np.arange(len(passing))) | (settings.twins == "all")
    setting[passing[~is_chosen]] = TWINS
    twin_of[passing[~is_chosen]] = clips["clip_id"].take(passing[stand_in[~is_chosen]]).to_numpy(zero_copy_only=False)
    why = {"setting": setting, "value": measure, "twin_of": twin_of}
    return Selection(clips.take(passing), stand_in, is_chosen, _left_out(clips, why))


def thresholds(clips: pa.Table, settings: SnapshotSettings) -> list[Threshold]:
    """The settings that are thresholds, in the order in which they leave clips out; single precision, as the measures are stored."""
    frames, duration_s = _measure(clips, "frames"), _measure(clips, "duration_s")
    face_px, detected_share = _measure(clips, "face_px"), _measure(clips, "detected_share")
    yaw_deg, offset_frames = _measure(clips, "yaw_extent_deg"), _measure(clips, "av_offset_frames")
    near = np.abs(offset_frames) <= np.float32(settings.max_offset_frames)
    return [
        Threshold("min_frames", frames, frames >= settings.min_frames),
        Threshold("max_duration_s", duration_s, duration_s <= np.float32(settings.max_duration_s)),
        Threshold("min_face_px", face_px, face_px >= np.float32(settings.min_face_px)),
        Threshold("min_detected_share", detected_share, detected_share >= np.float32(settings.min_detected_share)),
        Threshold("max_yaw_deg", yaw_deg, yaw_deg <= np.float32(settings.max_yaw_deg)),
        Threshold("max_offset_frames", offset_frames, near | ~_is_offset_believed(clips, settings)),
    ]


def write_snapshot(store: CorpusStore, snapshot: Snapshot, left_out: pa.Table) -> Snapshot:
    """Writes the files of a snapshot, the one that makes it a snapshot last; gives it with its checksum. Raises StoreError.

    left_out: schemas.tables.LEFT_OUT, in order of clip_id.
    """
    table = io.BytesIO()
    pq.write_table(left_out, table, compression="zstd", write_page_checksum=True)
    places.write_bytes(layout.left_out_location(store.uri, snapshot.name), table.getvalue())
    text = snapshot.model_copy(update={"checksum": ""}).model_dump_json(indent=1).encode()
    checksum = hashlib.sha256(text + table.getvalue()).hexdigest()
    places.write_bytes(layout.snapshot_location(store.uri, snapshot.name), text.replace(NO_CHECKSUM, NO_CHECKSUM[:-1] + checksum.encode() + b'"'))
    return snapshot.model_copy(update={"checksum": checksum})


def is_as_written(content: bytes, left_out: bytes) -> bool:
    """Whether the bytes of a snapshot's two files are those that were written, by the checksum in the first."""
    found = CHECKSUM.search(content)
    return found is not None and hashlib.sha256(CHECKSUM.sub(NO_CHECKSUM, content) + left_out).hexdigest().encode() == found[1]


def _keep(store: CorpusStore, snapshot: Snapshot, left_out: pa.Table) -> Snapshot:
    if not places.exists(layout.snapshot_location(store.uri, snapshot.name)):
        return write_snapshot(store, snapshot, left_out)
    there = store.snapshot(snapshot.name)
    if there.model_copy(update={"checksum": ""}) != snapshot:
        raise StoreError(f"The corpus store {store.uri} has another snapshot {snapshot.name} already; a snapshot never changes, so give another name.")
    return there


def _measure(clips: pa.Table, name: str) -> FloatArray:
    """(n,) a column; NaN where it was not measured."""
    return np.asarray(clips[name].cast(pa.float32(), safe=False).to_numpy(), dtype=np.float32)


def _is_offset_believed(clips: pa.Table, settings: SnapshotSettings) -> BoolArray:
    measured = np.isfinite(_measure(clips, "av_offset_frames"))
    return np.asarray(measured & (_measure(clips, "av_confidence") >= np.float32(settings.min_offset_confidence)))


def _sound_shifts(chosen: pa.Table, settings: SnapshotSettings) -> list[int]:
    """Whole frames by which each clip's sound is moved back."""
    believed = _is_offset_believed(chosen, settings) & settings.shift_sound
    shifts: list[int] = np.where(believed, np.rint(_measure(chosen, "av_offset_frames")), 0).astype(int).tolist()
    return shifts


def _clips(chosen: pa.Table, splits: Iterable[Split], settings: SnapshotSettings) -> Iterator[SnapshotClip]:
    shifts = _sound_shifts(chosen, settings)
    # By dictionaries: a million clips then share the texts of their few batches and speakers.
    columns = [_shared_texts(chosen[name]) for name in ("clip_id", "batch", "speaker")]
    for clip_id, batch, speaker, split, shift in zip(*columns, splits, shifts, strict=True):
        yield SnapshotClip(clip_id=clip_id, batch=batch, speaker=speaker, split=split, sound_shift_frames=shift)


def _shared_texts(column: pa.ChunkedArray) -> Iterator[str]:
    encoded = column.combine_chunks().dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    return (texts[index] for index in encoded.indices.to_numpy())


def _left_out(clips: pa.Table, why: dict[str, npt.NDArray[Any]]) -> pa.Table:
    """The rows of `clips` that a setting leaves out, as schemas.tables.LEFT_OUT; why: the columns that are not in `clips`."""
    rows = np.flatnonzero(why["setting"] != "")
    columns = {name: pa.array(values[rows], LEFT_OUT.field(name).type, from_pandas=True) for name, values in why.items()}
    columns |= {name: clips[name].take(rows) for name in ("clip_id", "batch")}
    return pa.table(columns).select(LEFT_OUT.names).cast(LEFT_OUT)


def _said(left_out: dict[str, int], settings: SnapshotSettings) -> str:
    counts = (f"{name} {getattr(settings, name):g} leaves out {count}" for name, count in left_out.items())
    return ", ".join(counts) or "there are no clips in it"
