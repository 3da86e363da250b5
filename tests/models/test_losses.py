import logging
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models import losses
from models.losses import PerceptualLoss, adversarial_loss, discriminator_loss, feature_matching_loss, gram, lip_opening_loss, velocity_loss
from schemas.errors import CheckpointError
from schemas.face_points import CONTENT_INDICES


@pytest.fixture(scope="module")
def random_loss() -> PerceptualLoss:
    return PerceptualLoss(None)


@pytest.fixture(scope="module")
def faces() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    generated, real = torch.rand(2, 1, 3, 64, 64, generator=generator)
    return generated, real


def test_velocity_by_hand() -> None:
    real = torch.zeros(2, 5, 2, 57)
    predicted = real.clone()
    predicted[0, 2, 0, 7] = 3.0  # one point jumps away in frame 2 and back in frame 3: two of eight steps are 3 off
    assert velocity_loss(predicted, real).item() == pytest.approx(2 * 3 / 8, abs=1e-4)
    predicted[0, 2, 1, 7] = 4.0
    assert velocity_loss(predicted, real).item() == pytest.approx(2 * 5 / 8, abs=1e-4)


def test_velocity_does_not_see_where_a_face_is_and_is_smooth_at_zero() -> None:
    real = torch.rand(1, 5, 2, 57)
    predicted = (real + 0.25).requires_grad_()
    loss = velocity_loss(predicted, real)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-4)
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()


def test_least_squares_by_hand() -> None:
    real = [[torch.ones(1, 4), torch.tensor([[0.5, 1.0]])], [torch.ones(1, 4), torch.tensor([[1.0]])]]
    generated = [[torch.ones(1, 4), torch.tensor([[0.5, 0.0]])], [torch.ones(1, 4), torch.tensor([[2.0]])]]
    assert discriminator_loss(real, generated).item() == pytest.approx(0.5 * (0.125 + 0 + 0.125 + 4))
    assert adversarial_loss(generated).item() == pytest.approx((0.25 + 1) / 2 + 1)


def test_feature_matching_by_hand() -> None:
    real = [[torch.zeros(1, 2) for _ in range(5)] for _ in range(2)]
    generated = [[torch.full((1, 2), 0.5, requires_grad=True) for _ in range(5)] for _ in range(2)]
    # 4 / (3 + 1) / 2 a layer, four of five layers, two scales, 0.5 apart
    assert feature_matching_loss(real, generated).item() == pytest.approx(0.5 * 4 * 2 * 0.5)
    generated[0][-1] = torch.full((1, 2), 100.0)
    assert feature_matching_loss(real, generated).item() == pytest.approx(2.0)


def test_gram_by_hand() -> None:
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])
    torch.testing.assert_close(gram(features), torch.tensor([[[5.0, 11.0], [11.0, 25.0]]]) / 4)


def test_random_features_are_the_same_each_time_and_draw_no_global_randomness(random_loss: PerceptualLoss, faces: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    again = PerceptualLoss(None)
    assert torch.equal(torch.rand(1), expected)
    assert again.source == random_loss.source == "seeded-random"
    assert again(*faces, style=False).item() == random_loss(*faces, style=False).item()


def test_random_features_keep_their_size(random_loss: PerceptualLoss, faces: tuple[Tensor, Tensor]) -> None:
    for scale in random_loss.features_of(faces[1]):
        assert [layer.shape[1] for layer in scale] == [64, 128, 256, 512, 512]
        assert all(0.1 < layer.mean() < 10 for layer in scale)


def test_random_features_warn_once(caplog: pytest.LogCaptureFixture) -> None:
    losses._warn_of_random_features.cache_clear()
    with caplog.at_level(logging.WARNING):
        PerceptualLoss(None)
        PerceptualLoss(None)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "seeded random VGG-19" in caplog.text


def test_equal_pictures_have_no_distance(random_loss: PerceptualLoss, faces: tuple[Tensor, Tensor]) -> None:
    generated, real = faces
    assert random_loss(real, real, style=True).item() == 0
    plain, with_style = random_loss(generated, real, style=False).item(), random_loss(generated, real, style=True).item()
    assert 0 < plain < with_style


def test_features_computed_before_give_the_same_loss(random_loss: PerceptualLoss, faces: tuple[Tensor, Tensor]) -> None:
    generated, real = faces
    assert random_loss(generated, random_loss.features_of(real), style=True).item() == random_loss(generated, real, style=True).item()


def test_only_the_generated_picture_learns(random_loss: PerceptualLoss, faces: tuple[Tensor, Tensor]) -> None:
    generated, real = (face.clone().requires_grad_() for face in faces)
    random_loss(generated, real, style=True).backward()
    assert generated.grad is not None
    assert generated.grad.abs().sum() > 0
    assert real.grad is None
    assert all(parameter.grad is None for parameter in random_loss.parameters())


def test_imported_features_equal_those_of_the_published_checkpoint(imported_renderer: Path, renderer_pth: Path, faces: tuple[Tensor, Tensor]) -> None:
    from_import = PerceptualLoss(str(imported_renderer.with_name("renderer.vgg19.safetensors")))
    from_pth = PerceptualLoss(str(renderer_pth))
    assert from_import.source == from_pth.source == "imagenet"
    loss = from_import(*faces, style=True).item()
    assert math.isfinite(loss)
    assert loss == from_pth(*faces, style=True).item()


def test_loss_by_the_published_recipe(imported_renderer: Path, faces: tuple[Tensor, Tensor]) -> None:
    """Against torchvision's VGG-19 and the recipe written out: normalised as if in -1..1, L1 a layer, Gram at full scale times 250."""
    torchvision_plan = [64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512, "M"]
    features = losses.read_tensors(str(imported_renderer.with_name("renderer.vgg19.safetensors")))
    mean, spread = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def layers(x: Tensor) -> list[Tensor]:
        found, index = [], 0
        for step in torchvision_plan:
            if step == "M":
                x = torch.nn.functional.max_pool2d(x, 2, 2)
                index += 1
                continue
            x = torch.nn.functional.conv2d(x, features[f"features.{index}.weight"], features[f"features.{index}.bias"], padding=1).relu()
            if index + 1 in (1, 6, 11, 20, 29):
                found.append(x)
            index += 2
        return found

    generated, real = (((face + 1) / 2 - mean) / spread for face in faces)
    expected = 0.0
    for scale in range(2):
        ours, theirs = layers(generated), layers(real)
        expected += sum((a - b).abs().mean().item() for a, b in zip(ours, theirs, strict=True))
        if scale == 0:
            grams = [[torch.einsum("bchw,bdhw->bcd", x, x) / x[0].numel() for x in side] for side in (ours, theirs)]
            expected += 250 * sum((a - b).abs().mean().item() for a, b in zip(*grams, strict=True))
        generated, real = (torch.nn.functional.avg_pool2d(face, 2) for face in (generated, real))  # bilinear at half size
    loss = PerceptualLoss(str(imported_renderer.with_name("renderer.vgg19.safetensors")))
    assert loss(*faces, style=True).item() == pytest.approx(expected, rel=1e-4)


def test_a_file_without_vgg_is_refused(imported_landmark_generator: Path, landmark_generator_pth: Path, tmp_path: Path) -> None:
    for path in (imported_landmark_generator, landmark_generator_pth):
        with pytest.raises(CheckpointError, match="does not hold the features of VGG-19"):
            PerceptualLoss(str(path))
    with pytest.raises(CheckpointError, match="is not there"):
        PerceptualLoss(str(tmp_path / "nothing.safetensors"))


def test_the_lip_opening_loss_sees_the_gap_alone() -> None:
    content = torch.rand(2, 5, 2, 57)
    assert lip_opening_loss(content, content).item() == 0
    moved = content + torch.tensor([0.3, -0.2]).view(2, 1)
    assert lip_opening_loss(moved, content).item() == pytest.approx(0, abs=1e-6)
    wider = content.clone()
    wider[..., 1, CONTENT_INDICES.index(14)] += 0.4  # the lower lip's inner middle, downwards: one of four numbers
    assert lip_opening_loss(wider, content).item() == pytest.approx(0.1)
