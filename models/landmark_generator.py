"""The landmark generator: speech, head pose and reference faces to mouth and jaw landmarks (paper 3.1; contract: Networks)."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from models.blocks import AUDIO_STAGES, Stage, encoder, scaled_stages
from schemas.checkpoints import CheckpointHeader, LandmarkGeneratorSize

PRESETS: dict[Literal["published", "small"], LandmarkGeneratorSize] = {
    "published": LandmarkGeneratorSize(),
    "small": LandmarkGeneratorSize(width=128, layers=2, heads=4, feed_forward=256),
}

WINDOW_FRAMES = 5
"""Video frames that are generated together."""
MOUTH_POINTS = 40
JAW_POINTS = 17

# Rows of the modality embedding. Row 0 stands for no modality: it stays zero and is never looked up.
POSE, AUDIO, REFERENCE = 1, 2, 3

FACE_STAGES = (
    Stage(4),
    Stage(8, stride=2, residuals=2),
    Stage(16, stride=2, residuals=2),
    Stage(32, stride=2, residuals=2),
    Stage(64, stride=2, residuals=2),
    Stage(128, stride=2, residuals=2),
    Stage(256, stride=2, residuals=1),
    Stage(512, padding=0),
)
"""From a full face (2, 131) to (512, 1)."""
POSE_STAGES = (
    Stage(4),
    Stage(8, residuals=2),
    Stage(16, stride=2, residuals=2),
    Stage(32, stride=2, residuals=2),
    Stage(64, stride=2, residuals=2),
    Stage(128, stride=2, residuals=2),
    Stage(256, stride=2, residuals=2),
    Stage(512, padding=0),
)
"""From a pose (2, 74) to (512, 1)."""


class LandmarkGenerator(nn.Module):
    """A transformer over tokens of references, audio and pose; audio tokens give the mouth, pose tokens the jaw."""

    positions: Tensor
    header: CheckpointHeader | None = None

    def __init__(self, size: LandmarkGeneratorSize) -> None:
        super().__init__()
        self.size_settings = size
        width = size.width
        self.audio_encoder = encoder(2, 1, scaled_stages(AUDIO_STAGES, width), nn.Tanh())
        self.pose_encoder = encoder(1, 2, scaled_stages(POSE_STAGES, width), nn.Tanh(), last_residual=True)
        self.face_encoder = encoder(1, 2, scaled_stages(FACE_STAGES, width), nn.Tanh())
        self.modality = nn.Embedding(4, width, padding_idx=0)
        self.dropout = nn.Dropout(size.dropout)
        layer = nn.TransformerEncoderLayer(width, size.heads, size.feed_forward, size.dropout, batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, size.layers, enable_nested_tensor=False)
        self.mouth_head = nn.Linear(width, 2 * MOUTH_POINTS)
        self.jaw_head = nn.Linear(width, 2 * JAW_POINTS)
        self.apply(_initialise)
        self.token_normalisation = nn.LayerNorm(width)
        self.register_buffer("positions", sinusoids(WINDOW_FRAMES, width), persistent=False)

    def forward(self, mels: Tensor, pose: Tensor, reference_pose: Tensor, reference_content: Tensor) -> Tensor:
        """The content landmarks of five frames.

        mels (B, 5, 1, 80, 16), pose (B, 5, 2, 74), reference_pose (B, N, 2, 74), reference_content (B, N, 2, 57), all float32,
        x then y in 0..1 of the box; references with B = 1 are shared by all windows. Returns content (B, 5, 2, 57).
        """
        tokens = self.dropout(self._tokens(mels, pose, reference_pose, reference_content))
        frames = self.transformer(tokens)[:, -2 * WINDOW_FRAMES :]
        mouth = self.mouth_head(frames[:, :WINDOW_FRAMES])
        jaw = self.jaw_head(frames[:, WINDOW_FRAMES:])
        points = torch.cat([jaw, mouth], dim=2)
        return points.view(*points.shape[:2], JAW_POINTS + MOUTH_POINTS, 2).transpose(2, 3)

    def _tokens(self, mels: Tensor, pose: Tensor, reference_pose: Tensor, reference_content: Tensor) -> Tensor:
        """(B, N + 5 + 5, width): references, audio, pose."""
        faces = torch.cat([reference_pose, reference_content], dim=3)
        references = self._embed(self.face_encoder, faces) + self.modality.weight[REFERENCE]
        audio = self._embed(self.audio_encoder, mels) + self.positions + self.modality.weight[AUDIO]
        poses = self._embed(self.pose_encoder, pose) + self.positions + self.modality.weight[POSE]
        return torch.cat([references.expand(len(mels), -1, -1), audio, poses], dim=1)

    def _embed(self, encode: nn.Module, x: Tensor) -> Tensor:
        """(B, T, ...) -> (B, T, width), each item encoded by itself; one normalisation is shared by the three encoders."""
        vectors = encode(x.flatten(0, 1)).flatten(1)
        return self.token_normalisation(vectors).view(*x.shape[:2], -1)


def sinusoids(length: int, width: int) -> Tensor:
    """Sinusoidal positions (length, width), float32: sine in even columns, cosine in odd ones (arXiv 1706.03762)."""
    rates = torch.exp(torch.arange(0, width, 2).float() * (-math.log(10000.0) / width))
    angles = torch.arange(length).float()[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


def _initialise(module: nn.Module) -> None:
    """Xavier weights and zero biases for linear layers, as the original trains from."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_normal_(module.weight)
        nn.init.zeros_(module.bias)
