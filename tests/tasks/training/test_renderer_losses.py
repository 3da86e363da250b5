"""The renderer's losses: those of weight 0 are not computed, pixels count in every phase."""

import json
from pathlib import Path

import pytest

from schemas.errors import SettingsError
from schemas.settings import RendererTraining
from tasks.training.renderer import train_renderer
from tests.training_corpus import SNAPSHOT, make_training_corpus

PIXELS_ALONE = {"pixel_weight": 10.0, "warp_weight": 0.0, "perceptual_weight": 0.0, "adversarial_weight": 0.0, "feature_matching_weight": 0.0}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> RendererTraining:
    folder = tmp_path_factory.mktemp("losses")
    store = make_training_corpus(folder / "store", {"train": [20], "val": [10]})
    return RendererTraining(store=store.uri, out=str(folder / "out"), snapshot=SNAPSHOT, preset="small", steps=6, batch_size=2, learning_rate=1e-3)


def metrics_rows(out: str) -> list[dict[str, float | str]]:
    return [json.loads(line) for line in (Path(out) / "state/metrics.jsonl").read_text().splitlines()]


def test_pixels_alone_teach_without_features_or_discriminator(settings: RendererTraining) -> None:
    summary = train_renderer(settings.replaced(references=1, validation_samples=2, warm_up_epochs=2.0, **PIXELS_ALONE))
    train = [row for row in metrics_rows(settings.out) if row["split"] == "train"]
    assert [row["phase"] for row in train] == [1.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    assert all(set(row) & {"warp", "perceptual", "adversarial", "discriminator"} == set() for row in train)
    assert all(row["loss"] == pytest.approx(10 * row["pixel"], rel=1e-5) for row in train)
    assert summary.metrics["psnr"] > summary.metrics_at_start["psnr"]


def test_a_warp_that_nothing_teaches_is_refused(settings: RendererTraining) -> None:
    with pytest.raises(SettingsError, match="warp_weight or pixel_weight"):
        train_renderer(settings.replaced(out=f"{settings.out}-refused", warp_weight=0.0))
