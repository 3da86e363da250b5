"""Fréchet inception distance (arXiv 1706.08500) by pytorch-fid's network: pooled over a whole set of pictures, in RGB.

How many pictures make it meaningful: with fewer than there are features, 2048, the covariances are singular; its authors ask for 10 000 or
more of each kind, as the distance of two samples of the very same kind is far from 0 before. Of a few dozen it serves one purpose:
to compare networks on the very same pictures, the higher figure being the worse.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from schemas.errors import CheckpointError
from schemas.locations import without_secrets
from tasks.evaluation.foreign_weights import read_state_dict
from tasks.evaluation.torchvision_ops import prepare_torchvision

FloatArray = npt.NDArray[np.float64]

POOL3 = 2048
"""Features of the last pooling: the ones that published figures are of."""
_BUILDING = threading.Lock()
"""While a network is built, what pytorch-fid loads its weights with is exchanged."""


class InceptionFeatures:
    """What pytorch-fid's Inception sees in pictures.

    weights: its state dict (`pt_inception-2015-12-05-6726825d.pth`, or the same as .safetensors), a path or URI. dims: 64, 192, 768 or
    2048, which layer is looked at. ImportError where pytorch-fid is not installed, CheckpointError when `weights` cannot be used.
    """

    def __init__(self, weights: str, device: torch.device, dims: int = POOL3) -> None:
        self._network = _network(weights, dims).to(device).eval()

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> FloatArray:
        """(B, dims) float64 of pictures (B, 3, H, W) BGR in 0..1."""
        features = self._network(pictures.flip(1))[0]
        pooled: FloatArray = adaptive_avg_pool2d(features, (1, 1)).flatten(1).double().cpu().numpy()
        return pooled


def frechet_distance(one: FloatArray, other: FloatArray) -> float:
    """The Fréchet distance of the normal distributions of two samples of features (n, dims) and (m, dims), each of 2 rows or more.

    |m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^(1/2). With C = R'R, R from the QR decomposition of the centred features, the last
    trace is the sum of the singular values of R1 R2'. That is exact also where there are fewer pictures than features and the
    covariances are singular: there pytorch-fid's root of the product has rounding errors (in the seventh digit), and takes 3000 times longer.
    NaN where a feature is no number.
    """
    if min(len(one), len(other)) < 2:
        raise ValueError("a distribution has a spread only from two pictures on")
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return float("nan")
    roots = [_root_of_covariance(features) for features in (one, other)]
    shared = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    apart = one.mean(axis=0) - other.mean(axis=0)
    return float(apart @ apart + sum(np.square(root).sum() for root in roots) - 2 * shared)


def _root_of_covariance(features: FloatArray) -> FloatArray:
    """R (at most dims rows, dims) with R'R the covariance of features (n, dims)."""
    centred = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r"))


def _network(weights: str, dims: int) -> nn.Module:
    """pytorch-fid's network with the weights of a file: its own way would look in the user's cache and download them."""
    prepare_torchvision()
    from pytorch_fid import inception  # not on the import path of training

    tensors = read_state_dict(weights)
    block = inception.InceptionV3.BLOCK_INDEX_BY_DIM[dims]
    with _weights_at_hand(inception, tensors), torch.random.fork_rng(devices=[]):
        try:
            network: nn.Module = inception.InceptionV3([block])
        except RuntimeError as error:
            raise CheckpointError(f"{without_secrets(weights)} does not hold the weights of pytorch-fid's Inception.") from error
    return network


@contextmanager
def _weights_at_hand(inception: ModuleType, tensors: dict[str, Tensor]) -> Iterator[None]:
    """Within it, pytorch-fid is given these weights where it asks for those of an address."""
    with _BUILDING:
        download = inception.load_state_dict_from_url
        inception.load_state_dict_from_url = lambda *_, **__: tensors  # type: ignore[attr-defined]
        try:
            yield
        finally:
            inception.load_state_dict_from_url = download  # type: ignore[attr-defined]
