"""The job that keeps a corpus store in order: it deletes what nothing names, and reads batches back, spread over the cluster."""

import logging
import time
from random import Random

from ray_jobs.cluster import connect
from ray_jobs.job import job_main
from ray_jobs.spread import over_cluster
from schemas.errors import StoreError
from schemas.jobs import CollectedCounts, MaintainSummary, VerifiedCounts
from schemas.settings import MaintainSettings
from tasks.corpus.collect import DAY_S, collect_garbage
from tasks.corpus.store import CorpusStore
from tasks.corpus.verify import unfinished_batches, verify_store
from tasks.progress import Progress

log = logging.getLogger(__name__)


def run(settings: MaintainSettings, progress: Progress) -> MaintainSummary:
    """Garbage first: what a killed run left behind is a fault to whoever verifies. Raises StoreError, for faults once all was looked at."""
    collected = collected_counts(settings, progress) if "gc" in settings.steps else None
    verified = verified_counts(settings, progress) if "verify" in settings.steps else None
    return MaintainSummary(store=settings.store, gc=collected, verify=verified)


def collected_counts(settings: MaintainSettings, progress: Progress) -> CollectedCounts:
    """Deletes what nothing names, and counts it. Names are in the log; a store may have thousands."""
    summary = collect_garbage(settings.store, settings.older_than_days, settings.dry_run, progress)
    for what, names in (("batch", summary.batches), ("leftover", summary.leftovers), ("stray file", summary.stray_files)):
        for name in names:
            log.info("%s %s %s", "Would delete" if settings.dry_run else "Deleted", what, name)
    counts = summary.model_dump(include=set(CollectedCounts.model_fields))
    return CollectedCounts.model_validate({name: len(value) if isinstance(value, tuple) else value for name, value in counts.items()})


def verified_counts(settings: MaintainSettings, progress: Progress) -> VerifiedCounts:
    """Reads batches back on the cluster's cores. Raises StoreError with the number of faults; each is a line of the log before that."""
    batches = CorpusStore.open(settings.store).batches()
    chosen = sample(batches, settings.verify_batches, int(time.time() // DAY_S))
    with connect():
        faults = verify_store(settings.store, progress, chosen, over_cluster)
    for fault in faults:
        log.error("%s", fault)
    if faults:
        raise StoreError(f"{settings.store} has {len(faults)} faults, the first of them: {faults[0]} What they touch can be ingested again into a new store.")
    return VerifiedCounts(batches=len(chosen), of_batches=len(batches), unfinished=unfinished_batches(settings.store))


def sample(batches: list[str], most: int | None, day: int) -> set[str]:
    """At most so many batches, drawn anew each day and by the day alone: a retry goes on with the same ones."""
    return set(batches if most is None or most >= len(batches) else Random(day).sample(batches, most))


if __name__ == "__main__":
    job_main(MaintainSettings, run)
