"""The work of `ray_jobs.ingest` with sources that kill: in a module of its own, because Ray's workers import it by name.

A source called DEADLY ends whatever process cuts it, as a crash in a decoder would; one called MOODY only where a batch is written.
"""

import os
from collections.abc import Iterator

from ray_jobs import ingest
from schemas.jobs import BatchPlan, PlannedSource
from schemas.settings import IngestSettings
from tasks.corpus import batch
from tasks.corpus.clip import Clip, Find, Reject, cut_source

DEADLY, MOODY = "deadly", "moody"


def arm(*killing: str) -> None:
    """In this process sources whose URIs hold one of the words end it."""

    def cut_or_exit(source: PlannedSource, settings: IngestSettings, find: Find) -> Iterator[Clip | Reject]:
        if any(word in source.uri for word in killing):
            os._exit(1)
        yield from cut_source(source, settings, find)

    batch.cut_source = cut_or_exit


class BatchActor(ingest.BatchActor):
    """Writes batches; some sources kill it."""

    def __init__(self, settings: str) -> None:
        super().__init__(settings)
        arm(DEADLY, MOODY)


def batch_row(settings: IngestSettings, plan: BatchPlan, lost: frozenset[str]) -> ingest.Row:
    """Writes a batch; some sources kill its process."""
    arm(DEADLY, MOODY)
    return ingest._batch_row(settings, plan, lost)


def survives(settings: IngestSettings, source: PlannedSource) -> bool:
    """Tries a source by itself."""
    arm(DEADLY)
    return ingest._survives(settings, source)
