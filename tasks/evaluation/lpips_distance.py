"""LPIPS (arXiv 1801.03924): distance of pictures as people judge it, by AlexNet's features and the weights of their comparison."""

import contextlib
import io
import re
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from schemas.errors import CheckpointError
from schemas.locations import without_secrets
from tasks.evaluation.foreign_weights import fill, read_state_dict
from tasks.evaluation.torchvision_ops import prepare_torchvision

CONVOLUTION = re.compile(r"^features\.(\d+)\.(weight|bias)$")
"""AlexNet's convolutions as torchvision names them; what classifies is not wanted."""


class LpipsDistance:
    """LPIPS 0.1 with AlexNet. The weights that compare features lie in the package `lpips`; AlexNet's own come from `weights`.

    weights: AlexNet's state dict in torchvision's form, .pth or .safetensors, a path or URI. ImportError where the package is not
    installed, CheckpointError when `weights` cannot be used.
    """

    def __init__(self, weights: str, device: torch.device) -> None:
        self._network = _network()
        tensors = read_state_dict(weights)
        fill(self._network.net, _as_slices(self._network.net, tensors, weights), weights, "AlexNet")
        self._network.to(device)

    @torch.no_grad()
    def __call__(self, generated: Tensor, real: Tensor) -> Tensor:
        """(B,) of pictures (B, 3, H, W) BGR in 0..1: 0 for equal ones, larger for more different ones."""
        distances: Tensor = self._network(generated.flip(1), real.flip(1), normalize=True)
        return distances.flatten()


def _network() -> Any:
    """The package's network with its own comparing weights and a backbone to be filled; draws none of the global random numbers."""
    prepare_torchvision()
    import lpips  # not on the import path of training

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # it calls torchvision in a way that is going out of use
        return lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)


def _as_slices(backbone: nn.Module, tensors: dict[str, Tensor], location: str) -> dict[str, Tensor]:
    """AlexNet's convolutions under the package's names, which cuts the network into slices and keeps the layers' numbers."""
    names = {name.split(".", 1)[1]: name for name in backbone.state_dict()}
    wanted = {f"{match[1]}.{match[2]}": tensor for name, tensor in tensors.items() if (match := CONVOLUTION.match(name))}
    if wanted.keys() != names.keys():
        raise CheckpointError(f"{without_secrets(location)} does not hold the weights of AlexNet in torchvision's form.")
    return {names[name]: tensor for name, tensor in wanted.items()}
