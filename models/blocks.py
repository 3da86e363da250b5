"""Layers that several networks share: convolution blocks, encoders, and the two ways of modulating a picture's features."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAK = 0.2
"""Slope of the leaky ReLU below zero, in modulated blocks and in the discriminator."""


class ConvolutionBlock(nn.Module):
    """Convolution, normalisation, activation; with `residual` the block's input is added before the activation."""

    def __init__(self, convolution: nn.Module, normalisation: nn.Module, activation: nn.Module, *, residual: bool = False) -> None:
        super().__init__()
        self.convolution = convolution
        self.normalisation = normalisation
        self.activation = activation
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels in, ...) -> (B, channels out, ...)."""
        y = self.normalisation(self.convolution(x))
        return self.activation(y + x if self.residual else y)


@dataclass(frozen=True)
class Stage:
    """A stretch of an encoder: a convolution to `width` channels, then so many residual blocks of that width."""

    width: int
    stride: int | tuple[int, int] = 1
    padding: int = 1
    residuals: int = 0


AUDIO_STAGES = (
    Stage(32, residuals=2),
    Stage(64, stride=(3, 1), residuals=2),
    Stage(128, stride=3, residuals=2),
    Stage(256, stride=(3, 2), residuals=1),
    Stage(512, padding=0),
)
"""From a mel window (1, 80, 16) to (512, 1, 1) in both networks, at the published widths."""

SMALLEST_WIDTH = 16
"""Scaled-down encoders keep this many channels (or the published number where that is less): fewer lose the input."""


def scaled_stages(stages: Iterable[Stage], width: int) -> tuple[Stage, ...]:
    """The stages with the last one `width` wide and the others in proportion, none narrower than it must be."""
    stages = tuple(stages)
    full = stages[-1].width

    def scaled(published: int) -> int:
        return max(published * width // full, min(published, SMALLEST_WIDTH))

    return tuple(Stage(scaled(stage.width), stage.stride, stage.padding, stage.residuals) for stage in stages)


def encoder(dimensions: Literal[1, 2], channels: int, stages: Iterable[Stage], last: nn.Module, *, last_residual: bool = False) -> nn.Sequential:
    """Stages of kernel 3 with ReLU, then one block of kernel 1 with the activation `last`.

    (B, channels, ...) -> (B, width of the last stage, ...), over one dimension (points) or two (pictures, mel windows).
    """
    blocks: list[ConvolutionBlock] = []
    width = channels
    for stage in stages:
        blocks.append(_block(dimensions, width, stage.width, 3, stage.stride, stage.padding, nn.ReLU()))
        width = stage.width
        blocks += [_block(dimensions, width, width, 3, 1, 1, nn.ReLU(), residual=True) for _ in range(stage.residuals)]
    blocks.append(_block(dimensions, width, width, 1, 1, 0, last, residual=last_residual))
    return nn.Sequential(*blocks)


def _block(
    dimensions: Literal[1, 2],
    channels: int,
    width: int,
    kernel: int,
    stride: int | tuple[int, int],
    padding: int,
    activation: nn.Module,
    *,
    residual: bool = False,
) -> ConvolutionBlock:
    if dimensions == 1:
        return ConvolutionBlock(nn.Conv1d(channels, width, kernel, _one(stride), padding), nn.BatchNorm1d(width), activation, residual=residual)
    return ConvolutionBlock(nn.Conv2d(channels, width, kernel, stride, padding), nn.BatchNorm2d(width), activation, residual=residual)


def _one(stride: int | tuple[int, int]) -> int:
    return stride if isinstance(stride, int) else stride[0]


@dataclass(frozen=True)
class Modulation:
    """What a condition makes of normalised features x: x (1 + gain) + shift. Tensors that broadcast over (B, C, H, W)."""

    gain: Tensor
    shift: Tensor


class SpadeLayer(nn.Module):
    """Spatially adaptive modulation (SPADE, arXiv 1903.07291): gain and shift of each pixel from a picture-like condition."""

    def __init__(self, channels: int, condition_channels: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(condition_channels, hidden, kernel_size=3, padding=1)
        self.gain = nn.Conv2d(hidden, channels, kernel_size=3, padding=1)
        self.shift = nn.Conv2d(hidden, channels, kernel_size=3, padding=1)

    def forward(self, condition: Tensor) -> Modulation:
        """Condition (B, condition channels, H, W) -> gain and shift (B, channels, H, W). Linear throughout, as published."""
        hidden = self.hidden(condition)
        return Modulation(self.gain(hidden), self.shift(hidden))


class AdaptiveInstanceLayer(nn.Module):
    """Adaptive instance modulation (AdaIN, arXiv 1703.06868): one gain and shift a channel from a vector."""

    def __init__(self, channels: int, condition_width: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(condition_width, hidden)
        self.gain = nn.Linear(hidden, channels)
        self.shift = nn.Linear(hidden, channels)

    def forward(self, condition: Tensor) -> Modulation:
        """Condition (B, condition width) -> gain and shift (B, channels, 1, 1)."""
        hidden = F.relu(self.hidden(condition))
        return Modulation(self.gain(hidden)[:, :, None, None], self.shift(hidden)[:, :, None, None])


class ModulatedBlock(nn.Module):
    """Twice: instance norm, modulation by a condition, leaky ReLU, convolution."""

    def __init__(self, channels: int, first_modulation: nn.Module, second_modulation: nn.Module) -> None:
        super().__init__()
        self.first_modulation = first_modulation
        self.first_convolution = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.second_modulation = second_modulation
        self.second_convolution = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def modulations(self, condition: Tensor) -> tuple[Modulation, Modulation]:
        """What the condition asks of the block: computed once, it serves every x that shares the condition."""
        return self.first_modulation(condition), self.second_modulation(condition)

    def modulated(self, x: Tensor, modulations: tuple[Modulation, Modulation]) -> Tensor:
        """Features (B or 1, C, H, W) under modulations of (B, C, H, W) -> (B, C, H, W)."""
        first, second = modulations
        x = self.first_convolution(_modulate(x, first))
        return self.second_convolution(_modulate(x, second))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Features (B, C, H, W) and their condition -> (B, C, H, W)."""
        return self.modulated(x, self.modulations(condition))


def spade_block(channels: int, condition_channels: int, hidden: int) -> ModulatedBlock:
    """A block that a picture-like condition of the same height and width modulates."""
    return ModulatedBlock(channels, *(SpadeLayer(channels, condition_channels, hidden) for _ in range(2)))


def adaptive_instance_block(channels: int, condition_width: int, hidden: int) -> ModulatedBlock:
    """A block that a vector modulates."""
    return ModulatedBlock(channels, *(AdaptiveInstanceLayer(channels, condition_width, hidden) for _ in range(2)))


def _modulate(x: Tensor, modulation: Modulation) -> Tensor:
    x = F.instance_norm(x)
    return F.leaky_relu(torch.addcmul(x + modulation.shift, x, modulation.gain), LEAK)
