"""Making a finished batch anew without some of its sources and clips: the same rows and the same pictures of all the others."""

import hashlib
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import StoreError
from schemas.jobs import BatchPlan, PlannedSource
from schemas.reasons import Reason
from schemas.settings import IngestSettings
from schemas.tables import AUDIO, CLIPS, LANDMARKS, REJECTS
from tasks import places
from tasks.corpus import layout
from tasks.corpus.batch import publish_batch, table_writer
from tasks.corpus.clip import Reject
from tasks.corpus.faces import CODING
from tasks.corpus.measure import reject_rows
from tasks.corpus.plan import plan_batch
from tasks.corpus.shards import ShardWriter
from tasks.corpus.store import CorpusStore

WITHOUT = " without "
"""Stands in the version of a source between what discovery saw and a hash of the clips that were not taken out."""
VERSION_LENGTH = 8
SHARD_MB: int = IngestSettings.model_fields["shard_mb"].default

Row = dict[str, Any]


def plan_without(plan: BatchPlan, kept: Mapping[str, Collection[str]], gone: Mapping[str, Collection[str]]) -> BatchPlan | None:
    """The plan of a batch with some clips of a finished one; None when no source is left.

    kept, gone: clip_ids by source URI; sources with neither, which were turned away whole, are left out unless they are keys of `kept`.
    A source that loses some of its clips gets another version, which no discovery ever sees: so the batch's name follows from what
    is in it as any batch's does, and differs from the old one's. The count of attempts stays, so that a later try still is the later one.
    """
    sources = tuple(_version_without(source, kept[source.uri], gone.get(source.uri, ())) for source in plan.sources if source.uri in kept)
    return plan_batch(sources, plan.format, plan.cutting, plan.attempt, plan.retry_of) if sources else None


def seen_version(source: PlannedSource) -> PlannedSource:
    """A source as discovery saw it, before any of its clips was taken out."""
    return source.model_copy(update={"version": source.version.partition(WITHOUT)[0]})


def _version_without(source: PlannedSource, kept: Collection[str], gone: Collection[str]) -> PlannedSource:
    if not gone:
        return source
    digest = hashlib.sha256("\n".join(sorted(kept)).encode()).hexdigest()[:VERSION_LENGTH]
    return source.model_copy(update={"version": seen_version(source).version + WITHOUT + digest})


def rewrite_batch(store: CorpusStore, batch: str, plan: BatchPlan, is_kept: Callable[[str], bool]) -> None:
    """Publishes a batch with what a finished one holds of the plan's sources and of clips for which `is_kept(clip_id)`.

    One that is there already is left as it is. Raises StoreError when a file of the finished one is missing or damaged.
    """
    if places.exists(layout.table_location(store.uri, layout.CLIPS, plan.batch)):
        return
    places.write_bytes(layout.plan_location(store.uri, plan.batch), plan.model_dump_json().encode())
    uris = {source.uri for source in plan.sources}
    rows = [row for row in store.table(layout.CLIPS, batch).to_pylist() if row["source"] in uris and is_kept(row["clip_id"])]
    rejects = store.table(layout.REJECTS, batch).to_pylist()
    held = [row for row in rejects if row["source"] in uris and (row["clip_id"] is None or is_kept(row["clip_id"]))]
    with tempfile.TemporaryDirectory(prefix="dubmill-batch-") as folder:
        for table, schema in ((layout.AUDIO, AUDIO), (layout.LANDMARKS, LANDMARKS)):
            _copy_rows(store, table, batch, folder, plan.batch, schema, pa.array({row["clip_id"] for row in rows}, pa.string()))
        moved = _copy_pictures(store, rows, folder, plan)
        _write_table(folder, layout.REJECTS, plan.batch, REJECTS, [_with_emptied(held, rows, uris)])
        _write_table(folder, layout.CLIPS, plan.batch, CLIPS, [pa.Table.from_pylist(moved, schema=CLIPS)])
        publish_batch(folder, store.uri, plan.batch)


def _with_emptied(rejects: list[Row], rows: list[Row], uris: set[str]) -> pa.Table:
    """The rejects, and one for each source of which nothing else is left: a source is either kept or turned away."""
    accounted = {row["source"] for row in (*rejects, *rows)}
    emptied = [Reject(uri, None, "clip", Reason.FORGOTTEN, "What there was of it was taken out on request.") for uri in sorted(uris - accounted)]
    return pa.concat_tables([pa.Table.from_pylist(rejects, schema=REJECTS), reject_rows(emptied)])


def _copy_rows(store: CorpusStore, table: str, batch: str, folder: str, name: str, schema: pa.Schema, clip_ids: pa.Array) -> None:
    """A clip's rows stay in row groups of their own, so that a reader fetches one clip and not the batch."""
    with store.parquet(table, batch) as file:
        groups = (file.read_row_group(group) for group in range(file.metadata.num_row_groups))
        kept = (rows.filter(pc.is_in(rows["clip_id"], clip_ids)) for rows in groups)
        _write_table(folder, table, name, schema, (rows for rows in kept if len(rows)))


def _write_table(folder: str, table: str, batch: str, schema: pa.Schema, groups: Iterator[pa.Table] | list[pa.Table]) -> None:
    with table_writer(folder, table, batch, schema) as writer:
        for rows in groups:
            writer.write_table(rows)


def _copy_pictures(store: CorpusStore, rows: list[Row], folder: str, plan: BatchPlan) -> list[Row]:
    """The rows with the pictures' new places. Two rows of one clip share their pictures, as before."""
    suffix, _ = CODING[plan.format.picture]
    places_of: dict[str, Row] = {}
    with ShardWriter(folder, plan.batch, SHARD_MB) as shards:
        for row in sorted(rows, key=lambda row: (row["faces_shard"], row["faces_offset"])):
            if row["clip_id"] in places_of:
                continue
            ranges = shards.write(row["clip_id"], suffix, list(_pictures(store, row)))
            if ranges.checksums != row["faces_crc32"]:
                raise StoreError(f"The pictures of clip {row['clip_id']} in the face shard {row['faces_shard']} are damaged; see `dubmill corpus verify`.")
            places_of[row["clip_id"]] = {"faces_shard": ranges.shard, "faces_offset": ranges.offsets, "faces_size": ranges.sizes}
    return [row | places_of[row["clip_id"]] for row in rows]


def _pictures(store: CorpusStore, row: Row) -> Iterator[bytes]:
    """The clip's coded pictures, by one range read: they lie one after the other."""
    first, last = row["faces_offset"][0], row["faces_offset"][-1] + row["faces_size"][-1]
    content = store.face_picture_bytes(row["faces_shard"], first, last - first)
    for offset, size in zip(row["faces_offset"], row["faces_size"], strict=True):
        yield content[offset - first : offset - first + size]
