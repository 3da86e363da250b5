"""A training run from its settings to its summary: the same for both networks, in one process or as one of several workers."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch

from models.checkpoint import load_landmark_generator, load_renderer, read_header, require_same_format
from models.landmark_generator import LandmarkGenerator
from models.renderer import Renderer
from schemas.checkpoints import Ancestor, CheckpointHeader, Kind
from schemas.jobs import TrainingSummary
from schemas.locations import without_secrets
from schemas.settings import LandmarkGeneratorTraining, RendererTraining
from tasks import places
from tasks.file_hash import file_hash
from tasks.progress import Progress
from tasks.published import weights_in_use
from tasks.training.corpus import Corpus, open_corpus
from tasks.training.loop import TrainingRun
from tasks.training.session import Session, open_session, wait_for_all
from tasks.training.state import SavedRun, read_finished, require_no_other_run, saved_run_to_resume
from tasks.training.trainer import Trainer

LOG = logging.getLogger(__name__)

VERSION_LENGTH = 12
"""Hex digits of a file's SHA-256 that name weights."""

AnyTraining = TypeVar("AnyTraining", LandmarkGeneratorTraining, RendererTraining)


def train(
    kind: Kind,
    make: Callable[[AnyTraining, Corpus, torch.device, SavedRun | None], Trainer[Any]],
    settings: AnyTraining,
    progress: Progress,
    session: Session | None,
) -> TrainingSummary:
    """Trains to the settings' end. Without a session this process is one of torchrun's workers, or the only one.

    Raises StoreError, CheckpointError or SettingsError for what the user can mend, DubmillError when too many losses are no numbers.
    With several workers, `settings.store` and `settings.out` must be places that all of them see.
    """
    opened: AbstractContextManager[Session] = open_session(settings.device) if session is None else nullcontext(session)
    with opened as worker:
        if session is None and settings.workers > worker.world_size:
            LOG.warning("The %d workers of the settings are for Ray and torchrun; this is one process.", settings.workers)
        if not worker.run_name:  # whoever names runs knows its own from others
            require_no_other_run(settings)
        saved = saved_run_to_resume(settings, kind)
        finished = read_finished(settings, saved)
        wait_for_all(worker)  # before the one that leads changes what the others read
        if worker.leads and saved is not None and saved.position.step > settings.steps:
            steps = saved.position.step, settings.steps
            LOG.warning("The run in %s has %d steps already, more than the %d that are asked for: nothing is learnt.", without_secrets(settings.out), *steps)
        if finished is not None:
            return finished
        corpus = open_corpus(settings, saved, worker)
        run = TrainingRun(make(settings, corpus, worker.device, saved), settings, corpus, worker, progress)
        if saved is not None:
            run.resume(saved)
        return run.to_the_end()


def landmark_generator_to_start_from(location: str, corpus: Corpus) -> LandmarkGenerator:
    """The network of a checkpoint, of the corpus's crop and mel; the size of its pictures does not matter. Raises CheckpointError."""
    network = load_landmark_generator(weights_in_use(location))
    _require_format(network.header, corpus)
    return network


def renderer_to_start_from(location: str, corpus: Corpus) -> Renderer:
    """The network of a checkpoint, of the corpus's crop and mel; it may have been trained at another size. Raises CheckpointError."""
    network = load_renderer(weights_in_use(location))
    _require_format(network.header, corpus)
    return network


def ancestors_of(location: str | None) -> tuple[Ancestor, ...]:
    """The weights at a location and those that they began with, first to last; none where there is no location. Raises CheckpointError."""
    if location is None:
        return ()
    location = weights_in_use(location)
    header = read_header(location)
    with places.local_copy(location) as path:
        version = file_hash(path)[:VERSION_LENGTH]
    start = Ancestor(
        version=version,
        origin=header.origin,
        step=header.step,
        snapshot=header.snapshot,
        snapshot_checksum=header.snapshot_checksum,
        store=header.store,
    )
    return (*header.ancestors, start)


def _require_format(header: CheckpointHeader | None, corpus: Corpus) -> None:
    if header is not None:
        store_format = corpus.store.format
        require_same_format(header, store_format.crop.replaced(size=header.crop.size), store_format.mel, f"the corpus {corpus.store.uri}")
