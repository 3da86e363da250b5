"""The job that freezes the clips which a training run is to read, or finds the snapshot that its settings name."""

from collections import Counter

from ray_jobs.job import job_main
from schemas.jobs import FrozenSummary
from schemas.settings import FreezeSettings
from tasks.corpus.snapshot import freeze_snapshot
from tasks.corpus.store import CorpusStore
from tasks.progress import Progress


def run(settings: FreezeSettings, progress: Progress) -> FrozenSummary:
    """Needs no worker: it reads tables alone. Raises StoreError."""
    store = CorpusStore.open(settings.store)
    snapshot = store.snapshot(settings.snapshot) if settings.snapshot else freeze_snapshot(store, settings.selection)
    progress(1, 1, f"snapshot {snapshot.name}")
    counts = Counter(clip.split for clip in snapshot.clips)
    return FrozenSummary(
        store=store.uri,
        snapshot=snapshot.name,
        clips={"train": counts["train"], "val": counts["val"], "test": counts["test"]},
        checksum=snapshot.checksum,
        batches=len({clip.batch for clip in snapshot.clips}),
    )


if __name__ == "__main__":
    job_main(FreezeSettings, run)
