"""Bulk dubbing on a cluster: jobs of a list spread over actors that load the networks once.

Only job rows and result rows travel through Ray. This process writes the result tables, so there are few of them.
An actor is given one job at a time, so that one that dies loses no more than that job's work. A job whose worker died is tried once more
when all others are done and nothing else runs; what kills its worker again is given up.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray_jobs import metrics
from ray_jobs.actors import Death, Pool, Resources, cores_a_worker, given_first, gpus_for, outcome, starts_in_vain
from ray_jobs.cluster import connect
from ray_jobs.job import job_main
from ray_jobs.log_lines import configure_logs
from schemas.errors import DubmillError, StoreError
from schemas.jobs import BulkDubSummary, DubJob
from schemas.reasons import Reason
from schemas.settings import BulkDubSettings
from tasks import places
from tasks.corpus.time_limits import hang_guard
from tasks.dubbing.bulk import JobWorker, failed_row, run_bulk
from tasks.dubbing.bulk_plan import grouped, plan_bulk
from tasks.dubbing.job_list import output_location
from tasks.dubbing.results import Row
from tasks.dubbing.time_limit import LEAST_S
from tasks.progress import Progress
from tasks.published import with_weights_in_use

log = logging.getLogger(__name__)

LARGEST_GROUP = 32
"""Jobs of one video that one actor does on end: it looks at the video once, and what is more urgent or longer waits no longer than these."""
GROUPS_A_WORKER = 4
"""Groups are made small enough that every worker gets a few."""
GRACE_S = 60.0
"""After its time limit a job that says how far it is ends by itself; a process that still has it so much later hangs, and is ended."""
CLOCKS_AGREE = 0.999
"""A second on the clock of another machine is at least so many of this one's: clocks that are being set run up to 0.05 % fast or slow."""
TELL_EVERY = 60
"""Of so many looks in vain one has the log say that the cluster has no room for any worker."""


def run(settings: BulkDubSettings, progress: Progress) -> BulkDubSummary:
    """Does what is left of a job list. Faults of one job are its result row.

    Raises SettingsError, CheckpointError or StoreError when the run as a whole cannot work, and DubmillError when its canary fails.
    """
    settings = with_weights_in_use(settings)  # once: workers that begin later must not take what is published meanwhile
    plan = plan_bulk(settings)
    with Workers(settings, plan.versions, len(plan.jobs)) as workers:
        return run_bulk(settings, plan, metrics.ToldDubs(workers, len(plan.jobs)), progress)


class DubActor:
    """Does jobs of a list on its share of a machine: the networks in its memory, decoding and encoding in threads of its process."""

    grace_s = GRACE_S
    reading_s = LEAST_S
    """Seconds in which a speech must have been fetched and have told how long it is."""

    def __init__(self, settings: str, threads: int) -> None:
        configure_logs("dub")
        self.settings = BulkDubSettings.model_validate_json(settings)
        self.threads = threads
        self._worker: JobWorker | None = None

    def ready(self) -> str:
        """Loads the networks. Gives nothing, or the sentence of an error: over Ray itself it would come wrapped in traces of both sides."""
        import torch  # here: the driver needs none of it

        torch.set_num_threads(self.threads)
        try:
            self._worker = JobWorker(self.settings, metrics.dub_made)
        except DubmillError as error:
            return str(error)
        except Exception as error:
            log.exception("the networks could not be loaded")
            return f"A worker could not load the networks: {type(error).__name__}: {error}"
        return ""

    def limit_s(self, job: DubJob) -> float:
        """Seconds that a job may take. What is fetched to tell stays with this actor for the job. Ends this process when that hangs."""
        with hang_guard(self.reading_s):
            return self.read_limit_s(job)

    def read_limit_s(self, job: DubJob) -> float:
        """As `limit_s`, without looking to the time of what hangs."""
        return self._ready().limit_s(job)

    def dub(self, job: DubJob, limit_s: float) -> Row:
        """The result row of a job. Ends this process when the job hangs."""
        with hang_guard(limit_s + self.grace_s):
            return self.work(job, limit_s)

    def work(self, job: DubJob, limit_s: float) -> Row:
        """As `dub`, without looking to the time of what hangs."""
        return self._ready()(job, limit_s)

    def _ready(self) -> JobWorker:
        if self._worker is None:
            raise RuntimeError("no job before `ready`")
        return self._worker


@dataclass
class _Worker:
    """An actor, the job that it is at and since when, and those that it does next."""

    actor: Any
    job: DubJob | None = None
    limit: Any = None
    """Ray's reference to the job's time limit, in seconds."""
    begun_s: float = 0.0
    turn: deque[DubJob] = field(default_factory=deque)


class Workers:
    """Actors of a cluster that do jobs. They begin with the first job and stay until the context is left.

    The cluster may lack room for some: those wait at Ray, whose autoscaler adds machines for what waits, while the others work.
    """

    def __init__(self, settings: BulkDubSettings, versions: dict[str, str], jobs: int, actor: type[DubActor] | None = None) -> None:
        self._settings, self._versions, self._jobs, self._actor = settings, versions, jobs, actor or DubActor
        self._cluster = ExitStack()
        self._pool: Pool | None = None
        self._waited_for: dict[Any, _Worker] = {}
        """Workers that start or are at a job, by what they will give."""
        self._idle: list[_Worker] = []
        self._died_starting = 0
        self._half_written: list[Path] = []
        """Outputs of jobs whose workers died."""

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the actors and the connection, and takes away what killed ones left half written on a shared disk."""
        for worker in [*self._waited_for.values(), *self._idle]:
            _kill(worker)
            if worker.job is not None:
                self._leave_half_written(worker.job)
        self._cluster.close()
        for path in self._half_written:
            places.remove_partials(str(path.parent), path.stem)

    def __call__(self, jobs: tuple[DubJob, ...]) -> Iterator[Row]:
        """One result row for each job, as they come in. Those whose workers died are tried again at the end, one at a time and alone."""
        pool = self._start()
        lost = yield from self._round(grouped(jobs, min(LARGEST_GROUP, math.ceil(len(jobs) / (pool.workers * GROUPS_A_WORKER)))))
        for job in lost:
            for given_up in (yield from self._round([[job]])):
                yield failed_row(given_up, self._settings, self._versions, Reason.WORKER_LOST)

    def _start(self) -> Pool:
        """Connects to the cluster and starts the actors, unless that was done."""
        if self._pool is None:
            import ray

            self._cluster.enter_context(connect())
            self._pool = pool_for(self._settings, [node["Resources"] for node in ray.nodes() if node["Alive"]], self._jobs)
            self._staff(self._jobs)
        return self._pool

    def _staff(self, jobs: int) -> None:
        """Starts actors for so many jobs as are left; what died is replaced only now, as it may have been the last that was needed."""
        pool = self._start()
        for _ in range(min(pool.workers, jobs) - len(self._waited_for) - len(self._idle)):
            self._start_actor(pool)

    def _start_actor(self, pool: Pool) -> None:
        import ray

        kind = ray.remote(num_cpus=pool.cores, num_gpus=pool.gpus, max_restarts=0, scheduling_strategy="SPREAD")(self._actor)
        actor = kind.remote(self._settings.model_dump_json(), pool.cores)
        # It gets no job before it is there: the cluster may have no room for it until the end.
        self._waited_for[actor.ready.remote()] = _Worker(actor)

    def _round(self, groups: Iterable[list[DubJob]]) -> Generator[Row, None, list[DubJob]]:
        """Rows of the groups' jobs as they come in; returns the jobs whose workers died, which have none."""
        waiting = deque(map(deque, groups))
        left = sum(map(len, waiting))
        lost: list[DubJob] = []
        while left:
            self._staff(left)
            self._hand_out(waiting)
            worker, given = self._next()
            if worker.job is None:
                self._take_up(worker, given)
            elif isinstance(given, Death):
                metrics.worker_lost("dub")
                left -= not given.preempted
                yield from self._bury(worker, worker.job, given, waiting, lost)
            else:
                left -= 1
                self._idle.append(worker)
                yield given
        return lost

    def _hand_out(self, waiting: deque[deque[DubJob]]) -> None:
        """Idle workers begin a job: of the group that they are at, or else of the next one."""
        idle, self._idle = self._idle, []
        for worker in idle:
            if not worker.turn and waiting:
                worker.turn = waiting.popleft()
            if not worker.turn:
                worker.job = None
                self._idle.append(worker)
                continue
            worker.job, worker.begun_s = worker.turn.popleft(), time.monotonic()
            worker.limit = worker.actor.limit_s.remote(worker.job)
            self._waited_for[worker.actor.dub.remote(worker.job, worker.limit)] = worker

    def _next(self) -> tuple[_Worker, Any]:
        """Waits until a worker is ready, has done its job, or is dead; what it gives, or its Death."""
        in_vain = 0
        while not (given := given_first(list(self._waited_for))):
            in_vain += 1
            if in_vain % TELL_EVERY == 0 and not any(worker.job for worker in self._waited_for.values()):
                log.warning("The cluster has no room yet for any of %d workers; each is to have %s.", len(self._waited_for), self._pool)
        worker = self._waited_for.pop(given[0])
        return worker, outcome(given[0])

    def _take_up(self, worker: _Worker, given: Any) -> None:
        """A worker has loaded its networks, or could not."""
        if isinstance(given, Death):
            self._died_starting += 1
            if self._died_starting == starts_in_vain(self._pool.workers if self._pool else 1):
                raise StoreError("Workers die before they begin a job; look at the cluster's memory and its logs, then run again.")
        elif given:
            raise DubmillError(given)
        else:
            self._died_starting = 0
            self._idle.append(worker)

    def _bury(self, worker: _Worker, job: DubJob, death: Death, waiting: deque[deque[DubJob]], lost: list[DubJob]) -> Iterator[Row]:
        """The job of a dead worker fails when it hung, is lost otherwise; the rest of its group is another's."""
        _kill(worker)  # of one that is only out of reach nobody waits for an answer any more
        if worker.turn:
            waiting.appendleft(worker.turn)
        self._leave_half_written(job)
        if death.preempted:
            waiting.append(deque([job]))
        elif not death.evicted and self._has_hung(worker):
            yield failed_row(job, self._settings, self._versions, Reason.TIME_LIMIT)
        else:
            lost.append(job)

    def _leave_half_written(self, job: DubJob) -> None:
        output = output_location(self._settings.out, job)
        if not places.is_remote(output):
            self._half_written.append(places.local_path(output))

    def _has_hung(self, worker: _Worker) -> bool:
        """Whether a dead worker was ended by its hang guard: one that had its job for less long died of something else."""
        limit_s = outcome(worker.limit)
        guarded_s = limit_s + self._actor.grace_s if isinstance(limit_s, float) else self._actor.reading_s
        return time.monotonic() - worker.begun_s >= CLOCKS_AGREE * guarded_s


def _kill(worker: _Worker) -> None:
    import ray

    ray.kill(worker.actor)


def pool_for(settings: BulkDubSettings, nodes: list[Resources], jobs: int) -> Pool:
    """The actors that the settings ask for; by default one a GPU, or one on CPU.

    More of them than the cluster has room for make one that grows do so: a worker on a GPU has one of its own.
    """
    gpus = gpus_for(settings.device, nodes)
    workers, each = min(settings.workers or max(1, gpus), jobs), 1 if gpus else 0
    return Pool(workers, cores_a_worker(nodes, workers, each), each)


if __name__ == "__main__":
    job_main(BulkDubSettings, run)
