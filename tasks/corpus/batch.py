"""Writing one batch: cut into local files first, then put into the store together, its `clips` table last, which makes it finished."""

import errno
import logging
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field
from structlog.contextvars import bound_contextvars

from schemas.errors import DubmillError, StoreError
from schemas.jobs import BatchPlan, PlannedSource
from schemas.reasons import RETRYABLE, Reason
from schemas.settings import CuttingSettings, IngestSettings, Settings, check_settings
from schemas.tables import AUDIO, CLIPS, LANDMARKS, REJECTS
from tasks import places
from tasks.corpus import layout
from tasks.corpus.clip import Clip, Reject, cut_source
from tasks.corpus.faces import CODING
from tasks.corpus.known import read_forgotten
from tasks.corpus.measure import audio_rows, clip_row, landmark_rows, reject_rows
from tasks.corpus.sealing import sealed_table
from tasks.corpus.shards import PictureRanges, ShardWriter
from tasks.corpus.store import CorpusStore
from tasks.faces.detect import FaceFinder
from tasks.progress import Progress, silent

logger = logging.getLogger(__name__)

Guard = Callable[[], AbstractContextManager[None]]
"""What is entered around the making of each piece of a source, for example a clock that ends a process that hangs."""
REPEATED_WORDS = ("clip_id", "detected", "speaker", "faces_shard")
"""Columns coded by a dictionary. Floats hardly repeat: a dictionary of them is built for each row group and thrown away."""
SPLIT_FLOATS = {
    layout.LANDMARKS: ["box.list.element", "pose.list.element", "content.list.element", "lip_opening"],
    layout.AUDIO: ["mel.list.element.list.element"],
}
"""Columns whose floats are stored byte by byte (Parquet's BYTE_STREAM_SPLIT), which zstd packs better: landmarks by 15 %, mels by 5 %.
With the dictionaries left out, a batch of 256 clips of 3 s takes 15.4 MB of landmarks instead of 27.2 MB."""
FULL_BYTES = 16_000_000
"""With less than this free in the folder of temporary files a failed source is the disk's fault and not its own."""


class BatchCounts(Settings):
    """What a batch came to."""

    batch: str
    written: bool = Field(description="False: it was there already, or a retry that changed nothing")
    clips: int = 0
    frames: int = 0
    rejects: dict[str, int] = Field(default_factory=dict, description="by reason")


def write_batch(
    settings: IngestSettings,
    batch: BatchPlan | str,
    progress: Progress = silent,
    lost: frozenset[str] = frozenset(),
    finder: FaceFinder | None = None,
    *,
    hung: frozenset[str] = frozenset(),
    guard: Guard = nullcontext,
) -> BatchCounts:
    """Cuts the sources of a plan and writes the batch to the store.

    The same plan gives the same rows and pictures wherever it is run: it is cut by the plan's own `cutting`, whatever the settings say.
    Nothing comes into the store before all of it is made; `clips` comes last and only where there is none. A finished batch is left as
    it is, and a retry (`retry_of`) is put in only if its outcome differs. Raises StoreError when store or temporary folder cannot be written.
    batch: a plan, or the name of one in the store.
    progress: told the sources done, of those of the plan; once more when all are.
    lost: URIs of sources that are not touched and are turned away, because they killed the workers that did; `hung`: those of them that took for ever.
    finder: one made of the plan's `cutting`; without it one is made for this batch.
    """
    cv2.setNumThreads(1)  # one batch a core; OpenCV would take them all
    plan = batch if isinstance(batch, BatchPlan) else CorpusStore(settings.store, settings.format).plan(batch)
    unwritten = BatchCounts(batch=plan.batch, written=False)
    if _is_finished(settings.store, plan.batch):
        return unwritten
    work = _Work(plan, cut_by(settings, plan.cutting), {uri: _lost(uri, uri in hung) for uri in lost}, guard, progress)
    with bound_contextvars(batch=plan.batch), _folder_for(plan) as folder:
        counts = _make(work, folder, finder)
        if plan.retry_of is not None and _same_outcome(CorpusStore(folder, plan.format), CorpusStore(settings.store, plan.format), plan):
            return unwritten
        if isinstance(batch, BatchPlan):
            _write_missing_plan(settings.store, plan)
        return counts if publish_batch(folder, settings.store, plan.batch) else unwritten


def cut_by(settings: IngestSettings, cutting: CuttingSettings) -> IngestSettings:
    """The settings with another way of cutting; unlike `replaced`, fields that are None there become None."""
    return check_settings(IngestSettings, settings.model_dump() | cutting.model_dump())


def _is_finished(store: str, batch: str) -> bool:
    return places.exists(layout.table_location(store, layout.CLIPS, batch))


def _lost(uri: str, hung: bool) -> Reject:
    if hung:
        return Reject(uri, None, "worker", Reason.TIME_LIMIT, "Each worker that handled it hung until its time was over.")
    return Reject(uri, None, "worker", Reason.WORKER_LOST, "Each worker that handled it died.")


@contextmanager
def _folder_for(plan: BatchPlan) -> Iterator[str]:
    """A folder for the files of a batch under way; StoreError where it is full or cannot be written, and where an object store stays away meanwhile."""
    try:
        with tempfile.TemporaryDirectory(prefix="dubmill-batch-") as folder:
            yield folder
    except OSError as error:
        if error.errno in places.PASSING_ERRNOS:  # no disk says so
            raise StoreError(f"The object store stayed away while the batch {plan.batch} was made: {error.strerror or error}.") from error
        raise StoreError(f"The batch {plan.batch} cannot be made in {tempfile.gettempdir()}: {error.strerror or error}.") from error


def _write_missing_plan(store: str, plan: BatchPlan) -> None:
    location = layout.plan_location(store, plan.batch)
    if not places.exists(location):
        places.write_bytes(location, plan.model_dump_json().encode())


@dataclass(frozen=True)
class _Work:
    """What there is to be made, and how."""

    plan: BatchPlan
    settings: IngestSettings
    turned_away: dict[str, Reject]
    """By URI: sources that are not touched."""
    guard: Guard
    progress: Progress


def _make(work: _Work, folder: str, finder: FaceFinder | None) -> BatchCounts:
    """Makes the files of a batch in a local folder, laid out as in a store."""
    settings, plan = work.settings, work.plan
    forgotten = read_forgotten(settings.store).contents
    with ExitStack() as opened:
        used = finder or opened.enter_context(FaceFinder(plan.cutting, settings.clips_a_mesh))
        files = opened.enter_context(batch_files(folder, plan, settings.shard_mb))
        for done, source in enumerate(plan.sources):
            work.progress(done, len(plan.sources), places.name_of(source.uri))
            with bound_contextvars(source=source.uri):
                for piece in _pieces(work, source, used, forgotten):
                    files.add(piece)
        work.progress(len(plan.sources), len(plan.sources), "")
        return files.counts()


def _pieces(work: _Work, source: PlannedSource, finder: FaceFinder, forgotten: frozenset[str]) -> Iterator[Clip | Reject]:
    """Clips and rejects of one source, measured while it is still at hand."""
    if source.uri in work.turned_away:
        yield work.turned_away[source.uri]
        return
    pieces = cut_source(source, work.settings, finder, forgotten)
    while (piece := _next_piece(pieces, work.guard)) is not None:
        if isinstance(piece, Reject) and piece.reason in RETRYABLE:
            _check_space(piece)
        yield piece


def _next_piece(pieces: Iterator[Clip | Reject], guard: Guard) -> Clip | Reject | None:
    """The next piece of a source, None at its end. The guard is over each alone: what is measured of them takes time of its own."""
    with guard():
        return next(pieces, None)


def _check_space(reject: Reject) -> None:
    """Raises StoreError where a source failed because there is no room for temporary files, which any source would fail for."""
    full = any(os.strerror(number) in reject.detail for number in (errno.ENOSPC, errno.EDQUOT))
    if full or shutil.disk_usage(tempfile.gettempdir()).free < FULL_BYTES:
        raise StoreError(f"The folder of temporary files {tempfile.gettempdir()} is full; free some space, or set TMPDIR to a larger one, and run again.")


@lru_cache(maxsize=1)
def _sync(weights: str | None) -> Any:
    """The network that measures the A/V offset, loaded once a process; None: it is measured without one."""
    if weights is None:
        return None
    from tasks.corpus.syncnet import load_sync  # here: it brings torch, which is needed only with weights

    return load_sync(weights)


class _BatchFiles:
    """The open files of a batch."""

    def __init__(self, plan: BatchPlan, shards: ShardWriter, audio: pq.ParquetWriter, landmarks: pq.ParquetWriter) -> None:
        self._plan, self._shards, self._audio, self._landmarks = plan, shards, audio, landmarks
        self._pictures: dict[str, PictureRanges] = {}
        self.clips: list[dict[str, object]] = []
        self.rejects: list[Reject] = []

    def add(self, piece: Clip | Reject) -> None:
        """Takes a clip or a reject. The same content under a second name gets a row of its own, its data are written once.

        A clip that cannot be measured, which is a fault of ours, is turned away alone.
        """
        with bound_contextvars(**({"clip_id": piece.clip_id} if piece.clip_id else {})):
            self._add_one(piece)

    def _add_one(self, piece: Clip | Reject) -> None:
        if isinstance(piece, Reject):
            self._turn_away(piece)
            return
        try:
            row = clip_row(piece, self._plan.format.fps, _sync(self._plan.cutting.sync_weights))
            tables = None if piece.clip_id in self._pictures else (audio_rows(piece), landmark_rows(piece))
        except (DubmillError, OSError):
            raise
        except Exception as error:
            logger.exception("The clip %s of %s ended in an error of ours.", piece.clip_id, piece.source.uri)
            self._turn_away(Reject(piece.source.uri, piece.clip_id, "clip", Reason.INTERNAL, f"{type(error).__name__}: {error}"))
            return
        if tables is not None:
            self._pictures[piece.clip_id] = self._write(piece, *tables)
        pictures = self._pictures[piece.clip_id]
        where = {"faces_shard": pictures.shard, "faces_offset": pictures.offsets, "faces_size": pictures.sizes, "faces_crc32": pictures.checksums}
        self.clips.append({**row, **where})

    def _turn_away(self, reject: Reject) -> None:
        logger.info("Turned away at %s: %s (%s)", reject.stage, reject.reason.value, reject.detail)
        self.rejects.append(reject)

    def _write(self, clip: Clip, audio: pa.Table, landmarks: pa.Table) -> PictureRanges:
        """Each clip in a row group of its own, so that a reader fetches one clip and not the batch.

        Groups of 16 short clips would make landmarks 10 % smaller, and each read of a clip 14 times larger (70 kB for 3 s as it is).
        """
        self._audio.write_table(audio)
        self._landmarks.write_table(landmarks)
        suffix, _ = CODING[self._plan.format.picture]
        return self._shards.write(clip.clip_id, suffix, [frame.picture for frame in clip.segment.frames])

    def counts(self) -> BatchCounts:
        """What was written."""
        frames = sum(int(str(row["frames"])) for row in self.clips)
        reasons = Counter(reject.reason.value for reject in self.rejects)
        return BatchCounts(batch=self._plan.batch, written=True, clips=len(self.clips), frames=frames, rejects=dict(sorted(reasons.items())))


@contextmanager
def batch_files(folder: str, plan: BatchPlan, shard_mb: int) -> Iterator[_BatchFiles]:
    """Opens the files of a batch in a local folder; on leaving without an error all of them are there."""
    with (
        table_writer(folder, layout.LANDMARKS, plan.batch, LANDMARKS) as landmarks,
        table_writer(folder, layout.AUDIO, plan.batch, AUDIO) as audio,
        ShardWriter(folder, plan.batch, shard_mb) as shards,
    ):
        files = _BatchFiles(plan, shards, audio, landmarks)
        yield files
    with table_writer(folder, layout.REJECTS, plan.batch, REJECTS) as rejects:
        rejects.write_table(reject_rows(files.rejects))
    with table_writer(folder, layout.CLIPS, plan.batch, CLIPS) as clips:
        clips.write_table(pa.Table.from_pylist(files.clips, schema=CLIPS))


@contextmanager
def table_writer(folder: str, table: str, batch: str, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Writes a table of a batch in a folder laid out as a store, coded and sealed as all of them are; a row group a call."""
    coding: dict[str, Any] = {"use_dictionary": [name for name in REPEATED_WORDS if name in schema.names]}
    if table in SPLIT_FLOATS:  # read clip by clip: bounds of anything but the clip would only make the footer longer
        coding |= {"use_byte_stream_split": SPLIT_FLOATS[table], "write_statistics": ["clip_id"]}
    location = layout.table_location(folder, table, batch)
    with places.writing(location) as path, sealed_table(path, schema, **coding) as writer:
        yield writer


def _same_outcome(made: CorpusStore, earlier: CorpusStore, plan: BatchPlan) -> bool:
    """Whether a retry gives no clip that was not there and is turned away for the same reasons; details may tell the time."""
    source, before = plan.sources[0].uri, str(plan.retry_of)
    no_new_clip = _clip_ids(made, plan.batch, source) <= _clip_ids(earlier, before, source)
    return no_new_clip and _reasons(made, plan.batch, source) == _reasons(earlier, before, source)


def _clip_ids(store: CorpusStore, batch: str, source: str) -> set[str]:
    rows = store.table(layout.CLIPS, batch, ["source", "clip_id"]).to_pylist()
    return {row["clip_id"] for row in rows if row["source"] == source}


def _reasons(store: CorpusStore, batch: str, source: str) -> set[tuple[str, str]]:
    rows = store.table(layout.REJECTS, batch, ["source", "stage", "reason"]).to_pylist()
    return {(row["stage"], row["reason"]) for row in rows if row["source"] == source}


def publish_batch(made: str, store: str, batch: str) -> bool:
    """Puts the files of a batch from a local folder, laid out as a store, into a store; False, when another writer finished it first.

    Faces, audio, landmarks, rejects, and clips last. A disk that fills up on the way leaves none of them with its final name.
    """
    shards = [name for name in places.list_names(places.join(made, layout.FACES), ".tar") if layout.batch_of_shard(name) == batch]
    files = [layout.shard_location("", shard) for shard in shards] + [layout.table_location("", folder, batch) for folder in layout.TABLES]
    *data, clips = [(places.local_path(made + below), store.rstrip("/") + below) for below in files]
    try:
        with ExitStack() as staged:
            # A stack is left from its top: what is entered last gets its name first.
            for origin, target in reversed(data):
                staged.enter_context(_put_unless_finished(origin, target, store, batch))
    except _FinishedByAnotherError:
        return False
    if not places.write_once(clips[1], clips[0]):
        return False
    _remove_later_shards(store, batch, len(shards))  # by the one who finished it alone: another's shards are those of its clips
    return True


class _FinishedByAnotherError(Exception):
    """Another run finished the batch while this one was at work on it."""


@contextmanager
def _put_unless_finished(origin: Path, target: str, store: str, batch: str) -> Iterator[None]:
    """A local target is copied to the same disk on entering and gets its name on leaving; a remote one is uploaded on leaving.

    Just before that it is looked once more whether another run finished the batch: a finished one never changes, even where
    the slower run met a fault that the faster one did not.
    """
    if places.is_remote(target):
        yield
        _check_unfinished(store, batch)
        # An upload takes its time, and whoever finishes the batch meanwhile has put this file there.
        if places.exists(target) or not places.write_once(target, origin):
            _check_unfinished(store, batch)
            places.put(origin, target)  # over what a killed run left
        return
    with places.writing(target) as path:
        shutil.copyfile(origin, path)
        yield
        _check_unfinished(store, batch)


def _check_unfinished(store: str, batch: str) -> None:
    if _is_finished(store, batch):
        raise _FinishedByAnotherError(batch)


def _remove_later_shards(store: str, batch: str, number: int) -> None:
    """Shards from that number on: a run that was killed while it put smaller ones in may have left them."""
    while places.exists(leftover := layout.shard_location(store, layout.shard_name(batch, number))):
        places.remove(leftover)
        number += 1
