"""Both training jobs over a local Ray, on drawn faces."""

import json
from pathlib import Path

import pytest

from models.checkpoint import read_header
from ray_jobs import train_landmark_generator, train_renderer
from schemas.errors import StoreError
from schemas.settings import LandmarkGeneratorTraining, RendererTraining
from tasks.corpus.store import CorpusStore
from tests.training_corpus import make_training_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> CorpusStore:
    return make_training_corpus(tmp_path_factory.mktemp("corpus"), {"train": [25, 25, 25]})


def test_the_landmark_generator_with_two_workers(corpus: CorpusStore, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    settings = LandmarkGeneratorTraining(store=corpus.uri, out=str(tmp_path / "run"), preset="small", steps=2, batch_size=4, validation_samples=4, workers=2)
    summary = train_landmark_generator.run(settings, lambda done, total=None, note="": told.append((done, total)))
    assert told[-1] == (2, 2)
    assert (summary.kind, summary.step) == ("landmark-generator", 2)
    assert summary.metrics.keys() == summary.metrics_at_start.keys()
    assert corpus.snapshot(summary.snapshot).clips
    assert read_header(summary.checkpoint).metrics == summary.metrics
    assert {path.name for path in (tmp_path / "run" / "state").iterdir()} == {"state.pt", "metrics.jsonl", "summary.json", "tensorboard"}
    again = train_landmark_generator.run(settings.replaced(resume=True, workers=1), lambda *_: None)
    assert again == summary


def test_the_renderer(corpus: CorpusStore, tmp_path: Path) -> None:
    settings = RendererTraining(store=corpus.uri, out=str(tmp_path / "run"), preset="small", steps=1, batch_size=2, validation_samples=2, warm_up_epochs=0)
    summary = train_renderer.run(settings, lambda *_, **__: None)
    assert summary.step == 1
    rows = [json.loads(line) for line in (tmp_path / "run" / "state" / "metrics.jsonl").read_text().splitlines()]
    assert {"warp", "perceptual", "adversarial", "feature_matching", "discriminator"} <= rows[1].keys()


def test_what_a_user_can_mend_stays_one_sentence(corpus: CorpusStore, tmp_path: Path) -> None:
    settings = LandmarkGeneratorTraining(store=str(tmp_path / "nowhere"), out=str(tmp_path / "run"), preset="small")
    with pytest.raises(StoreError, match="no corpus store"):
        train_landmark_generator.run(settings, lambda *_: None)
