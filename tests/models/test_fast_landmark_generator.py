import pytest
import torch
from torch import Tensor, nn

from models import LandmarkGenerator
from models.fast_landmark_generator import FastLandmarkGenerator
from models.landmark_generator import PRESETS

WINDOWS = torch.arange(6)[:, None] + torch.arange(5)
"""Six windows over ten steps."""


def like_a_trained(network: LandmarkGenerator) -> LandmarkGenerator:
    """Batch statistics that are not the first ones."""
    torch.manual_seed(6)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return network.eval()


@pytest.fixture(scope="module")
def inputs() -> tuple[Tensor, ...]:
    """Mel windows and poses of ten steps, poses and contents of seven references."""
    random = torch.Generator().manual_seed(9)
    return (
        torch.randn(10, 1, 80, 16, generator=random),
        torch.rand(10, 2, 74, generator=random),
        torch.rand(7, 2, 74, generator=random),
        torch.rand(7, 2, 57, generator=random),
    )


def plain(network: LandmarkGenerator, inputs: tuple[Tensor, ...], references: int = 7) -> Tensor:
    """The middle frame of each window, each window computed by itself."""
    mels, pose, reference_pose, reference_content = inputs
    windows = [network(mels[w][None], pose[w][None], reference_pose[None, :references], reference_content[None, :references])[:, 2] for w in WINDOWS]
    return torch.cat(windows)


def fast(network: FastLandmarkGenerator, inputs: tuple[Tensor, ...], references: int = 7) -> Tensor:
    mels, pose, reference_pose, reference_content = inputs
    known = network.encode_references(reference_pose[:references], reference_content[:references])
    return network(network.encode_audio(mels)[WINDOWS], network.encode_pose(pose)[WINDOWS], known)


@pytest.mark.parametrize("preset", ["published", "small"])
@pytest.mark.parametrize("references", [7, 1])
@torch.inference_mode()
def test_float32_equals_the_plain_forward(preset: str, references: int, inputs: tuple[Tensor, ...]) -> None:
    network = like_a_trained(LandmarkGenerator(PRESETS[preset]))  # type: ignore[index]
    expected = plain(network, inputs, references)
    assert expected.shape == (6, 2, 57)
    assert expected.std(dim=0).min() > 2e-4, "windows differ"
    torch.testing.assert_close(fast(FastLandmarkGenerator.of(network), inputs, references), expected, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_bfloat16_is_as_close_as_torch_s_own_mixed_precision(inputs: tuple[Tensor, ...]) -> None:
    network = like_a_trained(LandmarkGenerator(PRESETS["published"]))
    exact = plain(network, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = plain(network, inputs).float()
    ours = fast(FastLandmarkGenerator.of(network, torch.bfloat16), inputs)
    assert ours.dtype == torch.float32
    assert (ours - exact).std() < 1.5 * (mixed - exact).std()


def test_the_network_itself_stays_as_it_is() -> None:
    network = LandmarkGenerator(PRESETS["small"])
    before = {name: values.clone() for name, values in network.state_dict().items()}
    FastLandmarkGenerator.of(network, torch.bfloat16)
    assert all(torch.equal(values, before[name]) for name, values in network.state_dict().items())
    assert network.training
