"""dubmill whose preset `small` is quick on one core: `python -m tests.tasks.training.small_dubmill train ...`.

Its landmark generator has no dropout, whose masks are each worker's own, unless the environment variable DROPOUT says otherwise.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

import dubmill
from models import discriminator, landmark_generator, renderer
from schemas.checkpoints import LandmarkGeneratorSize, RendererSize
from tasks.training import renderer as renderer_training
from tests.tasks.training.conftest import QuickPerceptualLoss

DROPOUT = "DUBMILL_TEST_DROPOUT"


@contextmanager
def small_networks(dropout: float = 0.0) -> Iterator[None]:
    """Within it the preset `small` is tiny, and one thread computes."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(landmark_generator.PRESETS, "small", LandmarkGeneratorSize(width=32, layers=1, heads=2, feed_forward=32, dropout=dropout))
        patch.setitem(renderer.PRESETS, "small", RendererSize(width=16))
        patch.setattr(discriminator, "WIDTHS", (8, 16, 32, 64))
        patch.setattr(renderer_training, "PerceptualLoss", QuickPerceptualLoss)
        yield


if __name__ == "__main__":
    with small_networks(float(os.environ.get(DROPOUT, "0"))):
        dubmill.main()
