"""Ingest in one process: sources in, batches in the store out. `ray_jobs.ingest` spreads the same two functions over a cluster."""

from collections import Counter
from collections.abc import Iterable

from schemas.jobs import IngestSummary
from schemas.settings import IngestSettings
from tasks.corpus.batch import BatchCounts, write_batch
from tasks.corpus.plan import IngestPlan, PlannedBatch, plan_batches
from tasks.corpus.stats import corpus_state
from tasks.corpus.store import CorpusStore
from tasks.progress import Progress

__all__ = ["BatchCounts", "IngestPlan", "PlannedBatch", "ingest_here", "plan_batches", "summarize", "write_batch"]


def ingest_here(settings: IngestSettings, progress: Progress) -> IngestSummary:
    """Plans and writes all batches in this process, telling the sources done. Raises StoreError and SettingsError."""
    plan = plan_batches(settings)
    total = sum(batch.sources for batch in plan.batches)
    counts, before = [], 0
    for batch in plan.batches:
        counts.append(write_batch(settings, batch.to_write, _later(progress, before, total)))
        before += batch.sources
    progress(total, total, "sources")
    return summarize(settings.store, plan, counts)


def _later(progress: Progress, before: int, total: int) -> Progress:
    """Progress of one batch as progress of the run."""
    return lambda done, _total=None, note="": progress(before + done, total, note)


def summarize(store: str, plan: IngestPlan, counts: Iterable[BatchCounts]) -> IngestSummary:
    """What a run did, from the counts of its batches in any order, and what the store holds now. Raises StoreError."""
    written = sorted((count for count in counts if count.written), key=lambda count: count.batch)
    rejects: Counter[str] = Counter()
    for count in written:
        rejects.update(count.rejects)
    corpus = corpus_state(CorpusStore.open(store))
    return IngestSummary(
        store=store,
        sources=plan.sources,
        known=plan.known,
        batches=tuple(count.batch for count in written),
        clips=sum(count.clips for count in written),
        frames=sum(count.frames for count in written),
        rejects=dict(sorted(rejects.items())),
        corpus_batches=corpus.batches,
        corpus_clips=corpus.clips,
        corpus_version=corpus.version,
    )
