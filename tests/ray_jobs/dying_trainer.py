"""The landmark generator's trainer with a worker that is killed once: in a module of its own, because Ray's workers import it by name."""

import os
import signal
from pathlib import Path

import torch

from schemas.jobs import TrainingSummary
from schemas.settings import LandmarkGeneratorTraining
from tasks.progress import Progress
from tasks.training.landmark_generator import LandmarkGeneratorTrainer, train_landmark_generator
from tasks.training.samples import LandmarkBatch
from tasks.training.session import Session
from tasks.training.state import Position
from tasks.training.trainer import Losses

DEADLY_STEP = 7
"""Steps made when the worker is killed."""
STARTS, DIED = "starts", "died"
"""Files beside the run's folder: the step at which each group of workers began, and what is there once a worker died."""


def train_and_die(settings: LandmarkGeneratorTraining, progress: Progress, session: Session) -> TrainingSummary:
    """Trains; the last worker is killed as by the system, without a word, when it comes to DEADLY_STEP for the first time."""
    folder, backward = Path(settings.out).parent, LandmarkGeneratorTrainer.backward
    torch.set_num_threads(1)
    is_first = True

    def _backward(self: LandmarkGeneratorTrainer, batch: LandmarkBatch, position: Position, share: float) -> Losses:
        nonlocal is_first
        if is_first and session.leads:
            with (folder / STARTS).open("a") as file:
                file.write(f"{position.step}\n")
        is_first = False
        if position.step == DEADLY_STEP and session.rank == session.world_size - 1 and not (folder / DIED).exists():
            (folder / DIED).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return backward(self, batch, position, share)

    LandmarkGeneratorTrainer.backward = _backward
    try:
        return train_landmark_generator(settings, progress, session)
    finally:
        LandmarkGeneratorTrainer.backward = backward
