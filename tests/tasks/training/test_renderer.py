from pathlib import Path

import cv2
import pytest
import torch

from models.checkpoint import load_renderer, read_header
from schemas.errors import SettingsError
from schemas.settings import RendererTraining
from tasks.training.corpus import open_corpus
from tasks.training.renderer import RendererTrainer, train_renderer
from tasks.training.session import Session
from tasks.training.state import Position
from tests.tasks.training.test_loop import numbers, rows_of
from tests.training_corpus import make_training_corpus

pytestmark = pytest.mark.usefixtures("quick_networks")


@pytest.fixture
def trainer(renderer_settings: RendererTraining) -> RendererTrainer:
    return RendererTrainer(renderer_settings, open_corpus(renderer_settings, None, Session()), torch.device("cpu"))


def gradients(network: torch.nn.Module) -> list[torch.Tensor | None]:
    return [None if parameter.grad is None else parameter.grad.clone() for parameter in network.parameters()]


def test_a_resumed_run_equals_an_uninterrupted_one_across_the_phases(renderer_settings: RendererTraining, tmp_path: Path) -> None:
    whole = renderer_settings.replaced(out=str(tmp_path / "whole"))
    train_renderer(whole)
    train_renderer(renderer_settings.replaced(steps=2))
    train_renderer(renderer_settings.replaced(resume=True))
    rows = rows_of(renderer_settings)
    assert [row["phase"] for row in rows if row["split"] == "train"] == [1, 1, 2, 2]  # two samples a step, three clips an epoch
    for one, other in zip(numbers(rows), numbers(rows_of(whole)), strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_what_a_run_leaves(renderer_settings: RendererTraining) -> None:
    summary = train_renderer(renderer_settings)
    out = Path(renderer_settings.out)
    assert [path.name for path in out.rglob("*.safetensors")] == ["renderer.safetensors"]
    assert sorted(path.name for path in (out / "state" / "pictures").iterdir()) == ["step_0.png", "step_2.png", "step_4.png"]
    assert cv2.imread(str(out / "state" / "pictures" / "step_4.png")).shape[0] >= 3 * 128
    header = read_header(summary.checkpoint)
    assert (header.kind, header.step, header.perceptual_weights) == ("renderer", 4, "seeded-random")
    assert {"psnr", "ssim", "l1", "warp_l1"} <= summary.metrics.keys()
    assert {"fid", "lpips", "csim"} <= summary.absent.keys()
    assert load_renderer(summary.checkpoint).header == header


def test_warming_up_leaves_translation_and_discriminator_alone(trainer: RendererTrainer) -> None:
    losses = trainer.backward(trainer.samples.batch(0, 0, 2), Position(epochs=0.5), share=1.0)
    assert losses.keys() == {"warp", "loss", "phase"}
    assert all(gradient is None for gradient in gradients(trainer.discriminator) + gradients(trainer.network.translation))
    assert any(gradient is not None for gradient in gradients(trainer.network.flow))


def test_the_discriminators_gradients_are_its_own(trainer: RendererTrainer) -> None:
    batch = trainer.samples.batch(0, 0, 2)
    trainer.backward(batch, Position(epochs=2), share=1.0)
    together = gradients(trainer.discriminator)
    trainer.discriminator.zero_grad()
    units = batch.unit_pictures()
    with torch.no_grad():
        generated, _ = trainer._render(units)
    trainer._teach_discriminator(generated, units.face, share=1.0)
    for one, other in zip(together, gradients(trainer.discriminator), strict=True):
        torch.testing.assert_close(one, other)
    assert all(parameter.requires_grad for parameter in trainer.discriminator.parameters())


def test_the_total_is_the_weighted_sum(trainer: RendererTrainer) -> None:
    losses = {name: value.item() for name, value in trainer.backward(trainer.samples.batch(0, 0, 2), Position(epochs=2), share=1.0).items()}
    total = 2.5 * losses["warp"] + 4 * losses["perceptual"] + 0.25 * losses["adversarial"] + 2.5 * losses["feature_matching"]
    assert losses["loss"] == pytest.approx(total, rel=1e-5)


def test_a_corpus_of_another_size_is_refused(renderer_settings: RendererTraining) -> None:
    with pytest.raises(SettingsError, match="128 pixels, not 256"):
        train_renderer(renderer_settings.replaced(size=256))


def test_the_phase_can_begin_by_steps(renderer_settings: RendererTraining) -> None:
    train_renderer(renderer_settings.replaced(warm_up_steps=3, warm_up_epochs=0))
    assert [row["phase"] for row in rows_of(renderer_settings) if row["split"] == "train"] == [1, 1, 1, 2]


def test_weights_of_the_warm_up_give_way_to_any_later_ones(renderer_settings: RendererTraining) -> None:
    summary = train_renderer(renderer_settings.replaced(warm_up_steps=3, validate_every=1, learning_rate=1e-9, stop_after=2, steps=5))
    assert summary.best_step > 3
    assert not summary.stopped_early


@pytest.mark.parametrize("size", [128, 256])
def test_both_sizes_train_and_fit_the_same_network(renderer_settings: RendererTraining, tmp_path: Path, size: int) -> None:
    store = make_training_corpus(tmp_path / "store", {"train": [12], "val": [8]}, size=size)
    settings = renderer_settings.replaced(store=store.uri, size=size, steps=2, warm_up_epochs=0, validation_samples=2)
    first = train_renderer(settings)
    network = load_renderer(first.checkpoint)
    assert network.header is not None
    assert network.header.crop.size == network.size_settings.size == size
    assert network.translation.output_head.weight.shape[1] == load_renderer(first.checkpoint).translation.output_head.weight.shape[1]
    picture = torch.rand(1, 3, size, size)
    generated, _ = network(picture, torch.rand(1, 5, 3, size, size), torch.rand(1, 2, 3, size, size), torch.rand(1, 2, 3, size, size), torch.rand(1, 1, 80, 16))
    assert generated.shape == picture.shape


def test_a_larger_renderer_may_start_from_a_smaller_one(renderer_settings: RendererTraining, tmp_path: Path) -> None:
    small = train_renderer(renderer_settings)
    store = make_training_corpus(tmp_path / "store", {"train": [12], "val": [8]}, size=256)
    changes = {"store": store.uri, "size": 256, "steps": 1, "validation_samples": 2, "start_from": small.checkpoint, "out": str(tmp_path / "large")}
    large = read_header(train_renderer(renderer_settings.replaced(**changes)).checkpoint)
    assert large.architecture.size == large.crop.size == 256


@pytest.mark.soak  # a processor without bf16 takes minutes
def test_bf16_trains_with_losses_near_those_of_float32(renderer_settings: RendererTraining, tmp_path: Path) -> None:
    train_renderer(renderer_settings)
    half = renderer_settings.replaced(precision="bf16", out=str(tmp_path / "half"))
    train_renderer(half)
    for one, other in zip(rows_of(renderer_settings), rows_of(half), strict=True):
        if one["split"] == "train":
            assert one["loss"] == pytest.approx(other["loss"], rel=0.03)
            assert one["loss"] != other["loss"]
