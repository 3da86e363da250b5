"""Bulk dubbing on a cluster: jobs of a list spread over actors that load the networks once.

Only job rows and result rows travel through Ray. This process writes the result tables, so there are few of them.
"""

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

from ray_jobs.cluster import connect
from ray_jobs.job import job_main
from schemas.jobs import BulkDubSummary, DubJob
from schemas.settings import BulkDubSettings
from tasks.dubbing.bulk import JobWorker, grouped, lost_row, plan_bulk, run_bulk
from tasks.dubbing.results import Row
from tasks.progress import Progress

LARGEST_GROUP = 8
"""Jobs of one video that one actor does in one go: it looks at the video once, and a lost worker loses no more than these."""
GROUPS_A_WORKER = 4
"""Groups are made small enough that every worker gets a few."""
TRIES_AFTER_LOSS = 1
"""How often the jobs of a worker that died are begun again: once, for what kills two workers is likely to be the job."""


def run(settings: BulkDubSettings, progress: Progress) -> BulkDubSummary:
    """Does what is left of a job list. Faults of one job are its result row.

    Raises SettingsError, CheckpointError or StoreError when the run as a whole cannot work.
    """
    plan = plan_bulk(settings)
    return run_bulk(settings, plan, lambda jobs: _spread(settings, jobs), progress)


class GroupWorker:
    """An actor: the networks, and the jobs of a group one after the other."""

    def __init__(self, settings: BulkDubSettings, threads: int) -> None:
        import torch  # here: the driver needs none of it

        torch.set_num_threads(threads)
        self._work = JobWorker(settings)

    def __call__(self, row: dict[str, Any]) -> list[dict[str, str]]:
        """{"jobs": JSON list of job rows} -> a {"result": JSON of the result row} for each."""
        jobs = (DubJob.model_validate(job) for job in json.loads(row["jobs"]))
        return [{"result": json.dumps(self._work(job))} for job in jobs]


def _spread(settings: BulkDubSettings, jobs: tuple[DubJob, ...]) -> Iterator[Row]:
    """Result rows of the jobs as they come in; jobs whose worker was lost each time come last."""
    missing = {job.job_id: job for job in jobs}
    with connect():
        for row in _results(settings, jobs).iter_rows():
            result: Row = json.loads(row["result"])
            missing.pop(str(result["job_id"]), None)
            yield result
    yield from (lost_row(job, settings) for job in missing.values())


def _results(settings: BulkDubSettings, jobs: tuple[DubJob, ...]) -> Any:
    """The Ray dataset of result rows, lazily: a block a group, so that rows come back group by group."""
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # the job has progress lines of its own
    context.max_errored_blocks = -1  # a lost group becomes rows that say so
    gpus, cores = _resources(settings)
    workers = min(settings.workers or max(1, gpus), len(jobs))
    groups = list(grouped(jobs, most=max(1, min(LARGEST_GROUP, math.ceil(len(jobs) / (workers * GROUPS_A_WORKER))))))
    return ray.data.from_items(list(map(_packed, groups)), override_num_blocks=len(groups)).flat_map(
        GroupWorker,
        fn_constructor_args=(settings, max(1, cores // workers)),
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(groups))),
        num_cpus=1,
        num_gpus=min(1.0, gpus / workers) if gpus else None,
        max_task_retries=TRIES_AFTER_LOSS,
    )


def _resources(settings: BulkDubSettings) -> tuple[int, int]:
    """GPUs that the settings let this run use, and CPU cores, of the whole cluster."""
    import ray

    resources = ray.cluster_resources()
    return (0 if settings.device == "cpu" else int(resources.get("GPU", 0))), int(resources.get("CPU", 1))


def _packed(group: Iterable[DubJob]) -> dict[str, str]:
    """A group as a row of text: Ray's tables would turn empty fields into types of their own."""
    return {"jobs": json.dumps([job.model_dump(mode="json") for job in group])}


if __name__ == "__main__":
    job_main(BulkDubSettings, run)
