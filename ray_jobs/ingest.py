"""The job that ingests footage: batches are spread over actors, each of which writes its batches itself.

Only plans, settings and counts pass through Ray; frames, pictures and files never do. A source that kills its worker is found
and turned away: a batch whose worker died has its sources tried one by one, and is then written without those that killed again.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from ray_jobs.cluster import connect
from ray_jobs.job import job_main
from schemas.errors import DubmillError, StoreError
from schemas.jobs import BatchPlan, IngestSummary, PlannedSource
from schemas.settings import IngestSettings
from tasks.corpus.ingest import BatchCounts, plan_batches, summarize, try_source, write_batch
from tasks.progress import Progress

Row = dict[str, Any]
"""What came of a batch: its name, how many sources it has, counts as JSON, and the sentence of an error or none."""
Outcome = TypeVar("Outcome")


class BatchActor:
    """Writes batches on one core of the cluster."""

    def __init__(self, settings: str) -> None:
        self.settings = IngestSettings.model_validate_json(settings)

    def __call__(self, row: Row) -> Row:
        """A plan as JSON in; out come counts as JSON, or the sentence of an error that the user can mend."""
        return _batch_row(self.settings, BatchPlan.model_validate_json(row["plan"]), frozenset())


def _batch_row(settings: IngestSettings, plan: BatchPlan, lost: frozenset[str]) -> Row:
    row = {"batch": plan.batch, "sources": len(plan.sources), "counts": "", "error": ""}
    try:
        return row | {"counts": write_batch(settings, plan, lost=lost).model_dump_json()}
    except DubmillError as error:  # as words: over Ray it would come wrapped in traces of both sides
        return row | {"error": str(error)}


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


def _written(settings: IngestSettings, batches: list[BatchPlan]) -> Iterator[Row]:
    """What came of each batch, as they finish. Nothing to do: no cluster is started."""
    if not batches:
        return
    import ray

    with connect():
        workers = settings.workers or int(ray.cluster_resources().get("CPU", 1))
        unwritten = {batch.batch: batch for batch in batches}
        for row in _spread(settings, batches, min(workers, len(batches))):
            del unwritten[row["batch"]]
            yield row
        yield from _written_without_lost(settings, list(unwritten.values()), workers)


def _spread(settings: IngestSettings, batches: list[BatchPlan], workers: int) -> Iterator[Row]:
    """Batches on a pool of actors. A batch whose worker dies is begun by no other, and is missing from what comes out.

    Raises StoreError when workers die before they begin.
    """
    import ray
    from ray.exceptions import ActorDiedError

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # the job has progress lines of its own
    context.max_errored_blocks = -1  # a lost batch is no end of the run
    plans = ray.data.from_items([{"plan": batch.model_dump_json()} for batch in batches], override_num_blocks=len(batches))
    written = plans.map(
        BatchActor,
        fn_constructor_args=(settings.model_dump_json(),),
        num_cpus=1,
        # One batch at a time: those that wait at a worker would be lost with it.
        compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
        max_restarts=len(batches),  # each death takes a batch with it, so this is enough
        max_task_retries=0,
    )
    try:
        yield from written.iter_rows()
    except ActorDiedError as error:
        raise StoreError("Workers die before they begin a batch; look at the cluster's memory and its logs, then run again.") from error


def _written_without_lost(settings: IngestSettings, batches: list[BatchPlan], workers: int) -> Iterator[Row]:
    """Writes batches whose worker died: without the sources that kill a worker of their own, or else without any source.

    Raises StoreError when even that kills the worker.
    """
    if not batches:
        return
    lost = frozenset(_lost_sources(settings, batches, workers))
    for refused in (lost, frozenset(source.uri for batch in batches for source in batch.sources)):
        left = []
        for (_, batch, _), row in _each(_batch_row, [(settings, batch, refused) for batch in batches], workers):
            if row is None:
                left.append(batch)
            else:
                yield row
        batches = left
    if batches:
        raise StoreError(f"Workers die on the batch {batches[0].batch} without touching its sources; look at the cluster's memory and its logs.")


def _lost_sources(settings: IngestSettings, batches: list[BatchPlan], workers: int) -> Iterator[str]:
    """URIs of the sources that kill a worker in which there is nothing but them."""
    sources = [(settings, source) for batch in batches for source in batch.sources]
    for (_, source), survived in _each(_survives, sources, workers):
        if not survived:
            yield source.uri


def _survives(settings: IngestSettings, source: PlannedSource) -> bool:
    try_source(settings, source)
    return True


def _each(work: Callable[..., Outcome], calls: Iterable[tuple[Any, ...]], workers: int) -> Iterator[tuple[tuple[Any, ...], Outcome | None]]:
    """Each call's arguments with what came of it, as they finish, in a process of its own a call; None: its process died. None is repeated."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    # No core is asked for: a pool that lost a worker may keep its cores to the end of the job, and these would wait for ever.
    task = ray.remote(num_cpus=0, max_retries=0, max_calls=1)(work)
    waiting = deque(calls)
    running: dict[Any, tuple[Any, ...]] = {}
    while waiting or running:
        while waiting and len(running) < workers:
            arguments = waiting.popleft()
            running[task.remote(*arguments)] = arguments
        [finished], _ = ray.wait(list(running))
        try:
            outcome = ray.get(finished)
        except RayTaskError:  # an error of ours: the process lived to tell it
            raise
        except RayError:
            outcome = None
        yield running.pop(finished), outcome


if __name__ == "__main__":
    job_main(IngestSettings, run)
