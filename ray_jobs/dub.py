"""Bulk dubbing on a cluster: jobs of a list spread over actors that load the networks once.

Only job rows and result rows travel through Ray. This process writes the result tables, so there are few of them.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ray_jobs.cluster import connect
from ray_jobs.job import job_main
from schemas.jobs import BulkDubSummary, DubJob
from schemas.settings import BulkDubSettings
from tasks.dubbing.bulk import BulkPlan, JobWorker, grouped, lost_row, plan_bulk, run_bulk
from tasks.dubbing.results import Row
from tasks.progress import Progress
from tasks.published import with_weights_in_use

LARGEST_GROUP = 8
"""Jobs of one video that one actor does in one go: it looks at the video once, and a lost worker loses no more than these."""
GROUPS_A_WORKER = 4
"""Groups are made small enough that every worker gets a few."""
TRIES_AFTER_LOSS = 1
"""How often a job is begun again that was alone when its worker died: a machine may be taken away, but what kills two workers is likely the job."""

Resources = dict[str, float]
"""What a node of the cluster has: CPU, GPU and more, by Ray's names."""


def run(settings: BulkDubSettings, progress: Progress) -> BulkDubSummary:
    """Does what is left of a job list. Faults of one job are its result row.

    Raises SettingsError, CheckpointError or StoreError when the run as a whole cannot work.
    """
    settings = with_weights_in_use(settings)  # once: workers that begin later must not take what is published meanwhile
    plan = plan_bulk(settings)
    return run_bulk(settings, plan, lambda _: spread(settings, plan), progress)


class GroupWorker:
    """An actor: the networks, and the jobs of a group one after the other."""

    def __init__(self, settings: BulkDubSettings, threads: int) -> None:
        import torch  # here: the driver needs none of it

        torch.set_num_threads(threads)
        self._work: Callable[[DubJob], Row] = JobWorker(settings)

    def __call__(self, row: dict[str, Any]) -> list[dict[str, str]]:
        """{"jobs": JSON list of job rows} -> a {"result": JSON of the result row} for each."""
        jobs = (DubJob.model_validate(job) for job in json.loads(row["jobs"]))
        return [{"result": json.dumps(self._work(job))} for job in jobs]


def spread(settings: BulkDubSettings, plan: BulkPlan, worker: type[GroupWorker] = GroupWorker) -> Iterator[Row]:
    """One result row for each of the plan's jobs, as they come in; `worker` is the class of the actors.

    Jobs of groups whose worker died are done again one by one, so that only a job that kills its worker alone is given up:
    its row comes last.
    """
    missing = {job.job_id: job for job in plan.jobs}
    for most, more_tries in ((LARGEST_GROUP, 0), (1, TRIES_AFTER_LOSS)):
        if missing:
            with connect():  # anew for each: actors of a run that lost some end surely only with its driver
                for row in _results(settings, tuple(missing.values()), most, more_tries, worker):
                    missing.pop(str(row["job_id"]), None)
                    yield row
    yield from (lost_row(job, settings, plan.versions) for job in missing.values())


@dataclass(frozen=True)
class _Pool:
    """How many actors there are, and the CPU cores and the share of a GPU of each."""

    workers: int
    cores: int
    gpu_share: float


def _results(settings: BulkDubSettings, jobs: tuple[DubJob, ...], most: int, more_tries: int, worker: type[GroupWorker]) -> Iterator[Row]:
    """The result rows of jobs in groups of at most `most`; none of a group that is lost. A Ray block a group: rows come back group by group."""
    import ray

    pool = _pool(settings, len(jobs))
    groups = list(grouped(jobs, min(most, math.ceil(len(jobs) / (pool.workers * GROUPS_A_WORKER)))))
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # the job has progress lines of its own
    context.max_errored_blocks = -1  # a lost group is no end of the run
    rows = ray.data.from_items(list(map(_packed, groups)), override_num_blocks=len(groups)).flat_map(
        worker,
        fn_constructor_args=(settings, pool.cores),
        # One group at a time: those that wait at a worker would be lost with it.
        compute=ray.data.ActorPoolStrategy(size=min(pool.workers, len(groups)), max_tasks_in_flight_per_actor=1),
        num_cpus=pool.cores,
        num_gpus=pool.gpu_share or None,
        max_task_retries=more_tries,
    )
    return (json.loads(row["result"]) for row in rows.iter_rows())


def _pool(settings: BulkDubSettings, jobs: int) -> _Pool:
    """The actors that the settings ask for; by default one a GPU, or one on CPU."""
    import ray

    nodes: list[Resources] = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = 0 if settings.device == "cpu" else int(sum(node.get("GPU", 0) for node in nodes))
    workers = min(settings.workers or max(1, gpus), jobs)
    gpu_share = min(1.0, gpus / workers)
    return _Pool(workers, cores_a_worker(nodes, workers, gpu_share), gpu_share)


def cores_a_worker(nodes: list[Resources], workers: int, gpu_share: float) -> int:
    """The most CPU cores that each worker can have when all work at once; a worker lies on one node, with its share of a GPU."""
    largest = int(max(node.get("CPU", 0) for node in nodes))
    return max((cores for cores in range(1, largest + 1) if sum(_fitting(node, cores, gpu_share) for node in nodes) >= workers), default=1)


def _fitting(node: Resources, cores: int, gpu_share: float) -> int:
    """How many workers of that size a node holds."""
    by_cores = int(node.get("CPU", 0) // cores)
    return min(by_cores, int(node.get("GPU", 0) / gpu_share + 1e-6)) if gpu_share else by_cores  # a share may be a rounded third


def _packed(group: list[DubJob]) -> dict[str, str]:
    """A group as a row of text: Ray's tables would turn empty fields into types of their own."""
    return {"jobs": json.dumps([job.model_dump(mode="json") for job in group])}


if __name__ == "__main__":
    job_main(BulkDubSettings, run)
