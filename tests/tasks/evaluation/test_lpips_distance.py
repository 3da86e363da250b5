import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from schemas.errors import CheckpointError
from tasks.evaluation.lpips_distance import LpipsDistance
from tasks.evaluation.torchvision_ops import prepare_torchvision

CPU = torch.device("cpu")


def pairs() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(5)
    real = torch.nn.functional.interpolate(torch.rand(3, 3, 8, 8, generator=random), 64, mode="bilinear")
    return (real + torch.tensor([0.0, 0.05, 0.3])[:, None, None, None] * torch.randn(real.shape, generator=random)).clamp(0, 1), real


def of_the_package(weights: Path, generated: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """LPIPS as its own package gives it, AlexNet's weights loaded into torchvision's network before the package takes it apart."""
    prepare_torchvision()
    import lpips
    import torchvision

    network = torchvision.models.alexnet(weights=None)
    network.features.load_state_dict({name[9:]: tensor for name, tensor in torch.load(weights).items() if name.startswith("features.")})
    plain = torchvision.models.alexnet
    torchvision.models.alexnet = lambda **_: copy.deepcopy(network)
    try:
        distance = lpips.LPIPS(net="alex", verbose=False)
    finally:
        torchvision.models.alexnet = plain
    rgb = [pictures[:, [2, 1, 0]] * 2 - 1 for pictures in (generated, real)]
    return distance(*rgb).detach().flatten()


def test_the_same_numbers_as_the_package(alexnet_weights: Path) -> None:
    generated, real = pairs()
    distances = LpipsDistance(str(alexnet_weights), CPU)(generated, real)
    torch.testing.assert_close(distances, of_the_package(alexnet_weights, generated, real))
    assert 0 == distances[0] < distances[1] < distances[2]


def test_the_weights_that_compare_are_those_of_the_published_file(shared: Path) -> None:
    ours = torch.load(Path(__import__("lpips").__file__).parent / "weights" / "v0.1" / "alex.pth", map_location="cpu")
    published = torch.load(shared / "data" / "weights" / "lpips_v0.1_alex.pth", map_location="cpu")
    assert ours.keys() == published.keys()
    assert all(torch.equal(ours[name], published[name]) for name in ours)


def test_safetensors_serve_as_well(alexnet_weights: Path, tmp_path: Path) -> None:
    save_file(torch.load(alexnet_weights), tmp_path / "alexnet.safetensors")
    generated, real = pairs()
    one, other = (LpipsDistance(str(path), CPU)(generated, real) for path in (alexnet_weights, tmp_path / "alexnet.safetensors"))
    assert torch.equal(one, other)


def test_nothing_is_downloaded_and_no_random_number_drawn(alexnet_weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    before = torch.get_rng_state()
    LpipsDistance(str(alexnet_weights), CPU)
    assert torch.equal(torch.get_rng_state(), before)
    assert not (tmp_path / "cache").exists()


def test_other_weights_are_refused_in_a_sentence(inception_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not hold the weights of AlexNet"):
        LpipsDistance(str(inception_weights), CPU)
    with pytest.raises(CheckpointError, match="is not there"):
        LpipsDistance(str(tmp_path / "none.pth"), CPU)
