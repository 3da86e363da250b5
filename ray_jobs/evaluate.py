"""Evaluation on a cluster: pairs spread over actors that load the networks once.

Only pairs, rows and, once an actor, the sums that FID is made of pass through Ray; pictures and features never do. What an actor that
died had counted into its sums is lost with it, so its pairs are done again by others; a pair whose worker died twice is given up.
"""

import logging
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from ray_jobs import metrics
from ray_jobs.actors import Death, Pool, Resources, cores_a_worker, given_first, gpus_for, outcome, starts_in_vain
from ray_jobs.cluster import connect
from ray_jobs.job import job_main
from ray_jobs.log_lines import configure_logs
from schemas.errors import DubmillError, StoreError
from schemas.jobs import EvaluationPair, EvaluationSummary
from schemas.settings import DubSettings, EvaluateSettings
from tasks.evaluation.evaluate import EvaluationPlan, Measured, PairWorker, evaluate
from tasks.evaluation.evaluate_pair import Row, failed_rows
from tasks.evaluation.feature_sums import FeatureSums
from tasks.progress import Progress

log = logging.getLogger(__name__)

TRIES = 2
"""A machine may be lost once; what kills two workers is likely the pair."""


class EvaluationActor:
    """Compares pairs on its share of a machine."""

    def __init__(self, settings: str, dub: str | None, threads: int) -> None:
        configure_logs("evaluate")
        self._settings = EvaluateSettings.model_validate_json(settings)
        self._dub = DubSettings.model_validate_json(dub) if dub else None
        self._threads = threads
        self._worker: PairWorker | None = None

    def ready(self) -> str:
        """Loads the networks. Gives nothing, or the sentence of an error: over Ray itself it would come wrapped in traces of both sides."""
        import torch  # here: the driver needs none of it

        torch.set_num_threads(self._threads)
        try:
            self._worker = PairWorker(self._settings, self._dub)
        except DubmillError as error:
            return str(error)
        return ""

    def compare(self, pair: EvaluationPair) -> list[Row]:
        """The rows of a pair."""
        return self._ready()(pair)

    def counted(self) -> tuple[dict[str, FeatureSums], dict[str, str]]:
        """The sums over all pairs of this actor, and what cannot be measured here."""
        return self._ready().sums, self._ready().absent

    def _ready(self) -> PairWorker:
        if self._worker is None:
            raise RuntimeError("no pair before `ready`")
        return self._worker


@dataclass
class _Worker:
    """An actor, the pair that it is at, and what it has done."""

    actor: Any
    pair: EvaluationPair | None = None
    done: list[tuple[EvaluationPair, list[Row]]] = field(default_factory=list)


def run(settings: EvaluateSettings, progress: Progress) -> EvaluationSummary:
    """Compares all pairs on the cluster. Raises as `evaluate_here`."""

    def measure(plan: EvaluationPlan) -> Measured:
        with Workers(plan, progress) as workers:
            return workers.measured()

    return evaluate(settings, measure)


class Workers:
    """Actors of a cluster that compare pairs; they are ended when the context is left."""

    def __init__(self, plan: EvaluationPlan, progress: Progress) -> None:
        self._plan, self._progress = plan, progress
        self._cluster = ExitStack()
        self._waiting = deque(plan.pairs.pairs)
        self._given_up: list[tuple[EvaluationPair, list[Row]]] = []
        self._deaths: Counter[str] = Counter()
        self._busy: dict[Any, _Worker] = {}
        self._idle: list[_Worker] = []
        self._died_starting = 0

    def __enter__(self) -> "Workers":
        self._cluster.enter_context(connect())
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        for worker in [*self._busy.values(), *self._idle]:
            ray.kill(worker.actor)
        self._cluster.close()

    def measured(self) -> Measured:
        """The rows and sums of all pairs. An actor whose sums cannot be had any more has its pairs done again."""
        total = len(self._plan.pairs.pairs)
        self._progress(0, total, "pairs")
        counted: list[tuple[dict[str, FeatureSums], dict[str, str]]] = []
        kept: list[tuple[EvaluationPair, list[Row]]] = []
        while self._waiting or self._busy:
            self._compare_all(total, len(kept))
            for worker in self._idle:
                sums = outcome(worker.actor.counted.remote())
                if isinstance(sums, Death):
                    self._again(worker)
                else:
                    counted.append(sums)
                    kept += worker.done
            self._dismiss()
        return Measured([row for _, rows in kept + self._given_up for row in rows], _together(counted), dict(_absences(counted)))

    def _compare_all(self, total: int, kept: int) -> None:
        """Until no pair waits and no actor is busy."""
        self._staff()
        while self._waiting or self._busy:
            while self._waiting and self._idle:
                self._begin(self._idle.pop())
            self._take_next()
            done = kept + len(self._given_up) + sum(len(worker.done) for worker in [*self._idle, *self._busy.values()])
            self._progress(done, total, "pairs compared")

    def _begin(self, worker: _Worker) -> None:
        worker.pair = self._waiting.popleft()
        self._busy[worker.actor.compare.remote(worker.pair)] = worker

    def _take_next(self) -> None:
        """Waits until an actor is ready, has compared its pair, or is dead."""
        while not (first := given_first(list(self._busy))):
            pass
        worker = self._busy.pop(first[0])
        given = outcome(first[0])
        if isinstance(given, Death):
            self._bury(worker)
            return
        if worker.pair is None and given:
            raise DubmillError(given)
        if worker.pair is not None:
            worker.done.append((worker.pair, given))
        self._died_starting = 0
        worker.pair = None
        self._idle.append(worker)

    def _bury(self, worker: _Worker) -> None:
        """What a dead actor did is done again; the pair that it was at is given up when that has killed two."""
        metrics.worker_lost("evaluate")
        if worker.pair is None:
            self._died_starting += 1
            if self._died_starting == starts_in_vain(len(self._busy) + len(self._idle) + 1):
                raise StoreError("Workers die before they begin a pair; look at the cluster's memory and its logs, then run again.")
        else:
            self._deaths[worker.pair.name] += 1
            if self._deaths[worker.pair.name] == TRIES:
                self._given_up.append((worker.pair, failed_rows(worker.pair, "Two workers died while they compared it.")))
            else:
                self._waiting.append(worker.pair)
        self._again(worker)
        self._staff()

    def _again(self, worker: _Worker) -> None:
        self._waiting.extend(pair for pair, _ in worker.done)
        worker.done = []

    def _dismiss(self) -> None:
        import ray

        for worker in self._idle:
            ray.kill(worker.actor)
        self._idle = []

    def _staff(self) -> None:
        """As many actors as there is room and work for."""
        import ray

        pool = pool_for(self._plan.settings, [node["Resources"] for node in ray.nodes() if node["Alive"]], len(self._plan.pairs.pairs))
        settings, dub = self._plan.settings.model_dump_json(), self._plan.dub.model_dump_json() if self._plan.dub else None
        for _ in range(min(pool.workers, len(self._waiting)) - len(self._busy) - len(self._idle)):
            kind = ray.remote(num_cpus=pool.cores, num_gpus=pool.gpus, max_restarts=0, scheduling_strategy="SPREAD")(EvaluationActor)
            actor = kind.remote(settings, dub, pool.cores)
            self._busy[actor.ready.remote()] = _Worker(actor)  # it gets no pair before it is there: the cluster may have no room for it


def pool_for(settings: EvaluateSettings, nodes: list[Resources], pairs: int) -> Pool:
    """One actor a GPU where clips are dubbed, or a GPU is asked for, and there are GPUs or will be; else one a core, which FaceMesh works on.

    The settings may ask for more or fewer.
    """
    gpus = gpus_for(settings.device, nodes)
    each = 1 if gpus and (settings.store or settings.device == "cuda") else 0
    by_itself = gpus if each else int(sum(node.get("CPU", 0) for node in nodes))
    workers = max(1, min(settings.workers or by_itself, pairs))
    return Pool(workers, cores_a_worker(nodes, workers, each), each)


def _together(counted: list[tuple[dict[str, FeatureSums], dict[str, str]]]) -> dict[str, FeatureSums]:
    sums: dict[str, FeatureSums] = {}
    for by_side, _ in counted:
        for side, each in by_side.items():
            sums[side] = sums.get(side, FeatureSums()).plus(each)
    return sums


def _absences(counted: list[tuple[dict[str, FeatureSums], dict[str, str]]]) -> Iterator[tuple[str, str]]:
    for _, absent in counted:
        yield from absent.items()


def run_without_groups(settings: EvaluateSettings, progress: Progress) -> EvaluationSummary:
    """As `run`; the figures by condition and speaker, which may be many, stay in `summary.json`: a job's result is read by orchestrators."""
    return run(settings, progress).model_copy(update={"groups": ()})


if __name__ == "__main__":
    job_main(EvaluateSettings, run_without_groups)
