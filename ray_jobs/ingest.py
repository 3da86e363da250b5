"""The job that ingests footage: batches are spread over actors, each of which writes its batches itself.

Only names of batches and counts pass through Ray; plans, frames, pictures and files never do. (The plan of a retry does: it is one source's.)
A source that kills its worker twice is found and turned away, and the rest of its batch goes on: a batch whose worker died is
begun again by another, and a board tells which source each was at.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from ray_jobs import metrics
from ray_jobs.actors import Death, outcome, starts_in_vain
from ray_jobs.cluster import connect
from ray_jobs.job import job_main
from ray_jobs.log_lines import configure_logs
from schemas.errors import DubmillError, StoreError
from schemas.jobs import BatchPlan, IngestSummary
from schemas.settings import CuttingSettings, IngestSettings
from tasks.corpus.batch import BatchCounts, write_batch
from tasks.corpus.ingest import PlannedBatch, plan_batches, summarize
from tasks.corpus.store import CorpusStore
from tasks.corpus.time_limits import hang_guard
from tasks.faces.detect import FaceFinder, Picture, Points
from tasks.progress import Progress, silent

Row = dict[str, Any]
"""A batch: its name, how many sources it has and the plan of a retry as JSON; what came of it: counts as JSON and the sentence of an error or none."""
TRIES = 2
"""A source that kills so many workers is turned away: a machine may be lost once, but what kills two workers is likely the source."""
RESTARTS_A_LIMIT = 20
"""How often at most the clock of a worker is set back within its time limit: it costs a thread each time."""


class Board:
    """An actor that remembers at which source each batch's worker is, also when that worker is gone. Begun anew, it knows of none."""

    def __init__(self) -> None:
        self._at: dict[str, tuple[int, float]] = {}

    def begin(self, batch: str, position: int) -> None:
        """The worker begins the source at that position of its plan, or is done with all when there is none."""
        self._at[batch] = (position, time.monotonic())

    def last(self, batch: str) -> tuple[int, float]:
        """Where its worker was last (-1: at no source yet), and the seconds since it began with that."""
        position, since = self._at.pop(batch, (-1, time.monotonic()))
        return position, time.monotonic() - since


class BatchActor:
    """Writes batches on one core of the cluster, with one finder for all that are cut alike. board: an actor of Board, or None."""

    def __init__(self, settings: str, board: Any = None) -> None:
        configure_logs("ingest")
        self.settings = IngestSettings.model_validate_json(settings)
        self._board, self._watch = board, HangWatch(self.settings.clip_time_limit_s)
        self._finder: WatchedFinder | None = None

    def ready(self) -> bool:
        """True, once there is an actor to say it."""
        return True

    def write(self, row: Row, lost: frozenset[str] = frozenset(), hung: frozenset[str] = frozenset()) -> Row:
        """Writes a batch, and adds counts as JSON or the sentence of an error that the user can mend.

        lost, hung: sources that are turned away because they killed workers, and those of them that did so by hanging.
        """
        try:
            plan = _plan_of(self.settings, row)
            counts = write_batch(self.settings, plan, self._told(row["batch"]), lost, self._finder_for(plan.cutting), hung=hung, guard=self._watch.over_source)
        except DubmillError as error:  # as words: over Ray it would come wrapped in traces of both sides
            return row | {"counts": "", "error": str(error)}
        return row | {"counts": counts.model_dump_json(), "error": ""}

    def _told(self, batch: str) -> Progress:
        """Puts each source on the board, and waits until it is there: the next thing may be this process's end."""
        import ray

        if self._board is None:
            return silent
        return lambda done, _total=None, _note="": ray.get(self._board.begin.remote(batch, done))

    def _finder_for(self, cutting: CuttingSettings) -> FaceFinder:
        if self._finder is None or self._finder.cutting != cutting:
            if self._finder is not None:
                self._finder.close()
            self._finder = WatchedFinder(cutting, self.settings.clips_a_mesh, self._watch)
        return self._finder


def _plan_of(settings: IngestSettings, row: Row) -> BatchPlan:
    """The plan that the store holds, or that of a retry."""
    return BatchPlan.model_validate_json(row["retry"]) if row["retry"] else CorpusStore(settings.store, settings.format).plan(row["batch"])


class HangWatch:
    """Ends this worker's process when the work on a source stands still for longer than a time limit; another worker then begins it again.

    A source that goes on, however slowly, has time limits of its own that need no death.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._armed = ExitStack()
        self._restarted_s = 0.0

    @contextmanager
    def over_source(self) -> Iterator[None]:
        """Watches over the work on one source."""
        self._restart()
        try:
            yield
        finally:
            self._armed.close()

    def sign_of_life(self) -> None:
        """The work goes on."""
        if time.monotonic() - self._restarted_s > self._limit_s / RESTARTS_A_LIMIT:
            self._restart()

    def _restart(self) -> None:
        self._armed.close()
        self._armed.enter_context(hang_guard(self._limit_s))
        self._restarted_s = time.monotonic()


class WatchedFinder(FaceFinder):
    """A finder whose every picture is a sign of life."""

    def __init__(self, cutting: CuttingSettings, clips_a_mesh: int, watch: HangWatch) -> None:
        super().__init__(cutting, clips_a_mesh)
        self.cutting, self._watch = cutting, watch

    def find(self, picture: Picture, known: Sequence[Points] = ()) -> list[Points]:
        """As FaceFinder.find."""
        self._watch.sign_of_life()
        return super().find(picture, known)


def run(settings: IngestSettings, progress: Progress) -> IngestSummary:
    """Plans here, writes the batches on the cluster, and sums up. Raises StoreError and SettingsError."""
    with ExitStack() as cluster:
        plan = plan_batches(settings, lambda: _workers(settings, cluster))
        total = sum(batch.sources for batch in plan.batches)
        counts: list[BatchCounts] = []
        done = 0
        progress(0, total, "sources")
        for row in _written(settings, plan.batches, cluster):
            if row["error"]:
                raise StoreError(row["error"])
            counts.append(BatchCounts.model_validate_json(row["counts"]))
            metrics.batch_ended(counts[-1], len(plan.batches) - len(counts))
            done += row["sources"]
            progress(done, total, f"batch {counts[-1].batch}")
        return summarize(settings.store, plan, counts)


def _workers(settings: IngestSettings, cluster: ExitStack) -> int:
    """How many actors there are to be; connects to the cluster for its cores."""
    import ray

    cluster.enter_context(connect())
    return settings.workers or int(ray.cluster_resources().get("CPU", 1))


def _written(settings: IngestSettings, batches: list[PlannedBatch], cluster: ExitStack) -> Iterator[Row]:
    """What came of each batch, as they finish. Nothing to do: no cluster is started."""
    if not batches:
        return
    import ray

    board = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Board).remote()  # on any node, which may be lost
    actor = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(BatchActor)
    pool = _Pool(lambda: actor.remote(settings.model_dump_json(), board), min(_workers(settings, cluster), len(batches)))
    waiting, deaths = deque(map(row_of, batches)), _Deaths(settings, board)
    while waiting or pool.busy:
        while waiting and pool.idle:
            pool.begin(waiting.popleft(), frozenset(deaths.lost), frozenset(deaths.hung))
        for row, written in pool.finished():
            if isinstance(written, Death):
                metrics.worker_lost("ingest")
                deaths.count(row)
                waiting.append(row)
            else:
                yield written


def row_of(batch: PlannedBatch) -> Row:
    """What an actor is told of a planned batch."""
    return {"batch": batch.batch, "sources": batch.sources, "retry": batch.retry.model_dump_json() if batch.retry else ""}


class _Pool:
    """Actors, one batch at a time each: what waited at one would be lost with it. One that died is replaced."""

    def __init__(self, make: Callable[[], Any], size: int) -> None:
        self._make = make
        self.idle: list[Any] = []
        self.busy: dict[Any, tuple[Any, Row]] = {}
        """By what is to come: the actor, and its batch."""
        self._starting: dict[Any, Any] = {}
        self._size, self._died_starting = size, 0
        for _ in range(size):
            self._start()

    def _start(self) -> None:
        actor = self._make()
        # It gets no batch before it is there: the cluster may have no core for it until the end.
        self._starting[actor.ready.remote()] = actor

    def begin(self, row: Row, lost: frozenset[str], hung: frozenset[str]) -> None:
        """An idle actor begins a batch."""
        actor = self.idle.pop()
        self.busy[actor.write.remote(row, lost, hung)] = (actor, row)

    def finished(self) -> Iterator[tuple[Row, Row | Death]]:
        """Waits until an actor starts or ends a batch; gives what was begun with what came of it."""
        import ray

        [reference], _ = ray.wait([*self.busy, *self._starting])
        if reference in self._starting:
            self._take_up(reference)
            return
        actor, row = self.busy.pop(reference)
        written = outcome(reference)
        if isinstance(written, Death):
            ray.kill(actor)  # of one that is only out of reach nobody waits for an answer any more
            self._start()
        else:
            self.idle.append(actor)
        yield row, written

    def _take_up(self, reference: Any) -> None:
        import ray

        actor = self._starting.pop(reference)
        if not isinstance(outcome(reference), Death):
            self._died_starting = 0
            self.idle.append(actor)
            return
        self._died_starting += 1
        if self._died_starting == starts_in_vain(self._size):
            raise StoreError("Workers die before they begin a batch; look at the cluster's memory and its logs, then run again.")
        ray.kill(actor)
        self._start()


class _Deaths:
    """Which sources killed the workers of which batch, and how."""

    def __init__(self, settings: IngestSettings, board: Any) -> None:
        self._settings, self._board = settings, board
        self._at: Counter[tuple[str, int]] = Counter()
        self.lost: set[str] = set()
        self.hung: set[str] = set()

    def count(self, row: Row) -> None:
        """One more worker died of a batch. StoreError when the second one did so without being at a source."""
        import ray

        position, seconds = ray.get(self._board.last.remote(row["batch"]))
        self._at[row["batch"], position] += 1
        if self._at[row["batch"], position] < TRIES:
            return
        if not 0 <= position < row["sources"]:
            raise StoreError(f"Workers die on the batch {row['batch']} while none of its sources is touched; look at the cluster's memory and its logs.")
        uri = _plan_of(self._settings, row).sources[position].uri
        self.lost.add(uri)
        if seconds >= self._settings.clip_time_limit_s:
            self.hung.add(uri)


if __name__ == "__main__":
    job_main(IngestSettings, run)
