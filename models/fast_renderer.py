"""The renderer for inference: the pictures of `models.renderer` for a fraction of the work.

What the references alone decide is computed once a reference set, what the sketches alone decide once a frame; convolutions are folded
(`models.folding`); pictures lie in memory with their channels innermost. Statistics, flows, grids and warps are float32 whatever the precision.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks import LEAK, ModulatedBlock
from models.folding import NarrowConvolution, Scaling, fast_modulation, without_batch_norms
from models.renderer import (
    OUTPUT_LEAK,
    WEIGHT_FLOOR,
    FlowModule,
    Renderer,
    TranslationModule,
    WarpedReferences,
    at_half_size,
    half_grid,
    masked,
    sample,
    sampling_grid,
)

SMALLEST_VARIANCE = 1e-5
"""Added to an instance norm's variance, as torch does."""
ENCODED_AT_ONCE = 5
"""References encoded at once: it is done once a video, so what counts is the memory."""
COPIES_A_REFERENCE = 12
"""Memory that one more reference takes while it is warped, in feature maps of (width, S / 2, S / 2): 8 to 11.4 measured."""
COPIES_A_FRAME = 32
"""Memory that one more frame takes while it is translated, in the same feature maps: up to 27 measured."""
MOST_FRAMES = 32
"""Frames at once beyond which a GPU gains nothing: each is millions of pixels to its convolutions already."""
MOST_FRAMES_ON_CPU = 4
"""A CPU is busy with one frame; a few share the small layers' cost."""


@dataclass(frozen=True)
class Room:
    """How much is computed at once."""

    references: int
    """Warped at once onto one target."""
    frames: int
    """Translated at once."""

    @classmethod
    def within(cls, memory_bytes: float, network: "FastRenderer", size_px: int, references: int, *, compiled: bool = False) -> Self:
        """The most that fits into so many bytes; on a CPU one reference, for it gains nothing from more, and touches less memory.

        compiled: a power of two of frames. Each number is compiled anew, for minutes, and free memory is never the same twice.
        """
        map_bytes = network.width * (size_px // 2) ** 2 * network.dtype.itemsize
        on_cpu = next(network.parameters()).device.type == "cpu"
        warped = 1 if on_cpu else min(references, int(memory_bytes / (COPIES_A_REFERENCE * map_bytes)))
        frames = min(MOST_FRAMES_ON_CPU if on_cpu else MOST_FRAMES, int(memory_bytes / (COPIES_A_FRAME * map_bytes)))
        return cls(max(warped, 1), _power_of_two(max(frames, 1)) if compiled else max(frames, 1))


@dataclass(frozen=True)
class KnownReferences:
    """A set of N references as every target sees it; float32 but for `normalised`."""

    faces: Tensor
    """(N, 3, S, S)"""
    fine: Tensor
    """(N, width / 8, S, S)"""
    coarse: Tensor
    """(N, width, S / 2, S / 2)"""
    normalised: Tensor
    """`coarse` behind the flow module's first instance norm, in the renderer's precision."""

    def __len__(self) -> int:
        return len(self.faces)

    def parts(self, size: int) -> Iterator["KnownReferences"]:
        """The set in pieces of so many references, the last one perhaps smaller."""
        pieces = (torch.split(values, size) for values in (self.faces, self.fine, self.coarse, self.normalised))
        return (KnownReferences(*piece) for piece in zip(*pieces, strict=True))


@dataclass(frozen=True)
class Sums:
    """Warped references of one target added up by their weights, float32; added to in place."""

    face: Tensor
    fine: Tensor
    coarse: Tensor
    weight: Tensor

    @classmethod
    def none_yet(cls, references: KnownReferences) -> Self:
        """Zeros of the right shapes: (1, channels, height, width) each."""
        face, fine, coarse = (torch.zeros(1, *x.shape[1:], device=x.device) for x in (references.faces, references.fine, references.coarse))
        return cls(face, fine, coarse, torch.zeros_like(face[:, :1]))

    def mean(self) -> WarpedReferences:
        """Sums by weight / (sum of weights + 1e-5), in place of the sums."""
        total = self.weight + WEIGHT_FLOOR
        return WarpedReferences(self.face.div_(total), self.fine.div_(total), self.coarse.div_(at_half_size(total)))


BlockScalings = tuple[Scaling, Scaling]


class FastBlock(nn.Module):
    """A modulated block whose normalisations are computed by the caller or here, whichever comes first."""

    def __init__(self, block: ModulatedBlock) -> None:
        super().__init__()
        self.first_modulation = fast_modulation(block.first_modulation)
        self.first_convolution = deepcopy(block.first_convolution)
        self.second_modulation = fast_modulation(block.second_modulation)
        self.second_convolution = deepcopy(block.second_convolution)

    def scalings(self, condition: Tensor) -> BlockScalings:
        """What the condition asks of the block."""
        return self.first_modulation(condition), self.second_modulation(condition)

    def scaled(self, normalised_x: Tensor, scalings: BlockScalings) -> Tensor:
        """Features (B, C, H, W) already normalised, under scalings of (B or 1, C, H, W) -> (B, C, H, W)."""
        x = self.first_convolution(_scaled(normalised_x, scalings[0]))
        y: Tensor = self.second_convolution(_scaled(normalised(x), scalings[1]))
        return y

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Features (B, C, H, W) and their condition -> (B, C, H, W)."""
        return self.scaled(normalised(x), self.scalings(condition))


class FastFlow(nn.Module):
    """The flow module and the warp behind it."""

    def __init__(self, flow: FlowModule, dtype: torch.dtype) -> None:
        super().__init__()
        self.reference_encoder = without_batch_norms(flow.reference_encoder)
        self.coarse_block_1, self.coarse_block_2, self.fine_block = (
            FastBlock(block).to(dtype) for block in (flow.coarse_block_1, flow.coarse_block_2, flow.fine_block)
        )
        self.flow_head = NarrowConvolution(flow.flow_head)
        self.weight_hidden = deepcopy(flow.weight_hidden).to(dtype)
        self.weight_head = NarrowConvolution(flow.weight_head).to(dtype)

    def scalings(self, sketches: Tensor) -> tuple[BlockScalings, BlockScalings, BlockScalings]:
        """What one target's sketches (1, 15, S, S) ask of the three blocks."""
        half = _innermost(at_half_size(sketches))
        return self.coarse_block_1.scalings(half), self.coarse_block_2.scalings(half), self.fine_block.scalings(sketches)

    def forward(self, references: KnownReferences, scalings: tuple[BlockScalings, BlockScalings, BlockScalings], sums: Sums) -> None:
        """Adds K references, warped onto the target that the scalings come from, to its sums."""
        flow, weight = self.flow(references.normalised, scalings)
        grid = sampling_grid(flow)
        _add(sums.face, weight, sample(references.faces, grid))
        _add(sums.fine, weight, sample(references.fine, grid))
        _add(sums.coarse, at_half_size(weight), sample(references.coarse, half_grid(grid)))
        sums.weight.add_(weight.sum(0, keepdim=True))

    def flow(self, normalised_references: Tensor, scalings: tuple[BlockScalings, BlockScalings, BlockScalings]) -> tuple[Tensor, Tensor]:
        """(K, width, S / 2, S / 2) -> flow (K, 2, S, S) in pixels, x then y, and weight (K, 1, S, S) in 0..1, float32."""
        x = self.coarse_block_1.scaled(normalised_references, scalings[0])
        x = self.coarse_block_2.scaled(normalised(x), scalings[1])
        x = self.fine_block.scaled(normalised(F.pixel_shuffle(x, 2)), scalings[2])
        weight = self.weight_head(F.relu(self.weight_hidden(x)))
        return self.flow_head(x.float()), torch.sigmoid(weight.float())


class FastTranslation(nn.Module):
    """The translation module."""

    def __init__(self, translation: TranslationModule, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.audio_encoder = without_batch_norms(translation.audio_encoder).to(dtype)
        self.target_encoder = without_batch_norms(translation.target_encoder).to(dtype)
        self.coarse_reference_block = FastBlock(translation.coarse_reference_block).to(dtype)
        self.coarse_audio_block = FastBlock(translation.coarse_audio_block).to(dtype)
        self.fine_reference_block = FastBlock(translation.fine_reference_block).to(dtype)
        self.fine_audio_block = FastBlock(translation.fine_audio_block).to(dtype)
        self.face_block = FastBlock(translation.face_block).to(dtype)
        self.output_head = NarrowConvolution(translation.output_head)

    def forward(self, target: Tensor, warped: WarpedReferences, mel: Tensor) -> Tensor:
        """Masked face and sketches (B, 18, S, S), mel (B, 1, 80, 16) -> face (B, 3, S, S) in 0..1, float32."""
        audio = self.audio_encoder(mel.to(self.dtype)).flatten(1)
        face, fine, coarse = (_innermost(values.to(self.dtype)) for values in (warped.face, warped.fine, warped.coarse))
        _, x = self.target_encoder(_innermost(target.to(self.dtype)))
        x = self.coarse_reference_block(x, coarse)
        x = F.pixel_shuffle(self.coarse_audio_block(x, audio), 2)
        x = self.fine_reference_block(x, fine)
        x = self.fine_audio_block(x, audio)
        x = self.face_block(x, face)
        return torch.sigmoid(self.output_head(F.leaky_relu(x.float(), OUTPUT_LEAK)))


class FastRenderer(nn.Module):
    """A renderer for dubbing: one reference set, any number of targets. Made from a loaded `Renderer`, which stays as it is."""

    def __init__(self, renderer: Renderer, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype = dtype
        self.width = renderer.size_settings.width
        self.flow = FastFlow(renderer.flow, dtype)
        self.translation = FastTranslation(renderer.translation, dtype)

    @classmethod
    def of(cls, renderer: Renderer, dtype: torch.dtype = torch.float32) -> Self:
        """The same network on the same device, in `dtype`: float32 (exact), bfloat16 or float16."""
        fast = cls(renderer, dtype).eval().requires_grad_(requires_grad=False)
        fast.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs know of tensors only
        return fast.to(next(renderer.parameters()).device)

    def compile(self, *arguments: object, **options: object) -> None:
        """Has torch compile what is computed once a reference and once a frame; takes minutes at the first frame."""
        self.flow.compile(*arguments, **options)
        self.translation.compile(*arguments, **options)

    def encode_references(self, faces: Tensor, sketches: Tensor) -> KnownReferences:
        """What is known of references (N, 3, S, S) and their sketches (N, 3, S, S), both float32, whatever the target."""
        both = torch.split(torch.cat([faces, sketches], dim=1), ENCODED_AT_ONCE)
        fine, coarse = zip(*(self.flow.reference_encoder(_innermost(part)) for part in both), strict=True)
        known = _innermost(torch.cat(coarse))
        return KnownReferences(faces, _innermost(torch.cat(fine)), known, normalised(known.clone()).to(self.dtype))

    def warp(self, references: KnownReferences, sketches: Tensor, references_at_once: int = 1) -> WarpedReferences:
        """References warped onto the targets of sketches (B, 5, 3, S, S), summed by weight / (sum of weights + 1e-5); float32."""
        targets = torch.split(sketches.flatten(1, 2).to(self.dtype), 1)
        warped = [self._warp_onto(references, _innermost(target), references_at_once) for target in targets]
        return WarpedReferences(*(torch.cat(values) for values in zip(*((one.face, one.fine, one.coarse) for one in warped), strict=True)))

    def _warp_onto(self, references: KnownReferences, sketches: Tensor, references_at_once: int) -> WarpedReferences:
        sums, scalings = Sums.none_yet(references), self.flow.scalings(sketches)
        for part in references.parts(references_at_once):
            self.flow(part, scalings, sums)
        return sums.mean()

    def translate(self, face: Tensor, sketches: Tensor, warped: WarpedReferences, mel: Tensor) -> Tensor:
        """The generated faces (B, 3, S, S) in 0..1, float32; arguments as in `Renderer.forward`."""
        generated: Tensor = self.translation(torch.cat([masked(face), sketches.flatten(1, 2)], dim=1), warped, mel)
        return generated


def normalised(x: Tensor) -> Tensor:
    """Instance norm of (B, C, H, W) in its own layout and dtype, with float32 statistics. x is used up: it may be overwritten.

    Written out, for torch's instance norm would copy pictures whose channels are innermost. For bfloat16 on CPUs group norm, of one channel
    a group, is the faster one; for float32 it is not exact enough: it adds up a picture's pixels one by one.
    """
    if x.device.type == "cpu" and x.dtype is not torch.float32:
        return F.group_norm(x, x.shape[1], eps=SMALLEST_VARIANCE)
    centred = x.float()
    centred.sub_(_mean(centred))
    return centred.mul_(torch.rsqrt(_mean(centred.square()) + SMALLEST_VARIANCE)).to(x.dtype)


def _mean(x: Tensor) -> Tensor:
    """Of each channel: (B, C, 1, 1)."""
    return x.mean((2, 3), keepdim=True)


def _scaled(x: Tensor, scaling: Scaling) -> Tensor:
    return F.leaky_relu_(torch.addcmul(scaling.shift, x, scaling.scale), LEAK)


def _add(total: Tensor, weight: Tensor, values: Tensor) -> None:
    """total (1, C, H, W) += the sum over K of weight (K, 1, H, W) times values (K, C, H, W)."""
    if len(values) == 1:
        total.addcmul_(weight, values)
    else:
        total.add_((weight * values).sum(0, keepdim=True))


def _power_of_two(most: int) -> int:
    return 1 << (most.bit_length() - 1)


def _innermost(x: Tensor) -> Tensor:
    """x (B, C, H, W), laid out with its channels innermost."""
    return x.contiguous(memory_format=torch.channels_last)
