"""Which sources are new, and how they are grouped into batches whose names follow from what they hold."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from schemas.errors import SettingsError
from schemas.jobs import BatchPlan, PlannedSource
from schemas.settings import SCHEMA_VERSION, FormatSettings, IngestSettings
from tasks.corpus.discover import discover
from tasks.corpus.speakers import SpeakerList
from tasks.corpus.store import CorpusStore

BATCH_NAME_LENGTH = 16
"""Hex digits of SHA-256: 64 bits, so that two batches of a store never share a name."""

SourceVersion = tuple[str, int, str]
"""URI, size, ETag or time: what tells whether a source is the one that a finished batch has."""


class IngestPlan(NamedTuple):
    """What a run has to do: batches to write, then how many sources a finished batch has already, then how many were found."""

    batches: list[BatchPlan]
    known: int
    sources: int


def plan_batches(settings: IngestSettings) -> IngestPlan:
    """Finds the sources and plans batches for those that no finished batch has; makes the store when it is not there.

    First the unfinished plans of runs that were killed, where all their sources are still as planned, then new batches of
    `batch_sources` in order of URI, then one batch for each source to be tried again. Raises StoreError and SettingsError.
    """
    if not settings.sources:
        raise SettingsError("There is nothing to ingest: give at least one folder, file or s3:// prefix as a source.")
    speakers = SpeakerList.read(settings.speakers)
    found = {source.uri: source for source in reversed(list(discover(settings.sources, speakers)))}
    store = CorpusStore.create_or_open(settings.store, settings.format)
    finished, unfinished = _split_plans(store)
    known = {_version(source) for plan in finished for source in plan.sources}
    new = {uri: source for uri, source in found.items() if _version(source) not in known}
    resumed = list(_resumable(unfinished, new))
    for plan in resumed:
        for source in plan.sources:
            new.pop(source.uri, None)
    fresh = [plan_batch(group, settings.format) for group in _groups(sorted(new.values(), key=lambda source: source.uri), settings.batch_sources)]
    retries = _retries(store, finished, found)
    known_found = sum(_version(source) in known for source in found.values())
    return IngestPlan([*resumed, *fresh, *retries], known=known_found, sources=len(found))


def plan_batch(sources: Iterable[PlannedSource], store_format: FormatSettings, attempt: int = 0, retry_of: str | None = None) -> BatchPlan:
    """The plan of a batch. Its name is a hash of URI, size and version of its sources, of format, schema version and attempt."""
    held = tuple(sources)
    identity = [[_version(source) for source in held], store_format.model_dump(mode="json"), SCHEMA_VERSION, attempt]
    name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:BATCH_NAME_LENGTH]
    return BatchPlan(batch=name, sources=held, format=store_format, schema_version=SCHEMA_VERSION, attempt=attempt, retry_of=retry_of)


def _version(source: PlannedSource) -> SourceVersion:
    return source.uri, source.size, source.version


def _split_plans(store: CorpusStore) -> tuple[list[BatchPlan], list[BatchPlan]]:
    done = set(store.batches())
    plans = store.plans()
    return [plan for plan in plans if plan.batch in done], [plan for plan in plans if plan.batch not in done]


def _resumable(unfinished: Iterable[BatchPlan], new: dict[str, PlannedSource]) -> Iterator[BatchPlan]:
    """Unfinished plans whose sources are all still as planned; of two that share a source, the first."""
    taken: set[str] = set()
    for plan in unfinished:
        current = all(new.get(source.uri) == source and source.uri not in taken for source in plan.sources)
        if current and plan.schema_version == SCHEMA_VERSION:
            taken.update(source.uri for source in plan.sources)
            yield plan


def _groups(sources: list[PlannedSource], size: int) -> Iterator[list[PlannedSource]]:
    remaining = iter(sources)
    while group := list(islice(remaining, size)):
        yield group


def _retries(store: CorpusStore, finished: list[BatchPlan], found: dict[str, PlannedSource]) -> list[BatchPlan]:
    """A batch for each source that was last turned away for a retryable reason: alone, since each is written only if it changes."""
    last: dict[SourceVersion, BatchPlan] = {}
    for plan in sorted(finished, key=lambda plan: plan.attempt):
        last |= {_version(source): plan for source in plan.sources}
    rejects = store.rejects().select(["batch", "source", "clip_id", "retryable"]).to_pylist()
    # Only those of sources: a clip turned away for good says nothing of whether the whole source could be read.
    refused = {(row["batch"], row["source"]) for row in rejects if row["clip_id"] is None and row["retryable"]}
    refused -= {(row["batch"], row["source"]) for row in rejects if row["clip_id"] is None and not row["retryable"]}
    again = [(source, last[_version(source)]) for _, source in sorted(found.items()) if _version(source) in last]
    return [plan_batch([source], store.format, plan.attempt + 1, plan.batch) for source, plan in again if (plan.batch, source.uri) in refused]
