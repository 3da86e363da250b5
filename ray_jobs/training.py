"""How a trainer becomes a Ray Train job: as many workers as the settings say, each a part of every batch."""

import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import fsspec
import ray
import ray.train.torch
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ray_jobs.actors import gpus_for, gpus_will_come
from ray_jobs.cluster import connect
from ray_jobs.log_lines import configure_logs
from ray_jobs.metrics import StepTeller
from schemas.checkpoints import Kind
from schemas.errors import CheckpointError, DubmillError, SettingsError
from schemas.job_log import RUN_VARIABLE
from schemas.jobs import TrainingSummary
from schemas.settings import TrainingSettings
from tasks.corpus.store import CorpusStore
from tasks.patient_threads import PATIENT_THREADS
from tasks.progress import Progress
from tasks.training.corpus import choose_snapshot
from tasks.training.session import PATIENCE, Session, from_leader
from tasks.training.state import read_finished, read_run, read_summary, require_no_other_run, saved_run_to_resume, state_location

LOG = logging.getLogger(__name__)

POLL_S = 0.5
"""Seconds between two looks at how far the workers are."""
LOST_WORKER_GROUPS = 3
"""Times that training goes on from its last checkpoint after workers were lost: what is lost again and again has a cause that stays."""

AnyTraining = TypeVar("AnyTraining", bound=TrainingSettings)
Train = Callable[[AnyTraining, Progress, Session], TrainingSummary]


def run_by_ray(kind: Kind, train: Train[AnyTraining], settings: AnyTraining, progress: Progress) -> TrainingSummary:
    """Trains with `settings.workers` Ray Train workers and gives the summary that rank 0 left in `settings.out`.

    The snapshot is chosen here, once, so that all workers read the same; so is whether to go on from a former state: with the environment
    variable RUN_VARIABLE, from that run's own, whatever `resume` says. Workers that take the place of lost ones go on from this run's
    last checkpoint. The settings' places must be such as every worker sees. Raises what the trainer raises.
    """
    given_name = os.environ.get(RUN_VARIABLE, "")
    settings = settings.with_absolute_locations()  # a worker's current folder is another
    if not given_name:
        require_no_other_run(settings)
    saved = saved_run_to_resume(settings, kind, given_name)
    if (finished := read_finished(settings, saved)) is not None:
        return finished
    snapshot = choose_snapshot(CorpusStore.open(settings.store), settings, saved)
    settings = settings.replaced(snapshot=snapshot.name, resume=saved is not None)
    with connect(), _followed(progress) as board, _notes(settings.out) as (filesystem, folder):
        trainer = TorchTrainer(
            _work,
            # A run that nobody named gets a name too: by it the workers that take the place of lost ones know their own state.
            train_loop_config={"kind": kind, "train": train, "settings": settings, "board": board, "run_name": given_name or secrets.token_hex(8)},
            scaling_config=_scaling(settings),
            torch_config=TorchConfig(timeout_s=int(PATIENCE.total_seconds())),
            run_config=RunConfig(
                name=kind,
                storage_path=folder,
                storage_filesystem=filesystem,
                failure_config=FailureConfig(max_failures=LOST_WORKER_GROUPS),
                worker_runtime_env={"env_vars": PATIENT_THREADS},
            ),
        )
        _fit(trainer, board)
    return read_summary(settings.out)


def _work(config: dict[str, Any]) -> None:
    """One worker, called by Ray Train with the process group up."""
    configure_logs(f"train_{config['kind'].replace('-', '_')}")
    context = ray.train.get_context()
    session = Session(
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        device=ray.train.torch.get_device(),
        on_report=lambda metrics: ray.train.report(dict(metrics)),
        on_step=StepTeller(config["kind"], leads=context.get_world_rank() == 0),
        run_name=config["run_name"],
    )
    board = config["board"]
    if ray.get(board.read_error.remote()) is not None:
        return  # what a person must mend is not tried again

    def tell(done: int, total: int | None = None, note: str = "") -> None:
        board.write.remote((done, total, note))

    try:
        settings = _going_on(config["settings"], config["kind"], session)
        config["train"](settings, tell, session)
    except DubmillError as error:
        ray.get(board.give_up.remote(error))  # Ray's own errors would wrap it in traces of both sides
        raise


def _going_on(settings: AnyTraining, kind: Kind, session: Session) -> AnyTraining:
    """The settings with `resume` where a former group of workers left a state of this run; the leader looks, so that all do the same."""
    goes_on = session.leads and (settings.resume or _has_own_state(settings.out, kind, session.run_name))
    return settings.replaced(resume=from_leader(str(goes_on), session) == str(True))


def _has_own_state(out: str, kind: Kind, run_name: str) -> bool:
    try:
        saved = read_run(out, kind)
    except CheckpointError:  # a former run's, which a fresh one replaces: its own are written whole
        return False
    if saved is None or saved.name != run_name:
        return False
    LOG.info("Training goes on from step %d, where its former workers were lost.", saved.position.step)
    return True


def _scaling(settings: TrainingSettings) -> ScalingConfig:
    """A GPU a worker where the settings and the cluster have them, or will; on CPUs the largest node's cores, shared out."""
    gpus = gpus_for(settings.device, [ray.cluster_resources()])
    if settings.device == "cuda" or gpus:
        if gpus < settings.workers and not gpus_will_come(settings.device):
            raise SettingsError(
                f"The settings ask for {settings.workers} workers on device {settings.device}, but the Ray cluster has {gpus} GPUs;"
                " give fewer workers, or set device to cpu, or to cuda where the cluster adds GPUs for what waits."
            )
        return ScalingConfig(num_workers=settings.workers, use_gpu=True)
    cores = max(int(node["Resources"].get("CPU", 1)) for node in ray.nodes() if node["Alive"])
    return ScalingConfig(num_workers=settings.workers, resources_per_worker={"CPU": max(1, cores // settings.workers)})


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class _Board:
    """Where workers write how far they are and what a person must mend, and the job's own process reads it.

    One whose process dies is there again, empty: the next step is told as ever, and what a person must mend the next workers meet, too.
    """

    def __init__(self) -> None:
        self.latest: tuple[int, int | None, str] | None = None
        self.error: DubmillError | None = None

    def write(self, latest: tuple[int, int | None, str]) -> None:
        self.latest = latest

    def read(self) -> tuple[int, int | None, str] | None:
        return self.latest

    def give_up(self, error: DubmillError) -> None:
        self.error = self.error or error

    def read_error(self) -> DubmillError | None:
        return self.error


def _board() -> Any:
    """A board beside the job's own process: the loss of any other node, which the training survives, does not touch it."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return _Board.options(scheduling_strategy=here).remote()  # type: ignore[attr-defined]


@contextmanager
def _followed(progress: Progress) -> Iterator[Any]:
    """A board whose latest word is passed on to `progress`, while it changes and once more at the end."""
    board, ended = _board(), threading.Event()

    def _follow() -> None:
        told = None
        while True:
            last_look = ended.wait(POLL_S)
            latest = ray.get(board.read.remote())
            if latest is not None and latest != told:
                progress(*latest)
                told = latest
            if last_look:
                return

    follower = threading.Thread(target=_follow, daemon=True)
    follower.start()
    try:
        yield board
    finally:
        ended.set()
        follower.join()


@contextmanager
def _notes(out: str) -> Iterator[tuple[PyFileSystem, str]]:
    """Where Ray keeps its own notes of a run: beside the state, which all workers see; taken away when the run ends."""
    filesystem, folder = fsspec.core.url_to_fs(state_location(out, "ray"))
    _take_away(filesystem, folder)
    try:
        yield PyFileSystem(FSSpecHandler(filesystem)), folder
    finally:
        _take_away(filesystem, folder)


def _take_away(filesystem: fsspec.AbstractFileSystem, folder: str) -> None:
    if filesystem.exists(folder):
        filesystem.rm(folder, recursive=True)


def _fit(trainer: TorchTrainer, board: Any) -> None:
    """Runs Ray Train; an error that a person can mend comes out as itself."""
    failure: Exception | None = None
    try:
        trainer.fit()
    except ray.train.WorkerGroupError as error:
        failure = error
    mendable = ray.get(board.read_error.remote())
    if mendable is not None:
        raise mendable from failure
    if failure is not None:
        raise failure
