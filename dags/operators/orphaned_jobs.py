"""Stops Ray jobs whose Airflow task is no longer alive: what no trigger and no operator was there to stop."""

import asyncio
import time
from collections.abc import Callable, Iterable

from dags.operators.job_owner import JobOwner, Place
from dags.operators.ray_connection import RayAddress, read_address
from dags.operators.ray_jobs_api import RayJob, RayJobsApi, RayJobsError

__all__ = ["JobOwner", "stop_orphaned_jobs"]

PATIENCE_S = 120.0
"""Seconds to wait for a Ray that does not answer: the next run of whoever calls this tries again."""
STOP_LIMIT_S = 30.0
"""Seconds until a stopped job must have stopped."""


def stop_orphaned_jobs(
    connection_id: str,
    is_alive: Callable[[JobOwner], bool],
    say: Callable[[str], object],
    grace_s: float = 120.0,
    *,
    tell_only: bool = False,
) -> list[str]:
    """Stops the jobs that run, or wait to, although their owner is not alive; returns the submission ids of those that were stopped.

    A task that was cleared is not alive as the generation that it was once its successor has a job, whatever came of that.
    Jobs of another Airflow, or of none, are left alone, and so are those that were submitted less than `grace_s` ago: their task
    may be about to tell of them. Raises RayJobsError when Ray does not answer or refuses.

    Args:
        connection_id: Airflow connection of Ray's job API, as of RayJobOperator.
        is_alive: whether a task instance, whatever its generation, may still need its job.
        say: told one sentence about each job that is stopped, and about waits.
        grace_s: seconds.
        tell_only: the jobs are told of, and none is stopped.
    """
    return asyncio.run(_stop_orphaned_jobs(read_address(connection_id) or RayAddress(), is_alive, say, grace_s, tell_only=tell_only))


async def _stop_orphaned_jobs(
    address: RayAddress, is_alive: Callable[[JobOwner], bool], say: Callable[[str], object], grace_s: float, *, tell_only: bool
) -> list[str]:
    stopped = []
    async with RayJobsApi(address, PATIENCE_S, say) as api:
        owned = [(job, owner) for job in await api.jobs() if (owner := JobOwner.told_in(job.metadata))]
        newest = _newest_generations(owner for _, owner in owned)
        for job, owner in owned:
            if job.is_over or _is_young(job, grace_s) or (owner.max_tries == newest[owner.place] and is_alive(owner)):
                continue
            say(f"{'Would stop' if tell_only else 'Stopping'} Ray job {job.submission_id}: its task {owner} is no longer alive.")
            if not tell_only and await _stop(api, job, say):
                stopped.append(job.submission_id)
    return stopped


def _newest_generations(owners: Iterable[JobOwner]) -> dict[Place, int]:
    newest: dict[Place, int] = {}
    for owner in owners:
        newest[owner.place] = max(owner.max_tries, newest.get(owner.place, 0))
    return newest


def _is_young(job: RayJob, grace_s: float) -> bool:
    return job.started_s is not None and time.time() - job.started_s < grace_s


async def _stop(api: RayJobsApi, job: RayJob, say: Callable[[str], object]) -> bool:
    """Whether the job has stopped. One that does not, or that cannot be stopped, is no reason to leave the others running."""
    try:
        async with asyncio.timeout(STOP_LIMIT_S):
            await api.stop_and_wait(job.submission_id)
    except TimeoutError:
        say(f"Ray job {job.submission_id} has not stopped within {STOP_LIMIT_S:.0f} s.")
        return False
    except RayJobsError as error:
        say(f"Ray job {job.submission_id} could not be stopped: {error}")
        return False
    return True
