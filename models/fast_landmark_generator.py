"""The landmark generator for inference: the middle frame of every window, each mel window and each pose encoded once for all windows."""

from copy import deepcopy
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.folding import without_batch_norms
from models.landmark_generator import AUDIO, JAW_POINTS, MOUTH_POINTS, POSE, REFERENCE, WINDOW_FRAMES, LandmarkGenerator

MIDDLE = WINDOW_FRAMES // 2


class FastLandmarkGenerator(nn.Module):
    """Made from a loaded `LandmarkGenerator`, which stays as it is. Landmarks are read out in float32 whatever the precision."""

    positions: Tensor

    def __init__(self, network: LandmarkGenerator, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype = dtype
        self.audio_encoder, self.pose_encoder, self.face_encoder = (
            without_batch_norms(encode).to(dtype) for encode in (network.audio_encoder, network.pose_encoder, network.face_encoder)
        )
        self.token_normalisation = deepcopy(network.token_normalisation).to(dtype)
        self.modality = deepcopy(network.modality).to(dtype)
        self.layers = deepcopy(network.transformer.layers[:-1]).to(dtype)
        self.last_layer = LastLayer(network.transformer.layers[-1]).to(dtype)
        self.mouth_head, self.jaw_head = deepcopy(network.mouth_head), deepcopy(network.jaw_head)
        self.register_buffer("positions", network.positions.to(dtype), persistent=False)

    @classmethod
    def of(cls, network: LandmarkGenerator, dtype: torch.dtype = torch.float32) -> Self:
        """The same network on the same device, in `dtype`: float32 (exact), bfloat16 or float16."""
        return cls(network, dtype).eval().requires_grad_(requires_grad=False).to(next(network.parameters()).device)

    def encode_references(self, pose: Tensor, content: Tensor) -> Tensor:
        """Reference faces, pose (N, 2, 74) and content (N, 2, 57), as tokens (N, width)."""
        return self._encoded(self.face_encoder, torch.cat([pose, content], dim=2)) + self.modality.weight[REFERENCE]

    def encode_audio(self, mels: Tensor) -> Tensor:
        """Mel windows (n, 1, 80, 16) -> (n, width), wherever in a window they come to stand."""
        return self._encoded(self.audio_encoder, mels) + self.modality.weight[AUDIO]

    def encode_pose(self, pose: Tensor) -> Tensor:
        """Poses (n, 2, 74) -> (n, width), wherever in a window they come to stand."""
        return self._encoded(self.pose_encoder, pose) + self.modality.weight[POSE]

    def forward(self, audio: Tensor, pose: Tensor, references: Tensor) -> Tensor:
        """Windows of encoded steps, audio and pose (B, 5, width), and encoded references (N, width) -> content of the middle frame (B, 2, 57)."""
        tokens = torch.cat([references.expand(len(audio), -1, -1), audio + self.positions, pose + self.positions], dim=1)
        for layer in self.layers:
            tokens = layer(tokens)
        audio_place = len(references) + MIDDLE
        heard, held = self.last_layer(tokens, [audio_place, audio_place + WINDOW_FRAMES]).float().unbind(1)
        points = torch.cat([self.jaw_head(held), self.mouth_head(heard)], dim=1)
        return points.view(-1, JAW_POINTS + MOUTH_POINTS, 2).transpose(1, 2)

    def _encoded(self, encode: nn.Module, x: Tensor) -> Tensor:
        vectors: Tensor = self.token_normalisation(encode(x.to(self.dtype)).flatten(1))
        return vectors


class LastLayer(nn.Module):
    """The last transformer layer, asked for a few tokens only: all others are looked at, and need no output."""

    def __init__(self, layer: nn.TransformerEncoderLayer) -> None:
        super().__init__()
        self.heads = layer.self_attn.num_heads
        self.layer = deepcopy(layer)

    def forward(self, tokens: Tensor, places: list[int]) -> Tensor:
        """Tokens (B, T, width) -> those at the places, behind the layer: (B, places, width)."""
        layer, attention = self.layer, self.layer.self_attn
        asking, width = tokens[:, places], tokens.shape[2]
        query = F.linear(asking, attention.in_proj_weight[:width], attention.in_proj_bias[:width])
        key, value = F.linear(tokens, attention.in_proj_weight[width:], attention.in_proj_bias[width:]).chunk(2, dim=2)
        seen = F.scaled_dot_product_attention(self._by_head(query), self._by_head(key), self._by_head(value)).transpose(1, 2).flatten(2)
        x = layer.norm1(asking + attention.out_proj(seen))
        y: Tensor = layer.norm2(x + layer.linear2(layer.activation(layer.linear1(x))))
        return y

    def _by_head(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)
