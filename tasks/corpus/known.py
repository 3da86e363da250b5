"""Which sources a store knows: those of its finished batches, and those that it was asked to forget.

What is known follows from plans and rejects tables. Reading tens of thousands of those every night would take longer than the
night's work, so their gist is kept in a few Parquet files under `known/`, each of some batches. They are a cache: they may be
deleted at any time, batches that they do not cover are read from their own files, and rows of batches that are gone are ignored.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.errors import StoreError
from schemas.jobs import BatchPlan
from tasks import places
from tasks.corpus import layout
from tasks.corpus.store import CorpusStore

logger = logging.getLogger(__name__)

KNOWN = "known"
"""The folder of the index."""
FORGOTTEN = "forgotten.parquet"
"""Sources and contents that do not come back into the store."""
DIGEST_BYTES = 16
"""128 bits of BLAKE2: no two of a billion sources share them."""
DIGEST = np.dtype(f"S{DIGEST_BYTES}")
INDEX_FROM_BATCHES = 64
"""Finished batches that are not in the index yet from which on a part is written for them: about a second of reading."""
MOST_PARTS = 8
"""Parts from which on they are merged into one."""
BATCHES_AT_ONCE = 64
"""Plans in memory at once: with 256 sources each about 20 MB."""
FOR_GOOD = np.iinfo(np.int32).max
"""The attempt of a forgotten source: no later one comes after it."""

INDEX = pa.schema(
    [
        pa.field("digest", pa.binary(DIGEST_BYTES), nullable=False),
        pa.field("batch", pa.string(), nullable=False),
        pa.field("attempt", pa.int32(), nullable=False),
        pa.field("retryable", pa.bool_(), nullable=False),  # turned away in that batch for a reason that may go away
    ]
)
FORGOTTEN_TABLE = pa.schema([pa.field("digest", pa.binary(DIGEST_BYTES)), pa.field("content", pa.string())])
"""One of the two in each row: the digest of a source, or the first 16 hex digits of a content's SHA-256, or the clip_id of a single clip of it."""

Item = TypeVar("Item")


def source_digest(uri: str, size: int, version: str) -> bytes:
    """16 bytes that tell a source in the version that was seen."""
    return hashlib.blake2b(f"{uri}\0{size}\0{version}".encode(), digest_size=DIGEST_BYTES).digest()


class Attempt(NamedTuple):
    """The last finished try of a source."""

    batch: str
    attempt: int
    retryable: bool


@dataclass(frozen=True)
class Known:
    """Known sources with their last try, in 16 bytes and a few numbers each."""

    digests: npt.NDArray[np.bytes_]
    """(N,) S16, ascending, each once."""
    attempts: npt.NDArray[np.int32]
    retryable: npt.NDArray[np.bool_]
    batches: npt.NDArray[np.int32]
    """(N,) index into `names`."""
    names: tuple[str, ...]

    def positions(self, digests: npt.NDArray[np.bytes_]) -> npt.NDArray[np.int64]:
        """(n,) where each of those digests is, -1 where it is not known."""
        if not len(self.digests):
            return np.full(len(digests), -1, dtype=np.int64)
        found = np.minimum(np.searchsorted(self.digests, digests), len(self.digests) - 1)
        return np.where(self.digests[found] == digests, found, -1)

    def last_attempt(self, position: int) -> Attempt:
        """The last try of the source at that position."""
        return Attempt(self.names[self.batches[position]], int(self.attempts[position]), bool(self.retryable[position]))


def nothing_known() -> Known:
    """What a store knows that is not there yet."""
    return _latest(INDEX.empty_table())


def read_known(store: CorpusStore) -> Known:
    """What the finished batches and the forgotten list of a store say. Extends the index when many batches are not in it.

    StoreError when a plan or a rejects table cannot be read.
    """
    finished = store.batches()
    parts = _read_parts(store.uri)
    rows = pa.concat_tables([INDEX.empty_table(), *parts.values()])
    missing = _not_covered(store.uri, finished, rows)
    fresh = pa.concat_tables([INDEX.empty_table(), *_rows_of_batches(store.uri, missing)])
    if len(missing) >= INDEX_FROM_BATCHES:
        parts[_write_part(store.uri, fresh)] = fresh
        _merge_when_many(store.uri, parts)
    rows = pa.concat_tables([rows, fresh])
    there = rows.filter(pc.is_in(rows["batch"], pa.array(finished, pa.string())))
    return _latest(pa.concat_tables([there, _rows_of_forgotten(store.uri)]))


def drop_index(store_uri: str) -> None:
    """Deletes the index of a store, which the next ingest makes again; for whoever takes batches away."""
    for name in _part_names(store_uri):
        places.remove(_part_location(store_uri, name))


class Forgotten(NamedTuple):
    """What a store does not take again."""

    sources: frozenset[bytes]
    """Digests of sources (`source_digest`)."""
    contents: frozenset[str]
    """First 16 hex digits of the SHA-256 of contents, whatever they are called, and clip_ids of single clips."""


def read_forgotten(store_uri: str) -> Forgotten:
    """The forgotten list of a store; empty when there is none. StoreError when it cannot be read: it is never ignored."""
    location = places.join(store_uri, FORGOTTEN)
    try:
        table = pq.read_table(pa.BufferReader(places.read_bytes(location)), columns=FORGOTTEN_TABLE.names)
    except FileNotFoundError:
        return Forgotten(frozenset(), frozenset())
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"The forgotten list {location} cannot be read.") from error
    return Forgotten(*(frozenset(table[name].drop_null().to_pylist()) for name in FORGOTTEN_TABLE.names))


def add_forgotten(store_uri: str, sources: Iterable[bytes] = (), contents: Iterable[str] = ()) -> None:
    """Adds digests of sources and contents to the forgotten list; two that add at the same moment must not."""
    there = read_forgotten(store_uri)
    digests, hashes = sorted(there.sources | frozenset(sources)), sorted(there.contents | frozenset(contents))
    columns = {"digest": [*digests, *[None] * len(hashes)], "content": [*[None] * len(digests), *hashes]}
    with places.writing(places.join(store_uri, FORGOTTEN)) as path:
        pq.write_table(pa.table(columns, schema=FORGOTTEN_TABLE), path, compression="zstd", write_page_checksum=True)


def in_groups(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """The items in order, so many at once."""
    return (items[start : start + size] for start in range(0, len(items), size))


def read_plans(store_uri: str, batches: Sequence[str]) -> Iterator[BatchPlan]:
    """Plans of those batches in order, some in memory at once, read side by side where the store is remote; StoreError."""
    for group in in_groups(batches, BATCHES_AT_ONCE):
        for batch, content in zip(group, _read_all([layout.plan_location(store_uri, batch) for batch in group], "plan"), strict=True):
            try:
                yield BatchPlan.model_validate_json(content)
            except ValueError as error:
                raise StoreError(f"The plan {batch} of the corpus store {store_uri} cannot be read.") from error


def planned_batches(store_uri: str) -> list[str]:
    """Names of all batches that have a plan, in order."""
    return [name.removesuffix(".json") for name in places.list_names(places.join(store_uri, layout.PLANS), ".json")]


def _not_covered(store_uri: str, finished: Sequence[str], rows: pa.Table) -> list[str]:
    left = set(finished).difference(pc.unique(rows["batch"]).to_pylist())
    return [batch for batch in planned_batches(store_uri) if batch in left] if left else []


def _rows_of_batches(store_uri: str, batches: Sequence[str]) -> Iterator[pa.Table]:
    for group in in_groups(batches, BATCHES_AT_ONCE):
        tables = _read_all([layout.table_location(store_uri, layout.REJECTS, batch) for batch in group], "table")
        for plan, content in zip(read_plans(store_uri, group), tables, strict=True):
            yield _rows_of_batch(plan, _sources_to_retry(plan.batch, content))


def _rows_of_batch(plan: BatchPlan, to_retry: frozenset[str]) -> pa.Table:
    count = len(plan.sources)
    digests = [source_digest(source.uri, source.size, source.version) for source in plan.sources]
    retryable = [source.uri in to_retry for source in plan.sources]
    return pa.table([digests, [plan.batch] * count, [plan.attempt] * count, retryable], schema=INDEX)


def _sources_to_retry(batch: str, rejects: bytes) -> frozenset[str]:
    """Sources that were turned away themselves, for reasons that may all go away: a clip's reject says nothing of its source."""
    try:
        rows = pq.read_table(pa.BufferReader(rejects), columns=["source", "clip_id", "retryable"]).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"The rejects of batch {batch} cannot be read.") from error
    refused = [row for row in rows if row["clip_id"] is None]
    for_good = {row["source"] for row in refused if not row["retryable"]}
    return frozenset(row["source"] for row in refused) - for_good


def _read_all(locations: Sequence[str], kind: str) -> list[bytes]:
    try:
        return places.read_many(locations)
    except OSError as error:
        raise StoreError(f"A {kind} of the corpus store cannot be read: {error}.") from error


def _rows_of_forgotten(store_uri: str) -> pa.Table:
    digests = sorted(read_forgotten(store_uri).sources)
    count = len(digests)
    return pa.table([digests, [""] * count, [FOR_GOOD] * count, [False] * count], schema=INDEX)


def _latest(rows: pa.Table) -> Known:
    """Of each source the last try; of two in the same attempt, which two runs made side by side, that of the later batch name."""
    digests, attempts = _digests(rows["digest"]), rows["attempt"].to_numpy()
    names = sorted(pc.unique(rows["batch"]).to_pylist())
    batches = pc.index_in(rows["batch"], pa.array(names, pa.string())).to_numpy()
    order = np.lexsort((batches, attempts, digests))
    digests = digests[order]
    last = order[np.append(digests[1:] != digests[:-1], True)] if len(order) else order
    taken = rows.take(pa.array(last))
    return Known(_digests(taken["digest"]), attempts[last], taken["retryable"].to_numpy(), batches[last], tuple(names))


def _digests(column: pa.ChunkedArray) -> npt.NDArray[np.bytes_]:
    whole = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    _, data = whole.buffers()
    return np.frombuffer(data, dtype=DIGEST, count=len(whole), offset=whole.offset * DIGEST_BYTES) if len(whole) else np.empty(0, DIGEST)


def _part_names(store_uri: str) -> list[str]:
    return places.list_names(places.join(store_uri, KNOWN), ".parquet")


def _part_location(store_uri: str, name: str) -> str:
    return places.join(store_uri, KNOWN, name)


def _read_parts(store_uri: str) -> dict[str, pa.Table]:
    """The parts that can be read, by name: one that is damaged, or that another planner merged meanwhile, covers nothing."""
    parts: dict[str, pa.Table] = {}
    for name in _part_names(store_uri):
        try:
            parts[name] = pq.read_table(pa.BufferReader(places.read_bytes(_part_location(store_uri, name))), page_checksum_verification=True).cast(INDEX)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, pa.ArrowException) as error:
            logger.warning("The part %s of the index of known sources cannot be read and is made anew: %s", name, str(error).splitlines()[0])
            places.remove(_part_location(store_uri, name))
    return parts


def _write_part(store_uri: str, rows: pa.Table) -> str:
    """Its name follows from the batches in it: two planners that index the same batches write the same file."""
    covered = sorted(pc.unique(rows["batch"]).to_pylist())
    name = hashlib.sha256("\n".join(covered).encode()).hexdigest()[:DIGEST_BYTES] + ".parquet"
    with places.writing(_part_location(store_uri, name)) as path:
        pq.write_table(rows.sort_by("batch"), path, compression="zstd", use_dictionary=["batch"], write_page_checksum=True)
    return name


def _merge_when_many(store_uri: str, parts: dict[str, pa.Table]) -> None:
    """One part instead of many. The merged one is there before the others go, so that a planner beside this one loses nothing."""
    if len(parts) <= MOST_PARTS:
        return
    merged = _write_part(store_uri, _without_doubles(pa.concat_tables(parts.values())))
    for name in parts.keys() - {merged}:
        places.remove(_part_location(store_uri, name))


def _without_doubles(rows: pa.Table) -> pa.Table:
    """Two planners may have indexed the same batch in different company."""
    return rows.group_by(rows.column_names, use_threads=False).aggregate([]).select(INDEX.names).cast(INDEX)
