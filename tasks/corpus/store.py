"""Reading a corpus store. Imports no media library: this is the way into training."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.errors import SettingsError, StoreError
from schemas.jobs import BatchPlan, Snapshot
from schemas.settings import SCHEMA_VERSION, FormatSettings, check_settings
from schemas.tables import CLIPS, CONTENT_NUMBERS, MEL_BANDS, POSE_NUMBERS, REJECTS
from tasks import places
from tasks.corpus import layout

FloatArray = npt.NDArray[np.float32]
CLIP_COLUMNS = ("clip_id", "speaker", "frames", "faces_shard", "faces_offset", "faces_size")
LANDMARK_COLUMNS = ["clip_id", "box", "pose", "content", "lip_opening"]
READERS = 16
"""Tables read side by side: a request to S3 takes tens of milliseconds in which nothing else happens here."""
PLANS_AT_ONCE = 256
"""Plans in memory: each names up to some hundred sources."""

Read = TypeVar("Read")


@dataclass(frozen=True)
class ClipArrays:
    """A clip as a trainer reads it. F video frames, 25 a second; M mel frames, 80 a second; mel frame 0 is at frame 0."""

    clip_id: str
    speaker: str
    batch: str
    mel: FloatArray
    """(M, 80) float32, -4..4."""
    pose: FloatArray
    """(F, 2, 74) float32, 0..1 of the box."""
    content: FloatArray
    """(F, 2, 57) float32, 0..1 of the box."""
    boxes: FloatArray
    """(F, 4) float32: x0, y0, x1, y1 in source pixels."""
    lip_opening: FloatArray
    """(F,) float32, shares of the box."""
    faces_shard: str
    """File name under faces/."""
    faces_offset: npt.NDArray[np.int64]
    """(F,) byte of the shard where each frame's picture starts."""
    faces_size: npt.NDArray[np.int32]
    """(F,) bytes of each frame's picture."""


class CorpusStore:
    """A corpus store in a folder or under an s3:// prefix. Opens with `open` or `create_or_open`."""

    def __init__(self, uri: str, store_format: FormatSettings) -> None:
        self.uri = uri.rstrip("/")
        self.format = store_format

    @classmethod
    def open(cls, uri: str) -> Self:
        """Opens a store; StoreError when there is none or its settings cannot be read."""
        try:
            values = json.loads(places.read_bytes(places.join(uri, layout.SETTINGS)))
            version = values.pop("schema_version")
            if version != SCHEMA_VERSION:  # before the settings: another version may have other ones
                raise StoreError(f"The corpus store {uri} has tables of version {version}; this dubmill reads version {SCHEMA_VERSION}.")
            return cls(uri, check_settings(FormatSettings, values))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StoreError(f"There is no corpus store at {uri}.") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SettingsError) as error:
            raise StoreError(f"The corpus store {uri} cannot be opened: its {layout.SETTINGS} cannot be read.") from error

    @classmethod
    def create_or_open(cls, uri: str, store_format: FormatSettings) -> Self:
        """Opens a store or makes an empty one; StoreError when there is one of another format, naming what differs."""
        location = places.join(uri, layout.SETTINGS)
        if not places.exists(location):
            values = {"schema_version": SCHEMA_VERSION, **store_format.model_dump(mode="json")}
            places.write_once(location, json.dumps(values, indent=2).encode())  # two runs may make it at once, with other formats
        store = cls.open(uri)
        if store.format != store_format:
            raise StoreError(f"The corpus store {uri} was made with {_differences(store.format, store_format)}; use the same settings or another store.")
        return store

    def batches(self) -> list[str]:
        """Names of the finished batches, in order."""
        return [name.removesuffix(".parquet") for name in places.list_names(places.join(self.uri, layout.CLIPS), ".parquet")]

    def clip_counts(self) -> dict[str, int]:
        """Rows of `clips` by finished batch, in order of their names, from the tables' footers alone; StoreError when one cannot be read."""
        batches = self.batches()
        return dict(zip(batches, _side_by_side(self._clip_count, batches), strict=True))

    def plans(self) -> Iterator[BatchPlan]:
        """Every plan in the store, finished or not, in order of their names, some in memory at once; StoreError for one that cannot be read."""
        names = places.list_names(places.join(self.uri, layout.PLANS), ".json")
        for start in range(0, len(names), PLANS_AT_ONCE):
            group = names[start : start + PLANS_AT_ONCE]
            contents = places.read_many([places.join(self.uri, layout.PLANS, name) for name in group])
            yield from (self._plan(name, content) for name, content in zip(group, contents, strict=True))

    def plan(self, batch: str) -> BatchPlan:
        """The plan of a batch; StoreError when it is not there or cannot be read."""
        try:
            return self._plan(batch, places.read_bytes(layout.plan_location(self.uri, batch)))
        except OSError as error:
            raise StoreError(f"The corpus store {self.uri} has no plan of batch {batch}.") from error

    def clips(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Clips of all batches, each clip_id once, from the lowest batch name, with a column `batch` besides; in that order.

        `columns` picks columns (clip_id and batch are always there): the byte ranges of the pictures are most of the table.
        """
        return first_of_each_clip(self.clip_rows(columns))

    def clip_rows(self, columns: Sequence[str] | None = None) -> pa.Table:
        """As `clips`, but every row: content that lies in the store under two names is there twice."""
        wanted = None if columns is None else list(dict.fromkeys(("clip_id", *columns)))
        schema = CLIPS if wanted is None else pa.schema([CLIPS.field(name) for name in wanted])
        tables = _side_by_side(lambda batch: _with_batch(self.table(layout.CLIPS, batch, wanted), batch), self.batches())
        return pa.concat_tables([_with_batch(schema.empty_table(), ""), *tables])

    def rejects(self) -> pa.Table:
        """The rejects that hold, of all finished batches, with a column `batch` besides, in order of batch name.

        Those of a source whose later try had another outcome are left out: that try's batch says how it is now.
        """
        batches = self.batches()
        finished = set(batches)
        retries = (plan for plan in self.plans() if plan.retry_of is not None and plan.batch in finished)
        replaced = {(plan.retry_of, source.uri) for plan in retries for source in plan.sources}
        tables = _side_by_side(lambda batch: _with_batch(self.table(layout.REJECTS, batch), batch), batches)
        rejects = pa.concat_tables([_with_batch(REJECTS.empty_table(), ""), *tables])
        keys = zip(rejects["batch"].to_pylist(), rejects["source"].to_pylist(), strict=True)
        return rejects.filter(pa.array([key not in replaced for key in keys], pa.bool_()))

    def read_clips(self, clips: Iterable[tuple[str, str]]) -> Iterator[ClipArrays]:
        """Arrays of the clips given as (batch, clip_id), one clip in memory at a time.

        Batch by batch, in the order in which batches first appear, so that each file is opened once.
        StoreError when a clip is not there or a table cannot be read.
        """
        by_batch: dict[str, list[str]] = {}
        for batch, clip_id in clips:
            by_batch.setdefault(batch, []).append(clip_id)
        for batch, clip_ids in by_batch.items():
            yield from self._read_batch(batch, clip_ids)

    def face_picture_bytes(self, shard: str, offset: int, size: int) -> bytes:
        """The coded picture of one frame: one range read of a shard; StoreError when it is not there."""
        location = layout.shard_location(self.uri, shard)
        try:
            content = places.read_range(location, int(offset), int(size))
        except OSError as error:
            raise StoreError(f"The face shard {location} cannot be read: {error.strerror or error}.") from error
        if len(content) != size:
            raise StoreError(f"The face shard {location} ends before byte {offset + size}.")
        return content

    def face_picture(self, shard: str, offset: int, size: int) -> npt.NDArray[np.uint8]:
        """The face picture of one frame: (S, S, 3) uint8 BGR; StoreError when it cannot be read."""
        picture = cv2.imdecode(np.frombuffer(self.face_picture_bytes(shard, offset, size), dtype=np.uint8), cv2.IMREAD_COLOR)
        if picture is None:
            raise StoreError(f"The picture at byte {offset} of the face shard {layout.shard_location(self.uri, shard)} is damaged.")
        return np.asarray(picture, dtype=np.uint8)

    def snapshots(self) -> list[str]:
        """Names of the snapshots, in order."""
        return [name.removesuffix(".json") for name in places.list_names(places.join(self.uri, layout.SNAPSHOTS), ".json")]

    def snapshot(self, name: str) -> Snapshot:
        """A frozen choice of clips by its name; StoreError when it is not there or cannot be read."""
        try:
            return Snapshot.model_validate_json(places.read_bytes(layout.snapshot_location(self.uri, name)))
        except FileNotFoundError as error:
            there = ", ".join(self.snapshots()) or "none"
            raise StoreError(f"The corpus store {self.uri} has no snapshot {name}; there are: {there}.") from error
        except (OSError, ValueError) as error:
            raise StoreError(f"The snapshot {name} of the corpus store {self.uri} cannot be read.") from error

    def left_out(self, name: str) -> pa.Table:
        """The clips that a snapshot left out, and why (schemas.tables.LEFT_OUT), in order of clip_id; StoreError when it cannot be read."""
        with read_parquet(layout.left_out_location(self.uri, name)) as file:
            return file.read()

    @contextmanager
    def parquet(self, folder: str, batch: str) -> Iterator[pq.ParquetFile]:
        """An open table, its pages' checksums verified on reading; StoreError when it cannot be opened or read."""
        with read_parquet(layout.table_location(self.uri, folder, batch)) as file:
            yield file

    def table(self, folder: str, batch: str, columns: Sequence[str] | None = None) -> pa.Table:
        """One batch's table of that folder (`clips`, `audio`, `landmarks`, `rejects`); StoreError when it cannot be read."""
        with self.parquet(folder, batch) as file:
            return file.read(columns=list(columns) if columns is not None else None)

    def _clip_count(self, batch: str) -> int:
        with self.parquet(layout.CLIPS, batch) as file:
            return int(file.metadata.num_rows)

    def _read_batch(self, batch: str, clip_ids: list[str]) -> Iterator[ClipArrays]:
        clips = {row["clip_id"]: row for row in self.table(layout.CLIPS, batch, CLIP_COLUMNS).to_pylist()}
        with self.parquet(layout.AUDIO, batch) as audio, self.parquet(layout.LANDMARKS, batch) as landmarks:
            audio_groups, landmark_groups = row_groups(audio), row_groups(landmarks)
            for clip_id in clip_ids:
                if clip_id not in clips:
                    raise StoreError(f"The batch {batch} of the corpus store {self.uri} has no clip {clip_id}.")
                sound = audio.read_row_groups(audio_groups.get(clip_id, []), columns=["clip_id", "mel"])
                frames = landmarks.read_row_groups(landmark_groups.get(clip_id, []), columns=LANDMARK_COLUMNS)
                yield _clip_arrays(batch, clips[clip_id], _of_clip(sound, clip_id), _of_clip(frames, clip_id))

    @staticmethod
    def _plan(name: str, content: bytes) -> BatchPlan:
        try:
            return BatchPlan.model_validate_json(content)
        except ValueError as error:
            raise StoreError(f"The plan {name} cannot be read.") from error


@contextmanager
def read_parquet(location: str) -> Iterator[pq.ParquetFile]:
    """An open table at a location, its pages' checksums verified on reading; StoreError when it cannot be opened or read."""
    try:
        with places.open_to_read(location) as source:
            yield pq.ParquetFile(source, page_checksum_verification=True)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        cause = (str(error) or type(error).__name__).splitlines()[0]
        raise StoreError(f"The table {location} cannot be read: {cause}.") from error


def row_groups(file: pq.ParquetFile) -> dict[str, list[int]]:
    """Row groups of a table by the clip_ids they hold. The writer begins one at each clip, so the footer alone tells."""
    column = file.schema_arrow.names.index("clip_id")
    groups: dict[str, list[int]] = {}
    for group in range(file.metadata.num_row_groups):
        bounds = file.metadata.row_group(group).column(column).statistics
        alone = bounds is not None and bounds.has_min_max and bounds.min == bounds.max
        held = [bounds.min] if alone else pc.unique(file.read_row_group(group, columns=["clip_id"])["clip_id"]).to_pylist()
        for clip_id in held:
            groups.setdefault(clip_id, []).append(group)
    return groups


def _side_by_side(read: Callable[[str], Read], batches: Sequence[str]) -> list[Read]:
    with ThreadPoolExecutor(READERS) as readers:
        return list(readers.map(read, batches))


def _of_clip(rows: pa.Table, clip_id: str) -> pa.Table:
    return rows.filter(pc.equal(rows["clip_id"], clip_id))


def _with_batch(table: pa.Table, batch: str) -> pa.Table:
    return table.append_column(pa.field("batch", pa.string(), nullable=False), pa.array([batch] * len(table), pa.string()))


def first_of_each_clip(table: pa.Table) -> pa.Table:
    """The rows of `clip_rows` that `clips` has."""
    clip_ids = table["clip_id"].combine_chunks().dictionary_encode()  # numbers: a million texts as NumPy has them are 100 MB
    _, first = np.unique(clip_ids.indices.to_numpy(), return_index=True)
    return table.take(pa.array(np.sort(first)))


def _numbers(column: pa.ChunkedArray, width: int) -> FloatArray:
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.array(flat, dtype=np.float32).reshape(-1, width)


def _clip_arrays(batch: str, clip: dict[str, Any], sound: pa.Table, frames: pa.Table) -> ClipArrays:
    if len(sound) != 1 or len(frames) != clip["frames"]:
        raise StoreError(f"The clip {clip['clip_id']} of batch {batch} has {len(frames)} rows of landmarks and {len(sound)} of audio.")
    mel = sound["mel"].combine_chunks().flatten().flatten().to_numpy()
    return ClipArrays(
        clip_id=clip["clip_id"],
        speaker=clip["speaker"],
        batch=batch,
        mel=np.array(mel, dtype=np.float32).reshape(-1, MEL_BANDS),
        pose=_numbers(frames["pose"], POSE_NUMBERS).reshape(-1, 2, POSE_NUMBERS // 2),
        content=_numbers(frames["content"], CONTENT_NUMBERS).reshape(-1, 2, CONTENT_NUMBERS // 2),
        boxes=_numbers(frames["box"], 4),
        lip_opening=np.array(frames["lip_opening"].to_numpy(), dtype=np.float32),
        faces_shard=clip["faces_shard"],
        faces_offset=np.asarray(clip["faces_offset"], dtype=np.int64),
        faces_size=np.asarray(clip["faces_size"], dtype=np.int32),
    )


def _differences(there: FormatSettings, asked: FormatSettings) -> str:
    pairs = zip(_flat(there.model_dump(mode="json")).items(), _flat(asked.model_dump(mode="json")).values(), strict=True)
    return ", ".join(f"{name} {old}, not {new}" for (name, old), new in pairs if old != new)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
