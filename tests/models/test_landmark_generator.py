from pathlib import Path

import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from models import LandmarkGenerator, load_landmark_generator
from models.landmark_generator import PRESETS, sinusoids


def test_equals_the_original(imported_landmark_generator: Path, landmark_inputs: tuple[Tensor, ...], golden: dict[str, npt.NDArray]) -> None:
    network = load_landmark_generator(str(imported_landmark_generator))
    with torch.no_grad():
        content = network(*landmark_inputs)
    assert content.shape == (2, 5, 2, 57)
    torch.testing.assert_close(content.flatten(0, 1), torch.from_numpy(golden["landmark_generator.content"]), atol=1e-4, rtol=0)


def test_shared_references_equal_repeated_ones(small_landmark_generator: LandmarkGenerator, landmark_inputs: tuple[Tensor, ...]) -> None:
    mels, pose, reference_pose, reference_content = landmark_inputs
    reference_pose, reference_content = reference_pose[:1], reference_content[:1]
    with torch.no_grad():
        shared = small_landmark_generator(mels, pose, reference_pose, reference_content)
        repeated = small_landmark_generator(mels, pose, reference_pose.expand(2, -1, -1, -1), reference_content.expand(2, -1, -1, -1))
    torch.testing.assert_close(shared, repeated)


def test_the_order_of_references_does_not_matter(small_landmark_generator: LandmarkGenerator, landmark_inputs: tuple[Tensor, ...]) -> None:
    mels, pose, reference_pose, reference_content = landmark_inputs
    with torch.no_grad():
        forwards = small_landmark_generator(mels, pose, reference_pose, reference_content)
        backwards = small_landmark_generator(mels, pose, reference_pose.flip(1), reference_content.flip(1))
    torch.testing.assert_close(forwards, backwards, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("index", range(4))
def test_every_input_matters(small_landmark_generator: LandmarkGenerator, landmark_inputs: tuple[Tensor, ...], index: int) -> None:
    changed = list(landmark_inputs)
    changed[index] = changed[index] + 0.5 * torch.rand(changed[index].shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert not torch.allclose(small_landmark_generator(*landmark_inputs), small_landmark_generator(*changed), atol=1e-4)


@pytest.mark.parametrize(("preset", "smallest", "largest"), [("published", 13.7e6, 13.75e6), ("small", 0.5e6, 1.5e6)])
def test_sizes(preset: str, smallest: float, largest: float) -> None:
    network = LandmarkGenerator(PRESETS[preset])  # type: ignore[index]
    assert smallest <= sum(parameter.numel() for parameter in network.parameters()) <= largest
    assert network.size_settings == PRESETS[preset]  # type: ignore[index]


def test_learns_one_window(landmark_inputs: tuple[Tensor, ...]) -> None:
    torch.manual_seed(0)
    network = LandmarkGenerator(PRESETS["small"])
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    target = torch.rand(2, 5, 2, 57)
    losses = []
    for _ in range(20):
        loss = torch.nn.functional.l1_loss(network(*landmark_inputs), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def test_sinusoids() -> None:
    positions = sinusoids(3, 4)
    expected = [[0, 1, 0, 1], [0.841471, 0.540302, 0.0099998, 0.99995], [0.909297, -0.416147, 0.0199987, 0.9998]]
    torch.testing.assert_close(positions, torch.tensor(expected), atol=1e-5, rtol=0)
