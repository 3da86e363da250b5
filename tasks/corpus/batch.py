"""Writing one batch: its plan first, then its files as they come, its `clips` table last, which makes it finished."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from schemas.jobs import BatchPlan, PlannedSource
from schemas.reasons import Reason
from schemas.settings import IngestSettings, Settings
from schemas.tables import AUDIO, CLIPS, LANDMARKS, REJECTS
from tasks import places
from tasks.corpus import layout
from tasks.corpus.clip import Clip, Reject, cut_source
from tasks.corpus.faces import CODING
from tasks.corpus.measure import audio_rows, clip_row, landmark_rows, reject_rows
from tasks.corpus.shards import PictureRanges, ShardWriter
from tasks.corpus.store import CorpusStore
from tasks.faces.landmarks import FaceMesh
from tasks.progress import Progress, silent


class BatchCounts(Settings):
    """What a batch came to."""

    batch: str
    written: bool = Field(description="False: it was there already, or a retry that changed nothing")
    clips: int = 0
    frames: int = 0
    rejects: dict[str, int] = Field(default_factory=dict, description="by reason")


def write_batch(settings: IngestSettings, plan: BatchPlan, progress: Progress = silent, lost: frozenset[str] = frozenset()) -> BatchCounts:
    """Cuts the sources of a plan and writes the batch to the store.

    A finished batch is left as it is. A retry (`retry_of`) is made beside the store and moved in only if its outcome differs.
    The same plan gives the same rows and pictures wherever it is run. Raises StoreError when the store cannot be written.
    progress: told the sources done, of those of the plan.
    lost: URIs of sources that are not touched and are turned away, because they killed the workers that did.
    """
    cv2.setNumThreads(1)  # one batch a core; OpenCV would take them all
    if _is_finished(settings.store, plan.batch):
        return BatchCounts(batch=plan.batch, written=False)
    if plan.retry_of is None:
        try:
            return _write(settings, plan, progress, lost)
        except _FinishedByAnotherError:
            return BatchCounts(batch=plan.batch, written=False)
    with tempfile.TemporaryDirectory(prefix="dubmill-retry-") as folder:
        counts = _write(settings.replaced(store=folder), plan, progress, lost)
        if _same_outcome(CorpusStore(folder, plan.format), CorpusStore(settings.store, plan.format), plan):
            return BatchCounts(batch=plan.batch, written=False)
        _move_in(folder, settings.store, plan.batch)
    return counts


class _FinishedByAnotherError(Exception):
    """Another run finished the batch while this one was at work on it."""


def _is_finished(store: str, batch: str) -> bool:
    return places.exists(layout.table_location(store, layout.CLIPS, batch))


def try_source(settings: IngestSettings, source: PlannedSource) -> None:
    """Cuts a source and keeps nothing of it. A worker that comes to the end shows that the source kills none."""
    cv2.setNumThreads(1)
    with FaceMesh() as mesh:
        for _ in cut_source(source, settings, mesh.find):
            pass


def _write(settings: IngestSettings, plan: BatchPlan, progress: Progress, lost: frozenset[str]) -> BatchCounts:
    places.write_bytes(layout.plan_location(settings.store, plan.batch), plan.model_dump_json(indent=2).encode())
    with FaceMesh() as mesh, _batch_files(settings, plan) as files:
        for done, source in enumerate(plan.sources):
            progress(done, len(plan.sources), places.name_of(source.uri))
            for piece in [_lost(source)] if source.uri in lost else cut_source(source, settings, mesh.find):
                files.add(piece)
        return files.counts()


def _lost(source: PlannedSource) -> Reject:
    return Reject(source.uri, None, "worker", Reason.WORKER_LOST, "Each worker that handled it died.")


class _BatchFiles:
    """The open files of a batch."""

    def __init__(self, plan: BatchPlan, shards: ShardWriter, audio: pq.ParquetWriter, landmarks: pq.ParquetWriter) -> None:
        self._plan, self._shards, self._audio, self._landmarks = plan, shards, audio, landmarks
        self._pictures: dict[str, PictureRanges] = {}
        self.clips: list[dict[str, object]] = []
        self.rejects: list[Reject] = []

    def add(self, piece: Clip | Reject) -> None:
        """Takes a clip or a reject. The same content under a second name gets a row of its own, its data are written once."""
        if isinstance(piece, Reject):
            self.rejects.append(piece)
            return
        if piece.clip_id not in self._pictures:
            self._pictures[piece.clip_id] = self._write(piece)
        pictures = self._pictures[piece.clip_id]
        where = {"faces_shard": pictures.shard, "faces_offset": pictures.offsets, "faces_size": pictures.sizes}
        self.clips.append({**clip_row(piece, self._plan.format.fps), **where})

    def _write(self, clip: Clip) -> PictureRanges:
        """Each clip in row groups of its own, so that a reader fetches one clip and not the batch."""
        self._audio.write_table(audio_rows(clip))
        self._landmarks.write_table(landmark_rows(clip))
        suffix, _ = CODING[self._plan.format.picture]
        return self._shards.write(clip.clip_id, suffix, [frame.picture for frame in clip.segment.frames])

    def counts(self) -> BatchCounts:
        """What was written."""
        frames = sum(int(str(row["frames"])) for row in self.clips)
        reasons = Counter(reject.reason.value for reject in self.rejects)
        return BatchCounts(batch=self._plan.batch, written=True, clips=len(self.clips), frames=frames, rejects=dict(sorted(reasons.items())))


@contextmanager
def _batch_files(settings: IngestSettings, plan: BatchPlan) -> Iterator[_BatchFiles]:
    """Opens the files of a batch and publishes them: faces, audio, landmarks, rejects, and clips last; after an error none of the tables.

    Raises _FinishedByAnotherError, and publishes nothing, when a run beside this one came first: a finished batch never changes,
    even where the slower run met a fault that the faster one did not.
    """
    store, batch = settings.store, plan.batch
    with (
        _table_writer(layout.table_location(store, layout.LANDMARKS, batch), LANDMARKS) as landmarks,
        _table_writer(layout.table_location(store, layout.AUDIO, batch), AUDIO) as audio,
        ShardWriter(store, batch, settings.shard_mb) as shards,
    ):
        files = _BatchFiles(plan, shards, audio, landmarks)
        yield files
        if _is_finished(store, batch):
            raise _FinishedByAnotherError(batch)
    with _table_writer(layout.table_location(store, layout.REJECTS, batch), REJECTS) as rejects:
        rejects.write_table(reject_rows(files.rejects))
    with _table_writer(layout.table_location(store, layout.CLIPS, batch), CLIPS) as clips:
        clips.write_table(pa.Table.from_pylist(files.clips, schema=CLIPS))


@contextmanager
def _table_writer(location: str, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    with places.writing(location) as path, pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True) as writer:
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


def _move_in(made: str, store: str, batch: str) -> None:
    """Copies a batch into the store in the order in which it would have been written there."""
    _copy(layout.plan_location(made, batch), layout.plan_location(store, batch))
    for shard in places.list_names(places.join(made, layout.FACES), ".tar"):
        _copy(layout.shard_location(made, shard), layout.shard_location(store, shard))
    for folder in layout.TABLES:
        _copy(layout.table_location(made, folder, batch), layout.table_location(store, folder, batch))


def _copy(origin: str, target: str) -> None:
    with places.writing(target) as path:
        shutil.copyfile(origin, path)
