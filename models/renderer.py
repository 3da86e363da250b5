"""The renderer: landmark sketches, reference pictures and speech to a face (paper 3.2; contract: Networks).

In three steps that can be called one by one, so that what frames share is computed once: `encode_references` (once a
reference set), `warp` (references onto the target sketches) and `translate` (the warped face and features to a picture).
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks import AUDIO_STAGES, ConvolutionBlock, Modulation, adaptive_instance_block, encoder, scaled_stages, spade_block
from schemas.checkpoints import CheckpointHeader, RendererSize

PRESETS: dict[Literal["published", "small"], RendererSize] = {
    "published": RendererSize(),
    "small": RendererSize(width=64),
}

SKETCHES = 5
"""Sketches around the target frame that the renderer sees."""
SKETCH_CHANNELS = 3 * SKETCHES
WEIGHT_FLOOR = 1e-5
"""Added to the sum of reference weights, so that a pixel no reference speaks for is black and not undefined."""
OUTPUT_LEAK = 0.01
"""Slope below zero of the last leaky ReLU; unlike all the others."""


@dataclass(frozen=True)
class EncodedReferences:
    """Reference sets R (one for all targets, or one each) of N pictures, at full (fine) and half (coarse) resolution."""

    faces: Tensor
    """(R, N, 3, S, S)"""
    fine: Tensor
    """(R, N, width / 8, S, S)"""
    coarse: Tensor
    """(R, N, width, S / 2, S / 2)"""


@dataclass(frozen=True)
class WarpedReferences:
    """References warped onto B targets and summed by their weights."""

    face: Tensor
    """(B, 3, S, S)"""
    fine: Tensor
    """(B, width / 8, S, S)"""
    coarse: Tensor
    """(B, width, S / 2, S / 2)"""


@dataclass(frozen=True)
class SketchModulations:
    """What the target sketches ask of the flow module's blocks; the same for every reference of a frame."""

    coarse_1: tuple[Modulation, Modulation]
    coarse_2: tuple[Modulation, Modulation]
    fine: tuple[Modulation, Modulation]


class PictureEncoder(nn.Module):
    """A picture at full resolution (width / 8 channels) and at half (width channels)."""

    def __init__(self, channels: int, width: int, *, bias: bool) -> None:
        super().__init__()
        fine = width // 8
        self.fine = ConvolutionBlock(nn.Conv2d(channels, fine, kernel_size=7, padding=3, bias=bias), nn.BatchNorm2d(fine), nn.ReLU())
        self.coarse = ConvolutionBlock(nn.Conv2d(fine, width, kernel_size=3, stride=2, padding=1, bias=bias), nn.BatchNorm2d(width), nn.ReLU())

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """(B, channels, S, S) -> fine (B, width / 8, S, S), coarse (B, width, S / 2, S / 2)."""
        fine = self.fine(picture)
        return fine, self.coarse(fine)


class FlowModule(nn.Module):
    """Where each pixel of a target comes from in a reference, and how far that reference is to be trusted there."""

    def __init__(self, width: int) -> None:
        super().__init__()
        fine = width // 4
        self.reference_encoder = PictureEncoder(6, width, bias=True)
        self.coarse_block_1 = spade_block(width, SKETCH_CHANNELS, hidden=width)
        self.coarse_block_2 = spade_block(width, SKETCH_CHANNELS, hidden=width)
        self.fine_block = spade_block(fine, SKETCH_CHANNELS, hidden=width)
        self.flow_head = nn.Conv2d(fine, 2, kernel_size=7, padding=3)
        self.weight_hidden = nn.Conv2d(fine, width // 8, kernel_size=7, padding=3)
        self.weight_head = nn.Conv2d(width // 8, 1, kernel_size=7, padding=3)

    def modulations(self, sketches: Tensor) -> SketchModulations:
        """What sketches (B, 15, S, S) ask of the three blocks."""
        half = at_half_size(sketches)
        return SketchModulations(self.coarse_block_1.modulations(half), self.coarse_block_2.modulations(half), self.fine_block.modulations(sketches))

    def forward(self, coarse: Tensor, modulations: SketchModulations) -> tuple[Tensor, Tensor]:
        """Coarse features of a reference (B or 1, width, S / 2, S / 2) -> flow (B, 2, S, S) in pixels, x then y, and weight (B, 1, S, S) in 0..1."""
        x = self.coarse_block_1.modulated(coarse, modulations.coarse_1)
        x = self.coarse_block_2.modulated(x, modulations.coarse_2)
        x = self.fine_block.modulated(F.pixel_shuffle(x, 2), modulations.fine)
        weight = self.weight_head(F.relu(self.weight_hidden(x)))
        # Weights of many references are added up: in float32 whatever the precision.
        return self.flow_head(x), torch.sigmoid(weight.float())


class TranslationModule(nn.Module):
    """The masked target and its sketches to a whole face, shown the warped references and told what is heard."""

    def __init__(self, width: int) -> None:
        super().__init__()
        fine = width // 4
        audio = 2 * width
        self.audio_encoder = encoder(2, 1, scaled_stages(AUDIO_STAGES, audio), nn.ReLU())
        self.target_encoder = PictureEncoder(3 + SKETCH_CHANNELS, width, bias=False)
        self.coarse_reference_block = spade_block(width, width, hidden=width)
        self.coarse_audio_block = adaptive_instance_block(width, audio, hidden=width // 2)
        self.fine_reference_block = spade_block(fine, width // 8, hidden=width)
        self.fine_audio_block = adaptive_instance_block(fine, audio, hidden=width // 2)
        self.face_block = spade_block(fine, 3, hidden=width)
        self.output_head = nn.Conv2d(fine, 3, kernel_size=7, padding=3, bias=False)

    def forward(self, target: Tensor, warped: WarpedReferences, mel: Tensor) -> Tensor:
        """Masked face and sketches (B, 18, S, S), mel (B, 1, 80, 16) -> face (B, 3, S, S) in 0..1."""
        audio = self.audio_encoder(mel).flatten(1)
        _, x = self.target_encoder(target)
        x = self.coarse_reference_block(x, warped.coarse)
        x = F.pixel_shuffle(self.coarse_audio_block(x, audio), 2)
        x = self.fine_reference_block(x, warped.fine)
        x = self.fine_audio_block(x, audio)
        x = self.face_block(x, warped.face)
        return torch.sigmoid(self.output_head(F.leaky_relu(x, OUTPUT_LEAK)))


class Renderer(nn.Module):
    """Flow module, then translation module. Pictures are BGR in 0..1, of side S (128 or 256)."""

    header: CheckpointHeader | None = None

    def __init__(self, size: RendererSize) -> None:
        super().__init__()
        self.size_settings = size
        self.flow = FlowModule(size.width)
        self.translation = TranslationModule(size.width)

    def forward(self, face: Tensor, sketches: Tensor, reference_faces: Tensor, reference_sketches: Tensor, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Renders B faces.

        face (B, 3, S, S): the true crop, its lower half is masked inside; sketches (B, 5, 3, S, S) around the target frame;
        reference_faces and reference_sketches (B, N, 3, S, S), or (1, N, 3, S, S) shared by all; mel (B, 1, 80, 16).
        Returns generated (B, 3, S, S) in 0..1 and the warped references (B, 3, S, S).
        """
        references = self.encode_references(reference_faces, reference_sketches)
        warped = self.warp(references, sketches)
        return self.translate(face, sketches, warped, mel), warped.face

    def encode_references(self, faces: Tensor, sketches: Tensor) -> EncodedReferences:
        """What is known of references (R, N, 3, S, S) whatever the target."""
        fine, coarse = self.flow.reference_encoder(torch.cat([faces, sketches], dim=2).flatten(0, 1))
        shape = faces.shape[:2]
        return EncodedReferences(faces, fine.view(*shape, *fine.shape[1:]), coarse.view(*shape, *coarse.shape[1:]))

    def warp(self, references: EncodedReferences, sketches: Tensor) -> WarpedReferences:
        """References warped onto the targets of sketches (B, 5, 3, S, S), summed by weight / (sum of weights + 1e-5)."""
        modulations = self.flow.modulations(sketches.flatten(1, 2))
        face = fine = coarse = total = torch.zeros((), device=sketches.device)
        for index in range(references.faces.shape[1]):
            flow, weight = self.flow(references.coarse[:, index], modulations)
            grid = sampling_grid(flow)
            face = face + weight * sample(references.faces[:, index], grid)
            fine = fine + weight * sample(references.fine[:, index], grid)
            coarse = coarse + at_half_size(weight) * sample(references.coarse[:, index], half_grid(grid))
            total = total + weight
        total = total + WEIGHT_FLOOR
        return WarpedReferences(face / total, fine / total, coarse / at_half_size(total))

    def translate(self, face: Tensor, sketches: Tensor, warped: WarpedReferences, mel: Tensor) -> Tensor:
        """The generated faces (B, 3, S, S) in 0..1; arguments as in `forward`."""
        target = torch.cat([masked(face), sketches.flatten(1, 2)], dim=1)
        return self.translation(target, warped, mel)


def masked(face: Tensor) -> Tensor:
    """The faces (B, 3, S, S) with the lower half black."""
    shown = face[:, :, : face.shape[2] // 2]
    return F.pad(shown, (0, 0, 0, face.shape[2] - shown.shape[2]))


def at_half_size(x: Tensor) -> Tensor:
    """(B, C, S, S) -> (B, C, S / 2, S / 2) by nearest neighbour, which for half the size is every second pixel."""
    return x[:, :, ::2, ::2]


def sampling_grid(flow: Tensor) -> Tensor:
    """Flow (B, 2, H, W) in pixels -> places to sample (B, H, W, 2), x then y in -1..1, float32 whatever the precision.

    -1 and 1 stand for the first and the last pixel's centre here, while sampling takes them for the picture's borders
    (`align_corners` false): the published weights are trained with that small stretch.
    """
    height, width = flow.shape[2:]
    x = torch.linspace(-1, 1, width, device=flow.device)
    y = torch.linspace(-1, 1, height, device=flow.device)
    still = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=2)
    scale = torch.tensor([2 / (width - 1), 2 / (height - 1)], device=flow.device)
    return still + flow.float().permute(0, 2, 3, 1) * scale


def half_grid(grid: Tensor) -> Tensor:
    """The grid for features of half the size (B, H / 2, W / 2, 2): bilinear."""
    return F.interpolate(grid.permute(0, 3, 1, 2), scale_factor=0.5, mode="bilinear").permute(0, 2, 3, 1)


def sample(x: Tensor, grid: Tensor) -> Tensor:
    """x (B or 1, C, H, W) at the grid's places (B, H, W, 2), bilinear, zero outside."""
    x = x.expand(len(grid), -1, -1, -1)
    return F.grid_sample(x.float(), grid, align_corners=False).to(x.dtype)
