"""What a training run looks at to tell how good a network is: fixed samples and clips of the validation split."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import nn

VALIDATION_SEED = 2305
"""Validation samples are the same whatever a run's own seed: runs can be compared."""
PUBLISHED_SIZE = 128
DECIBELS_A_PIXEL = 1.0
"""A mouth that is a pixel of 128 away from where it belongs is seen as readily as a decibel."""

Picture = npt.NDArray[np.uint8]
"""(H, W, 3) BGR"""


@dataclass(frozen=True)
class Preview:
    """A short clip to look at, 25 frames a second."""

    frames: Picture
    """(T, H, W, 3) uint8 BGR"""
    batch: str
    """Of the clip whose sound is heard with it."""
    clip_id: str
    first_frame: int
    """Of that clip, whose sound begins there."""


class Validation(ABC):
    """Measures a network in evaluation mode, always on the same samples; two validations of one split can be compared.

    `absent` names the metrics that cannot be measured here, each with a sentence that says why.
    """

    @property
    @abstractmethod
    def absent(self) -> Mapping[str, str]:
        """Metrics that are not measured, and why."""

    @abstractmethod
    def measure(self, network: nn.Module) -> dict[str, float]:
        """The metrics, most telling first."""

    @abstractmethod
    def picture(self, network: nn.Module) -> Picture | None:
        """A picture to look at, if the network makes pictures."""

    @abstractmethod
    def preview(self, network: nn.Module) -> Preview | None:
        """A short clip to look at; None where the split has none that is long enough."""


def score(kind: Literal["landmark-generator", "renderer"], metrics: Mapping[str, float], size: int = PUBLISHED_SIZE) -> float:
    """How good a network is by its metrics, higher is better; needs no foreign weights. It chooses weights, stops early, and publishes.

    Landmark generator: minus the L1 distance. Renderer: PSNR in dB less the mouth's landmark distance, in pixels of a picture of 128
    (size: side of the pictures that were measured), where that is measured.
    """
    if kind == "landmark-generator":
        return -metrics["l1"]
    return metrics["psnr"] - metrics.get("mouth_lmd_px", 0.0) * PUBLISHED_SIZE / size * DECIBELS_A_PIXEL
