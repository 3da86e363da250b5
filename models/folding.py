"""Convolutions rewritten for inference: the same values from fewer multiplications. Weights are combined in float64.

A SPADE layer has no activation behind its hidden convolution: two 3x3 convolutions in a row are one of 5x5, but for the border. There the
published layer takes zeros for hidden values outside the picture, where the 5x5 kernel would reckon with what the hidden convolution gives
there. These values depend on the picture's outermost pixels alone, so what they add is taken off again, a strip a side.
"""

from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.blocks import AdaptiveInstanceLayer, ConvolutionBlock, SpadeLayer

CORNERS = ((0, 0), (0, 2), (2, 0), (2, 2))
"""Row and column of a 3x3 kernel's corners: upper left, upper right, lower left, lower right."""


@dataclass(frozen=True)
class Scaling:
    """What a condition makes of normalised features x: x scale + shift. Tensors that broadcast over (B, C, H, W)."""

    scale: Tensor
    shift: Tensor


class MergedSpadeLayer(nn.Module):
    """A SPADE layer whose gain and shift are one convolution."""

    def __init__(self, layer: SpadeLayer) -> None:
        super().__init__()
        self.hidden = convolution(layer.hidden.weight, layer.hidden.bias, padding=1)
        self.both = convolution(*_scale_and_shift(layer), padding=1)

    def forward(self, condition: Tensor) -> Scaling:
        """Condition (B, condition channels, H, W) -> scale and shift (B, channels, H, W)."""
        return _halves(self.both(self.hidden(condition)))


class FoldedSpadeLayer(nn.Module):
    """A SPADE layer as one 5x5 convolution and a correction of the outermost pixels; for square conditions."""

    def __init__(self, layer: SpadeLayer) -> None:
        super().__init__()
        outer, bias = _scale_and_shift(layer)
        inner, inner_bias = layer.hidden.weight.double(), _bias(layer.hidden)
        self.inside = convolution(composed(outer, inner), bias + _constant(outer, inner_bias), padding=2)
        sides = [(outer[:, :, :1], inner[:, :, 2:]), (outer[:, :, 2:], inner[:, :, :1])]
        sides += [(o.transpose(2, 3), i.transpose(2, 3)) for o, i in ((outer[..., :1], inner[..., 2:]), (outer[..., 2:], inner[..., :1]))]
        self.sides = _grouped([(-composed(o, i), -_constant(o, inner_bias)) for o, i in sides])
        corners = [(outer[:, :, r : r + 1, c : c + 1], inner[:, :, 2 - r : 3 - r, 2 - c : 3 - c]) for r, c in CORNERS]
        self.corners = _grouped([(composed(o, i), _constant(o, inner_bias)) for o, i in corners])

    def forward(self, condition: Tensor) -> Scaling:
        """Condition (B, condition channels, S, S) -> scale and shift (B, channels, S, S)."""
        values = self.inside(condition)
        top, bottom, left, right = self.sides(_strips(condition)).chunk(4, dim=1)
        values[:, :, :1] += top
        values[:, :, -1:] += bottom
        values[:, :, :, :1] += left.transpose(2, 3)
        values[:, :, :, -1:] += right.transpose(2, 3)
        # What lies outside of a corner was taken off twice: with the row and with the column.
        values[:, :, :: values.shape[2] - 1, :: values.shape[3] - 1] += self._corner_values(condition)
        return _halves(values)

    def _corner_values(self, condition: Tensor) -> Tensor:
        """(B, 2 channels, 2, 2)."""
        pixels = condition[:, :, :: condition.shape[2] - 1, :: condition.shape[3] - 1]
        values: Tensor = self.corners(pixels.permute(0, 2, 3, 1).reshape(len(condition), -1, 1, 1))
        return values.view(len(condition), 2, 2, -1).permute(0, 3, 1, 2)


class ScaledAdaptiveInstanceLayer(nn.Module):
    """An adaptive instance layer whose gain and shift are one matrix."""

    def __init__(self, layer: AdaptiveInstanceLayer) -> None:
        super().__init__()
        self.hidden = deepcopy(layer.hidden)
        self.both = nn.Linear(layer.gain.in_features, 2 * layer.gain.out_features)
        self.both.weight = nn.Parameter(torch.cat([layer.gain.weight, layer.shift.weight]).detach())
        self.both.bias = nn.Parameter(torch.cat([layer.gain.bias + 1, layer.shift.bias]).detach())

    def forward(self, condition: Tensor) -> Scaling:
        """Condition (B, condition width) -> scale and shift (B, channels, 1, 1)."""
        return _halves(self.both(F.relu(self.hidden(condition)))[:, :, None, None])


class NarrowConvolution(nn.Module):
    """A convolution to very few channels, each row of its kernel as channels of its own, which are then added up.

    Processors compute 16 channels at once or more: of a convolution to one or two, most of that work is thrown away.
    """

    def __init__(self, original: nn.Conv2d) -> None:
        super().__init__()
        weight = original.weight.double()
        self.channels, _, self.rows, columns = weight.shape
        rows = weight.transpose(1, 2).flatten(0, 1)[:, :, None]
        self.by_row = convolution(rows, None, padding=(0, columns // 2))
        self.bias = nn.Parameter(_bias(original).float().view(-1, 1, 1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels in, H, W) -> (B, channels, H, W)."""
        height = x.shape[2]
        middle = self.rows // 2
        by_row = F.pad(self.by_row(x), (0, 0, middle, middle))
        by_row = by_row.view(len(x), self.channels, self.rows, *by_row.shape[2:])
        total = self.bias + by_row[:, :, 0, :height]
        for row in range(1, self.rows):
            total += by_row[:, :, row, row : row + height]
        return total


def fast_modulation(layer: nn.Module) -> nn.Module:
    """A modulation layer as it is cheapest to compute."""
    if isinstance(layer, AdaptiveInstanceLayer):
        return ScaledAdaptiveInstanceLayer(layer)
    if not isinstance(layer, SpadeLayer):
        raise TypeError(f"{type(layer).__name__} modulates nothing")
    return FoldedSpadeLayer(layer) if folding_saves(layer) else MergedSpadeLayer(layer)


def folding_saves(layer: SpadeLayer) -> bool:
    """Whether one 5x5 convolution multiplies less often a pixel than the layer's two steps: it does for conditions of few channels."""
    condition, hidden, channels = layer.hidden.in_channels, layer.hidden.out_channels, 2 * layer.gain.out_channels
    return 25 * condition * channels < 9 * condition * hidden + 9 * hidden * channels


def composed(outer: Tensor, inner: Tensor) -> Tensor:
    """One kernel (O, C, h + h' - 1, w + w' - 1) for the kernel `inner` (M, C, h, w) and then `outer` (O, M, h', w')."""
    padding = (outer.shape[2] - 1, outer.shape[3] - 1)
    return F.conv2d(inner.transpose(0, 1), outer.flip(2, 3), padding=padding).transpose(0, 1)


def convolution(weight: Tensor, bias: Tensor | None, padding: int | tuple[int, int], groups: int = 1) -> nn.Conv2d:
    """A float32 convolution with these values, for inference."""
    kernel = (weight.shape[2], weight.shape[3])
    made = nn.Conv2d(weight.shape[1] * groups, weight.shape[0], kernel, padding=padding, groups=groups, bias=bias is not None)
    made.weight = nn.Parameter(weight.detach().float().contiguous())
    if bias is not None:
        made.bias = nn.Parameter(bias.detach().float().contiguous())
    return made.requires_grad_(requires_grad=False)


def _bias(layer: nn.Conv2d) -> Tensor:
    return layer.weight.new_zeros(layer.out_channels, dtype=torch.float64) if layer.bias is None else layer.bias.double()


def _scale_and_shift(layer: SpadeLayer) -> tuple[Tensor, Tensor]:
    """Weight (2 channels, hidden, 3, 3) and bias of the scale, which is 1 + gain, and the shift."""
    weight = torch.cat([layer.gain.weight, layer.shift.weight]).double()
    return weight, torch.cat([1 + _bias(layer.gain), _bias(layer.shift)])


def _constant(outer: Tensor, inner_bias: Tensor) -> Tensor:
    """What the inner convolution's bias gives behind the outer one."""
    return outer.sum((2, 3)) @ inner_bias


def _grouped(layers: list[tuple[Tensor, Tensor]]) -> nn.Conv2d:
    """Convolutions side by side, each with channels of its own, over strips one pixel high."""
    weights, biases = zip(*layers, strict=True)
    return convolution(torch.cat(weights), torch.cat(biases), padding=(0, weights[0].shape[3] // 2), groups=len(layers))


def _strips(x: Tensor) -> Tensor:
    """The upper and the lower row, the left and the right column of (B, C, S, S), side by side: (B, 4 C, 1, S)."""
    return torch.cat([x[:, :, :1], x[:, :, -1:], x[:, :, :, :1].transpose(2, 3), x[:, :, :, -1:].transpose(2, 3)], dim=1)


def _halves(values: Tensor) -> Scaling:
    """Each laid out by itself, for it is read many times."""
    scale, shift = values.chunk(2, dim=1)
    layout = torch.channels_last if values.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    return Scaling(scale.contiguous(memory_format=layout), shift.contiguous(memory_format=layout))


def without_batch_norms(network: nn.Module) -> nn.Module:
    """A copy of an evaluated network in which every convolution block's batch normalisation is part of its convolution.

    Its ReLUs write where they read: what comes out of a convolution or a sum is read by nothing else.
    """
    copy = deepcopy(network).eval()
    for block in copy.modules():
        if isinstance(block, ConvolutionBlock):
            block.convolution = fuse_conv_bn_eval(block.convolution, block.normalisation)  # type: ignore[type-var, arg-type]  # as blocks are built
            block.normalisation = nn.Identity()
            if isinstance(block.activation, nn.ReLU):
                block.activation.inplace = True
    return copy.requires_grad_(requires_grad=False)
