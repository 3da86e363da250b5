"""The job that ingests footage: batches are spread over actors, each of which writes its batches itself.

Only plans, settings and counts pass through Ray; frames, pictures and files never do.
"""

from collections.abc import Iterator
from typing import Any

from ray_jobs.cluster import connect
from ray_jobs.job import job_main
from schemas.errors import DubmillError, StoreError
from schemas.jobs import BatchPlan, IngestSummary
from schemas.settings import IngestSettings
from tasks.corpus.ingest import BatchCounts, plan_batches, summarize, write_batch
from tasks.progress import Progress


class BatchActor:
    """Writes batches on one core of the cluster."""

    def __init__(self, settings: str) -> None:
        self.settings = IngestSettings.model_validate_json(settings)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """A plan as JSON in; out come counts as JSON, or the sentence of an error that the user can mend."""
        plan = BatchPlan.model_validate_json(row["plan"])
        try:
            return {"sources": len(plan.sources), "counts": write_batch(self.settings, plan).model_dump_json(), "error": ""}
        except DubmillError as error:  # as words: over Ray it would come wrapped in traces of both sides
            return {"sources": len(plan.sources), "counts": "", "error": str(error)}


def run(settings: IngestSettings, progress: Progress) -> IngestSummary:
    """Plans here, writes the batches on the cluster, and sums up. Raises StoreError and SettingsError."""
    plan = plan_batches(settings)
    total = sum(len(batch.sources) for batch in plan.batches)
    counts, done = [], 0
    progress(0, total, "sources")
    for row in _written(settings, plan.batches):
        if row["error"]:
            raise StoreError(row["error"])
        counts.append(BatchCounts.model_validate_json(row["counts"]))
        done += row["sources"]
        progress(done, total, f"batch {counts[-1].batch}")
    return summarize(settings.store, plan, counts)


def _written(settings: IngestSettings, batches: list[BatchPlan]) -> Iterator[dict[str, Any]]:
    """Counts of batches as they finish. Nothing to do: no cluster is started."""
    if not batches:
        return
    import ray

    with connect():
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False  # the job has progress lines of its own
        workers = min(settings.workers or int(ray.cluster_resources().get("CPU", 1)), len(batches))
        plans = ray.data.from_items([{"plan": batch.model_dump_json()} for batch in batches], override_num_blocks=len(batches))
        written = plans.map(BatchActor, fn_constructor_args=(settings.model_dump_json(),), num_cpus=1, compute=ray.data.ActorPoolStrategy(size=workers))
        yield from written.iter_rows()


if __name__ == "__main__":
    job_main(IngestSettings, run)
