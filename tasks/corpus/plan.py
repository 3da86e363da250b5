"""Which sources are new, and how they are grouped into batches whose names follow from what they hold."""

import hashlib
import json
import logging
import secrets
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from math import ceil
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.errors import SettingsError
from schemas.jobs import BatchPlan, PlannedSource, Split
from schemas.settings import SCHEMA_VERSION, CuttingSettings, FormatSettings, IngestSettings
from tasks import places
from tasks.corpus import layout
from tasks.corpus.discover import discover
from tasks.corpus.known import DIGEST, Attempt, Known, nothing_known, planned_batches, read_known, read_plans, source_digest
from tasks.corpus.speakers import SpeakerList
from tasks.corpus.store import CorpusStore

logger = logging.getLogger(__name__)

BATCH_NAME_LENGTH = 16
"""Hex digits of SHA-256: 64 bits, so that two batches of a store never share a name."""
BATCHES_A_WORKER = 4
"""So that no worker waits long for the last one: batches differ in length."""
FEWEST_SOURCES = 4
"""A batch costs a plan and five files; it is not made smaller than this to keep workers busy."""
SOURCES_AT_ONCE = 4096
"""Sources that are looked up among the known ones in one go."""
PLANS_AT_ONCE = 32
"""Plans that are written side by side to a remote store."""
MEGABYTE = 1_000_000


class PlannedBatch(NamedTuple):
    """A batch to be written."""

    batch: str
    """Its name; its plan lies in the store under it, unless it is a retry."""
    sources: int
    retry: BatchPlan | None = None
    """The plan of a retry: it reaches the store with the batch, and only if its outcome is another than before."""

    @property
    def to_write(self) -> BatchPlan | str:
        """What `write_batch` is given: the plan itself, or the name of one in the store."""
        return self.retry or self.batch


class IngestPlan(NamedTuple):
    """What a run has to do: batches to write, then how many sources the store knows already, then how many were found."""

    batches: list[PlannedBatch]
    known: int
    sources: int


def one() -> int:
    """A single worker: this process."""
    return 1


def plan_batches(settings: IngestSettings, workers: Callable[[], int] = one) -> IngestPlan:
    """Finds the sources and plans batches for those that the store does not know; makes the store when it is not there.

    First the unfinished plans of runs that were killed or are at work, where all their sources are still as planned, beginning
    with any of them, so that two runs share them; then new batches in order of URI, whose plans are in the store when this
    returns; then one batch for each source to be tried again. Memory: 16 bytes a source, and some hundred a new one.
    workers: asked for how many there will be, only when something is new.
    Raises StoreError and SettingsError.
    """
    if not settings.sources:
        raise SettingsError("There is nothing to ingest: give at least one folder, file or s3:// prefix as a source.")
    speakers = SpeakerList.read(settings.speakers)
    known = _known(settings)
    search = _search(settings, speakers, known)
    store = CorpusStore.create_or_open(settings.store, settings.format)
    resumed = _rotated(list(_resumable(store, search.new, frozenset(known.names))))
    fresh = list(_written(store.uri, _fresh_plans(settings, search.new, workers)))
    retries = [_retry(settings, source, last) for source, last in sorted(search.again.values())]
    found = np.unique(np.concatenate([np.empty(0, DIGEST), *search.digests]))
    return IngestPlan([*resumed, *fresh, *retries], known=int(np.sum(known.positions(found) >= 0)), sources=len(found))


def plan_batch(
    sources: Iterable[PlannedSource],
    store_format: FormatSettings,
    cutting: CuttingSettings = CuttingSettings(),  # noqa: B008 - frozen
    attempt: int = 0,
    retry_of: str | None = None,
) -> BatchPlan:
    """The plan of a batch. Its name is a hash of all that its rows follow from.

    That is its sources (URI, size, version, and speaker and split, which are columns), format, cutting, schema version and attempt.
    """
    held = tuple(sources)
    rows_follow_from = [[list(source.model_dump().values()) for source in held], store_format.model_dump(mode="json"), cutting.model_dump(mode="json")]
    identity = [*rows_follow_from, SCHEMA_VERSION, attempt]
    name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:BATCH_NAME_LENGTH]
    return BatchPlan(batch=name, sources=held, format=store_format, cutting=cutting, schema_version=SCHEMA_VERSION, attempt=attempt, retry_of=retry_of)


class _Source(NamedTuple):
    """A source in little memory; the fields of PlannedSource."""

    uri: str
    size: int
    version: str
    speaker: str
    split: Split | None

    @classmethod
    def of(cls, source: PlannedSource) -> "_Source":
        return cls(source.uri, source.size, source.version, source.speaker, source.split)

    def planned(self) -> PlannedSource:
        return PlannedSource(**self._asdict())


@dataclass
class _Search:
    """What came of discovery."""

    new: dict[str, _Source] = field(default_factory=dict)
    """By URI; of one that was found twice the first."""
    again: dict[str, tuple[_Source, Attempt]] = field(default_factory=dict)
    """Known ones that are to be tried again, by URI."""
    digests: list[npt.NDArray[np.bytes_]] = field(default_factory=list)
    """Of all that was found."""


def _known(settings: IngestSettings) -> Known:
    """What the store knows. One that is not there is not made yet: a wrong source must leave nothing behind."""
    if not places.exists(places.join(settings.store, layout.SETTINGS)):
        return nothing_known()
    return read_known(CorpusStore.create_or_open(settings.store, settings.format))


def _search(settings: IngestSettings, speakers: SpeakerList, known: Known) -> _Search:
    search = _Search()
    found = discover(settings.sources, speakers, settings.layout, settings.pretrain)
    while group := list(islice(found, SOURCES_AT_ONCE)):
        digests = np.array([source_digest(source.uri, source.size, source.version) for source in group], dtype=DIGEST)
        search.digests.append(digests)
        for source, position in zip(group, known.positions(digests).tolist(), strict=True):
            if position < 0:
                search.new.setdefault(source.uri, _Source.of(source))
            elif known.retryable[position]:
                search.again.setdefault(source.uri, (_Source.of(source), known.last_attempt(position)))
    _name_by_ends(search, speakers.named_by_end())
    return search


def _name_by_ends(search: _Search, speakers: dict[str, str]) -> None:
    """Speakers that are certain only now, when all sources were seen."""
    for uri in speakers.keys() & search.new.keys():
        search.new[uri] = search.new[uri]._replace(speaker=speakers[uri])
    for uri in speakers.keys() & search.again.keys():
        source, last = search.again[uri]
        search.again[uri] = source._replace(speaker=speakers[uri]), last


def _resumable(store: CorpusStore, new: dict[str, _Source], known: frozenset[str]) -> Iterator[PlannedBatch]:
    """Plans whose sources are all new and as planned, taken out of the new ones; of two that share a source, the first.

    known: batches that were finished before the sources were listed. One that a run beside this one finished since is still among these,
    and is found done when its turn comes. The plan of a retry is no beginning of one: it is made anew where its source is tried again.
    """
    for plan in read_plans(store.uri, [batch for batch in planned_batches(store.uri) if batch not in known]):
        if plan.retry_of is not None or plan.schema_version != SCHEMA_VERSION:
            continue
        if all(new.get(source.uri) == _Source.of(source) for source in plan.sources):
            for source in plan.sources:
                new.pop(source.uri, None)
            yield PlannedBatch(plan.batch, len(plan.sources))


def _rotated(batches: list[PlannedBatch]) -> list[PlannedBatch]:
    """In the same order from any of them on: a run beside this one begins elsewhere, and finds done what this one did."""
    start = secrets.randbelow(len(batches)) if batches else 0
    return batches[start:] + batches[:start]


def _fresh_plans(settings: IngestSettings, new: dict[str, _Source], workers: Callable[[], int]) -> Iterator[BatchPlan]:
    if not new:
        return
    most = min(settings.batch_sources, max(FEWEST_SOURCES, ceil(len(new) / (BATCHES_A_WORKER * max(1, workers())))))
    for group in _groups((new[uri] for uri in sorted(new)), most, settings.batch_mb * MEGABYTE):
        yield plan_batch((source.planned() for source in group), settings.format, settings.cutting)


def _groups(sources: Iterable[_Source], most: int, most_bytes: int) -> Iterator[list[_Source]]:
    """Sources in order, at most so many and so large a group; one that is larger is a group by itself."""
    group: list[_Source] = []
    held_bytes = 0
    for source in sources:
        if group and (len(group) == most or held_bytes + source.size > most_bytes):
            yield group
            group, held_bytes = [], 0
        group.append(source)
        held_bytes += source.size
    if group:
        yield group


def _retry(settings: IngestSettings, source: _Source, last: Attempt) -> PlannedBatch:
    """A batch of one source, since it is written only if its outcome changed."""
    plan = plan_batch([source.planned()], settings.format, settings.cutting, last.attempt + 1, last.batch)
    return PlannedBatch(plan.batch, 1, plan)


def _written(store_uri: str, plans: Iterator[BatchPlan]) -> Iterator[PlannedBatch]:
    """Writes plans as they come, side by side where the store is remote; a few in memory at once."""
    with ThreadPoolExecutor(PLANS_AT_ONCE if places.is_remote(store_uri) else 1) as pool:
        while group := list(islice(plans, PLANS_AT_ONCE)):
            for plan, _ in zip(group, pool.map(lambda plan: _write_plan(store_uri, plan), group), strict=True):
                yield PlannedBatch(plan.batch, len(plan.sources))


def _write_plan(store_uri: str, plan: BatchPlan) -> None:
    places.write_bytes(layout.plan_location(store_uri, plan.batch), plan.model_dump_json().encode())
