"""The learning rate over the steps: a function of the step alone, so that a resumed run needs no memory of it."""

import math

import torch

from schemas.settings import TrainingSettings


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """The rate of step `step` (from 0): rising over `rate_warm_up_steps`, then constant or falling by a half cosine to its last share."""
    warm_up = settings.rate_warm_up_steps
    if step < warm_up:
        return settings.learning_rate * (step + 1) / (warm_up + 1)
    if settings.schedule == "constant":
        return settings.learning_rate
    done = min(1.0, (step - warm_up) / max(1, settings.steps - 1 - warm_up))
    share = settings.final_rate_share + (1 - settings.final_rate_share) * (1 + math.cos(math.pi * done)) / 2
    return settings.learning_rate * share


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Makes every parameter of an optimiser learn at that rate from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = rate
