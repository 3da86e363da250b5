"""What the networks are trained towards (paper 3.1 and 3.2; contract: Training)."""

import functools
import logging
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.checkpoint import read_tensors
from models.iplap import read_published_tensors
from schemas.errors import CheckpointError
from schemas.face_points import CONTENT_INDICES

logger = logging.getLogger(__name__)

UPPER_LIPS = (CONTENT_INDICES.index(0), CONTENT_INDICES.index(13))
LOWER_LIPS = (CONTENT_INDICES.index(17), CONTENT_INDICES.index(14))
"""Outer and inner middle of each lip."""
VGG19_PLAN: tuple[int | Literal["pool"], ...] = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, 256, "pool", 512, 512, 512, 512, "pool", 512)
"""Widths of VGG-19's convolutions (arXiv 1409.1556, column E) as far as relu_5_1."""
VGG19_LAYERS = (1, 6, 11, 20, 29)
"""relu_1_1, relu_2_1, relu_3_1, relu_4_1 and relu_5_1, in the usual numbering of VGG-19's layers."""
VGG19_PREFIXES = ("perceptual.model.network.", "features.")
"""What stands before a layer's number in published renderer checkpoints, and in torchvision's and our own files."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_SPREAD = (0.229, 0.224, 0.225)
STYLE_WEIGHT = 250.0
"""Weight of the Gram matrices' difference beside the features' difference."""
SCALES = 2
"""Pictures are compared at full and at half size."""
RANDOM_SEED = 19


def velocity_loss(predicted: Tensor, real: Tensor) -> Tensor:
    """Mean over windows and frame steps of the euclidean distance of step vectors (114 numbers); content (B, 5, 2, 57) -> scalar."""
    return F.pairwise_distance(_steps(predicted), _steps(real)).mean()


def lip_opening_loss(predicted: Tensor, real: Tensor) -> Tensor:
    """Mean distance of how far the lips are apart, by the outer and by the inner middle of each; content (B, 5, 2, 57) -> scalar, shares of the box.

    L1 of 57 points hardly feels the few that open and close the mouth, and rewards a mouth that stays half open.
    """
    return F.l1_loss(_lip_openings(predicted), _lip_openings(real))


def _lip_openings(content: Tensor) -> Tensor:
    """(..., 2, 57) -> (..., 2, 2): lower minus upper lip, outer and inner."""
    return content[..., list(LOWER_LIPS)] - content[..., list(UPPER_LIPS)]


def _steps(content: Tensor) -> Tensor:
    """(B, T, 2, 57) -> (B (T - 1), 114): what changes from frame to frame."""
    return content.diff(dim=1).flatten(0, 1).flatten(1)


def discriminator_loss(real: Sequence[Sequence[Tensor]], generated: Sequence[Sequence[Tensor]]) -> Tensor:
    """Least squares: real predictions towards 1, generated ones towards 0; summed over scales, halved. Takes the discriminator's outputs."""
    return 0.5 * (_distance_from(1.0, real) + _distance_from(0.0, generated))


def adversarial_loss(generated: Sequence[Sequence[Tensor]]) -> Tensor:
    """Least squares: predictions for generated faces towards 1, summed over scales. Takes the discriminator's output."""
    return _distance_from(1.0, generated)


def feature_matching_loss(real: Sequence[Sequence[Tensor]], generated: Sequence[Sequence[Tensor]]) -> Tensor:
    """L1 between the discriminator's features of real and generated faces, each layer weighted 4 / (layers + 1) / scales.

    `layers` counts as the original does: all but the first and the last. The real features are taken as constants.
    """
    losses = []
    for real_layers, generated_layers in zip(real, generated, strict=True):
        weight = 4.0 / (len(real_layers) - 1) / len(real)
        losses += [weight * _distance(fake, true.detach()) for true, fake in zip(real_layers[:-1], generated_layers[:-1], strict=True)]
    return torch.stack(losses).sum()


def _distance_from(target: float, outputs: Sequence[Sequence[Tensor]]) -> Tensor:
    return torch.stack([(layers[-1].float() - target).square().mean() for layers in outputs]).sum()


def _distance(ours: Tensor, theirs: Tensor) -> Tensor:
    """Mean absolute difference, added up in float32 whatever the precision."""
    return (ours - theirs).abs().mean(dtype=torch.float32)


Features = list[list[Tensor]]
"""VGG features by scale (full, half), then by layer."""


class PerceptualLoss(nn.Module):
    """Distance of VGG-19 features at two scales, and with `style` also of their Gram matrices at full scale.

    `weights`: VGG-19 features as safetensors (our import's `*.vgg19.safetensors`, or torchvision's names), or a published
    renderer checkpoint (`.pth`) that carries them. None: seeded random features, with a warning; `source` says which.
    Pictures are BGR in 0..1 and go to the VGG as if they were RGB in -1..1: so the published weights were trained.
    The parameters are frozen. Raises CheckpointError when `weights` cannot be used.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        self.source: Literal["imagenet", "seeded-random"] = "seeded-random" if weights is None else "imagenet"
        self.features = _vgg19_features()
        if weights is None:
            _warn_of_random_features()
            _fill_at_random(self.features)
        else:
            self.features.load_state_dict(read_vgg19(weights))
        self.features.requires_grad_(requires_grad=False)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("spread", torch.tensor(IMAGENET_SPREAD).view(1, 3, 1, 1), persistent=False)

    def forward(self, generated: Tensor, real: Tensor | Features, style: bool) -> Tensor:
        """generated (B, 3, S, S) against real (B, 3, S, S), or against `features_of` real ones computed before -> scalar."""
        if isinstance(real, Tensor):
            real = self.features_of(real)
        found = self._features(generated)
        loss = torch.stack([_distance(ours, theirs) for pair in zip(found, real, strict=True) for ours, theirs in zip(*pair, strict=True)]).sum()
        if not style:
            return loss
        grams = [F.l1_loss(gram(ours), gram(theirs)) for ours, theirs in zip(found[0], real[0], strict=True)]
        return loss + STYLE_WEIGHT * torch.stack(grams).sum()

    @torch.no_grad()
    def features_of(self, real: Tensor) -> Features:
        """Features of real pictures (B, 3, S, S): computed once, they serve the warp loss and the perceptual loss of a step."""
        return self._features(real)

    def _features(self, pictures: Tensor) -> Features:
        x = ((pictures + 1) / 2 - self.mean) / self.spread
        scales = []
        for scale in range(SCALES):
            if scale:
                x = F.interpolate(x, scale_factor=0.5, mode="bilinear", recompute_scale_factor=True)
            scales.append(self._layers(x))
        return scales

    def _layers(self, x: Tensor) -> list[Tensor]:
        found = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in VGG19_LAYERS:
                found.append(x)
        return found


def gram(features: Tensor) -> Tensor:
    """Gram matrices (B, C, C), float32, of features (B, C, H, W), divided by C H W."""
    with torch.autocast(features.device.type, enabled=False):  # sums of ten thousands of products: beyond fp16's range and bf16's digits
        flat = features.flatten(2).float()
        return flat @ flat.transpose(1, 2) / flat[0].numel()


def read_vgg19(location: str) -> dict[str, Tensor]:
    """VGG-19's convolutions as far as relu_5_1, named `<layer>.weight` and `<layer>.bias` in the usual numbering.

    Raises CheckpointError when the file cannot be read or does not hold them.
    """
    tensors = read_tensors(location) if location.endswith(".safetensors") else read_published_tensors(location).tensors
    wanted = _vgg19_features().state_dict()
    found = {}
    for name, tensor in tensors.items():
        short = functools.reduce(str.removeprefix, VGG19_PREFIXES, name)
        if short in wanted and tensor.shape == wanted[short].shape:
            found[short] = tensor.float()
    if found.keys() != wanted.keys():
        raise CheckpointError(f"{location} does not hold the features of VGG-19; give a published renderer checkpoint or the .vgg19.safetensors of its import.")
    return found


def _vgg19_features() -> nn.Sequential:
    """The layers without their weights' values: whoever calls fills them. Draws no random numbers."""
    layers: list[nn.Module] = []
    channels = 3
    with torch.device("meta"):
        for step in VGG19_PLAN:
            if step == "pool":
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(channels, step, kernel_size=3, padding=1), nn.ReLU(inplace=True)]
                channels = step
    return nn.Sequential(*layers).to_empty(device="cpu").eval()


def _fill_at_random(features: nn.Sequential) -> None:
    """He's initialisation (arXiv 1502.01852) from a fixed seed: features keep their size from layer to layer."""
    generator = torch.Generator().manual_seed(RANDOM_SEED)
    for layer in features:
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)


@functools.cache
def _warn_of_random_features() -> None:
    """Once a process."""
    logger.warning(
        "NO IMAGENET WEIGHTS: the perceptual loss uses seeded random VGG-19 features, which make blurrier faces; "
        "give `perceptual_weights` a published renderer checkpoint or the .vgg19.safetensors of its import."
    )
