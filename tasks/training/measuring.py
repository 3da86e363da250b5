"""Measuring weights as the trainer does: on the validation split that a run saw, for networks that the run did not make, too."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from models.checkpoint import load_landmark_generator, load_renderer
from schemas.errors import StoreError
from schemas.locations import without_secrets
from schemas.settings import AnyTraining, LandmarkGeneratorTraining, PublishSettings, RendererTraining, check_settings
from tasks.training.corpus import Corpus, open_corpus
from tasks.training.landmark_validation import LandmarkValidation
from tasks.training.pictures import FacePictures
from tasks.training.renderer_validation import RendererValidation
from tasks.training.session import one_process
from tasks.training.state import SavedRun
from tasks.training.validation import Validation

HELD_OUT = "held_out"
"""A metric of 0 says that validation saw the training clips."""


class Measured(NamedTuple):
    """Metrics of a network on the validation split, and why others are absent."""

    metrics: dict[str, float]
    absent: dict[str, str]


Measure = Callable[[str], Measured]
"""Measures the weights at a location; always on the same samples."""


def training_settings(settings: PublishSettings, run: SavedRun) -> AnyTraining:
    """The settings that a run was trained with, its store where it is now."""
    values = {**run.settings, "store": settings.store, "out": settings.run, "snapshot": run.snapshot, "device": settings.device}
    if settings.kind == "landmark-generator":
        return check_settings(LandmarkGeneratorTraining, values)
    return check_settings(RendererTraining, values)


def measure_on_validation_split(settings: PublishSettings, run: SavedRun) -> Measure:
    """Measures as the trainer does, on the validation split of the run's snapshot, which is read when the first weights are measured.

    Raises StoreError when the corpus or the snapshot is not there or holds other clips than the run read.
    """
    device = one_process(settings.device).device

    @functools.cache
    def opened() -> tuple[Validation, bool]:
        training = training_settings(settings, run)
        corpus = open_corpus(training, None, one_process("cpu"))
        if corpus.digest != run.snapshot_digest:
            raise StoreError(f"The snapshot {run.snapshot} of {without_secrets(settings.store)} holds other clips than the network was trained on.")
        return _validation(training, corpus, device), corpus.lessons.held_out

    def measure(weights: str) -> Measured:
        validation, is_held_out = opened()
        load: Callable[..., nn.Module] = load_landmark_generator if settings.kind == "landmark-generator" else load_renderer
        metrics = validation.measure(load(weights, device))
        return Measured(metrics if is_held_out else metrics | {HELD_OUT: 0.0}, dict(validation.absent))

    return measure


def _validation(training: AnyTraining, corpus: Corpus, device: torch.device) -> Validation:
    footage = corpus.lessons.validation
    if isinstance(training, LandmarkGeneratorTraining):
        return LandmarkValidation(footage, training, corpus.store.format.crop.size, device)
    return RendererValidation(footage, FacePictures(corpus.store, footage, training.cache, training.picture_cache_mb), training, device)
