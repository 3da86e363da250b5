"""SyncNet takes the published weights by their published names, and nothing else."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.syncnet import RENAMED, SyncNet, load_syncnet, our_name
from schemas.errors import CheckpointError

CONVOLUTIONS: dict[str, dict[int, tuple[int, ...]]] = {
    "netcnnaud": {0: (64, 1, 3, 3), 4: (192, 64, 3, 3), 8: (384, 192, 3, 3), 11: (256, 384, 3, 3), 14: (256, 256, 3, 3), 18: (512, 256, 5, 4)},
    "netcnnlip": {0: (96, 3, 5, 7, 7), 4: (256, 96, 1, 5, 5), **dict.fromkeys((8, 11, 14), (256, 256, 1, 3, 3)), 18: (512, 256, 1, 6, 6)},
    "netfcaud": {0: (512, 512)},
    "netfclip": {0: (512, 512)},
}
"""Modules of the published state dict: number and weight's shape of each layer that a normalisation follows under the next number."""


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    """A state dict of the published names and shapes, filled at random, as old as the published one: without batch counters."""
    torch.manual_seed(0)
    state = filled("netfcaud.3", (1024, 512)) | filled("netfclip.3", (1024, 512))
    for module, layers in CONVOLUTIONS.items():
        for number, shape in layers.items():
            state |= filled(f"{module}.{number}", shape) | normalised(f"{module}.{number + 1}", shape[0])
    return state


def filled(layer: str, shape: tuple[int, ...]) -> dict[str, Tensor]:
    fan_in = torch.Size(shape[1:]).numel()
    return {f"{layer}.weight": torch.randn(shape) * (2 / fan_in) ** 0.5, f"{layer}.bias": torch.randn(shape[0]) * 0.1}


def normalised(layer: str, width: int) -> dict[str, Tensor]:
    names = ("weight", "bias", "running_mean", "running_var")
    return {f"{layer}.{name}": 0.5 + torch.rand(width) if name in ("weight", "running_var") else 0.1 * torch.randn(width) for name in names}


@pytest.fixture(scope="module")
def network(published: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> SyncNet:
    path = tmp_path_factory.mktemp("syncnet") / "syncnet_v2.model"
    torch.save(published, path, _use_new_zipfile_serialization=False)  # as files of its time are
    return load_syncnet(str(path))


def test_every_published_tensor_has_its_place(network: SyncNet, published: dict[str, Tensor]) -> None:
    ours = network.state_dict()
    assert {our_name(name) for name in published} == {name for name in ours if not name.endswith("num_batches_tracked")}
    assert all(torch.equal(ours[our_name(name)], tensor) for name, tensor in published.items())
    assert not network.training


def test_shapes_and_windows(network: SyncNet) -> None:
    """Each face embedding sees its five frames and no other."""
    pictures = 255 * torch.rand(7, 3, 224, 224)
    with torch.inference_mode():
        at_once = network.embed_faces(pictures)
        alone = network.embed_faces(pictures[1:6])
        sounds = network.embed_sounds(torch.randn(4, 13, 20))
    assert at_once.shape == (3, 1024)
    assert sounds.shape == (4, 1024)
    assert torch.allclose(at_once[1:2], alone, rtol=1e-3, atol=0.1)
    assert not torch.allclose(at_once[:1], alone, rtol=1e-3, atol=0.1)


def test_a_half_precision_copy_is_used_in_full(published: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"state_dict": {f"module.{name}": tensor.half() for name, tensor in published.items()}}, tmp_path / "half.pth")
    network = load_syncnet(str(tmp_path / "half.pth"))
    assert {tensor.dtype for tensor in network.parameters()} == {torch.float32}


@pytest.mark.parametrize("change", ["missing", "renamed", "reshaped", "other network"])
def test_another_file_is_refused_in_one_sentence(published: dict[str, Tensor], tmp_path: Path, change: str) -> None:
    state = dict(published)
    weight = state.pop("netfclip.3.weight")
    if change != "missing":
        state["netfclip.4.weight" if change == "renamed" else "netfclip.3.weight"] = weight.T if change == "reshaped" else weight
    path = tmp_path / "other.model"
    torch.save({"fusion_transformer.weight": weight} if change == "other network" else state, path)
    with pytest.raises(CheckpointError, match=r"^\S+ does not hold the weights of SyncNet \(syncnet_v2.model\)\.$"):
        load_syncnet(str(path))


def test_what_is_not_there_or_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "text.model").write_text("no weights")
    with pytest.raises(CheckpointError, match="is not there"):
        load_syncnet(str(tmp_path / "none.model"))
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_syncnet(str(tmp_path / "text.model"))


def test_a_name_that_is_none_of_its_is_not_guessed() -> None:
    assert {our_name(f"{module}.0.weight").partition(".")[0] for module in RENAMED} == set(RENAMED.values())
    with pytest.raises(KeyError):
        our_name("netcnnface.0.weight")
