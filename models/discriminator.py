"""The discriminator: a two-scale 70x70 PatchGAN (arXiv 1711.11585; contract: Networks)."""

import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks import LEAK, ConvolutionBlock

WIDTHS = (64, 128, 256, 512)
STRIDES = (2, 2, 2, 1)
WEIGHT_SPREAD = 0.02
"""Standard deviation of the weights at the start, as usual for PatchGANs."""


class Discriminator(nn.Module):
    """Judges patches of a face at full and at half size."""

    def __init__(self) -> None:
        super().__init__()
        self.full_size = _patch_discriminator()
        self.half_size = _patch_discriminator()
        self.apply(_initialise)

    def forward(self, face: Tensor) -> list[list[Tensor]]:
        """Faces (B, 3, S, S) in 0..1 -> for full, then half size: the features of its five layers; the last is the prediction (B, 1, h, w)."""
        half = F.avg_pool2d(face, kernel_size=3, stride=2, padding=1, count_include_pad=False)
        return [_layer_by_layer(self.full_size, face), _layer_by_layer(self.half_size, half)]


def _patch_discriminator() -> nn.Sequential:
    layers = []
    channels = 3
    for index, (width, stride) in enumerate(zip(WIDTHS, STRIDES, strict=True)):
        normalisation = nn.InstanceNorm2d(width) if index else nn.Identity()
        layers.append(ConvolutionBlock(_convolution(channels, width, stride), normalisation, nn.LeakyReLU(LEAK)))
        channels = width
    layers.append(ConvolutionBlock(_convolution(channels, 1, 1), nn.Identity(), nn.Identity()))
    return nn.Sequential(*layers)


def _convolution(channels: int, width: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, width, kernel_size=4, stride=stride, padding=2)


def _layer_by_layer(layers: nn.Sequential, x: Tensor) -> list[Tensor]:
    features = []
    for layer in layers:
        x = layer(x)
        features.append(x)
    return features


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, WEIGHT_SPREAD)
