"""What the training tests share: a small corpus, and networks and losses that are quick on one core."""

from pathlib import Path

import pytest
import torch

from schemas.checkpoints import LandmarkGeneratorSize, RendererSize
from schemas.settings import LandmarkGeneratorTraining, RendererTraining
from tasks.corpus.store import CorpusStore
from tasks.training import landmark_generator, renderer
from tests.training_corpus import SNAPSHOT, make_training_corpus


class QuickPerceptualLoss(torch.nn.Module):
    """Stands in for VGG-19, which takes most of a renderer's step on a CPU: differences of pictures at a quarter of their size."""

    source = "seeded-random"

    def __init__(self, weights: str | None) -> None:
        super().__init__()

    def features_of(self, real: torch.Tensor) -> list[list[torch.Tensor]]:
        return [[torch.nn.functional.avg_pool2d(real, 4).detach()]]

    def forward(self, generated: torch.Tensor, real: list[list[torch.Tensor]], style: bool) -> torch.Tensor:
        return (torch.nn.functional.avg_pool2d(generated, 4) - real[0][0]).abs().mean() * (2 if style else 1)


@pytest.fixture(scope="session", autouse=True)
def _one_core() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> CorpusStore:
    return make_training_corpus(tmp_path_factory.mktemp("corpus"), {"train": [30, 40, 9], "val": [30]})


@pytest.fixture
def landmark_settings(corpus: CorpusStore, tmp_path: Path) -> LandmarkGeneratorTraining:
    return LandmarkGeneratorTraining(
        store=corpus.uri, out=str(tmp_path / "run"), snapshot=SNAPSHOT, preset="small", device="cpu",
        steps=6, batch_size=4, validate_every=3, validation_samples=6,
    )  # fmt: skip


@pytest.fixture
def renderer_settings(corpus: CorpusStore, tmp_path: Path) -> RendererTraining:
    return RendererTraining(
        store=corpus.uri, out=str(tmp_path / "run"), snapshot=SNAPSHOT, preset="small", device="cpu",
        steps=4, batch_size=2, validate_every=2, validation_samples=3, warm_up_epochs=1,
    )  # fmt: skip


@pytest.fixture
def quick_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(landmark_generator.PRESETS, "small", LandmarkGeneratorSize(width=32, layers=1, heads=2, feed_forward=32))
    monkeypatch.setitem(renderer.PRESETS, "small", RendererSize(width=16))
    monkeypatch.setattr(renderer, "PerceptualLoss", QuickPerceptualLoss)
