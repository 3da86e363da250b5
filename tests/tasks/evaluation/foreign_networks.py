"""Weights of AlexNet and Inception as their files have them, with seeded random numbers in place of what was learnt: nothing is downloaded."""

from pathlib import Path

import torch

from tasks.evaluation.torchvision_ops import prepare_torchvision

INCEPTION_FILE = "pt_inception-2015-12-05-6726825d.pth"
"""The name that pytorch-fid looks for in <TORCH_HOME>/hub/checkpoints."""


def write_alexnet(path: Path) -> Path:
    """A state dict in torchvision's form, with a small classifier, which nobody reads."""
    prepare_torchvision()
    from torchvision.models import alexnet

    state = seeded({name: tensor for name, tensor in alexnet(weights=None).state_dict().items() if name.startswith("features.")})
    torch.save(state | {"classifier.6.bias": torch.zeros(10)}, path)
    return path


def write_inception(path: Path) -> Path:
    """A state dict of pytorch-fid's network; its names and shapes come from the network as pytorch-fid builds it."""
    prepare_torchvision()
    from pytorch_fid import inception

    given: list[dict[str, torch.Tensor]] = []
    download, load = inception.load_state_dict_from_url, torch.nn.Module.load_state_dict
    inception.load_state_dict_from_url = lambda *_, **__: {}
    torch.nn.Module.load_state_dict = lambda network, _: given.append(network.state_dict())
    try:
        with torch.device("meta"):  # their names and shapes alone
            inception.fid_inception_v3()
    finally:
        inception.load_state_dict_from_url, torch.nn.Module.load_state_dict = download, load
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(seeded(given[0]), path)
    return path


def seeded(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """He's initialisation for what convolves, and batch normalisations that change nothing: what is seen keeps its size from layer to layer."""
    random = torch.Generator().manual_seed(7)

    def filled(name: str, shape: torch.Size) -> torch.Tensor:
        if len(shape) > 1:
            return torch.randn(shape, generator=random) * (2 / shape[1:].numel()) ** 0.5
        is_scale = name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1)
        return torch.ones(shape) if is_scale else torch.zeros(shape, dtype=torch.int64 if name.endswith("num_batches_tracked") else None)

    return {name: filled(name, tensor.shape) for name, tensor in state.items()}
