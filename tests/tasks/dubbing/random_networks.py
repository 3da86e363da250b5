"""Checkpoints with random weights, small enough for a test to dub with in seconds."""

from pathlib import Path

import torch

from models import LandmarkGenerator, Renderer
from models.checkpoint import save_checkpoint
from schemas.checkpoints import CheckpointHeader, LandmarkGeneratorSize, RendererSize
from schemas.settings import CropSettings, DubSettings

TINY_LANDMARK_GENERATOR = LandmarkGeneratorSize(width=32, layers=1, heads=2, feed_forward=32)
TINY_RENDERER = RendererSize(width=8)


def write_random_networks(folder: Path, landmark_crop: CropSettings | None = None, seed: int = 0) -> DubSettings:
    """Writes both checkpoints and returns settings that name them; `landmark_crop`: another crop than the renderer's."""
    torch.manual_seed(seed)
    crop = CropSettings()
    landmark_generator, renderer = LandmarkGenerator(TINY_LANDMARK_GENERATOR), Renderer(TINY_RENDERER)
    paths = [str(folder / "landmark-generator.safetensors"), str(folder / "renderer.safetensors")]
    landmark_header = CheckpointHeader(kind="landmark-generator", architecture=TINY_LANDMARK_GENERATOR, crop=landmark_crop or crop)
    save_checkpoint(paths[0], landmark_generator, landmark_header)
    save_checkpoint(paths[1], renderer, CheckpointHeader(kind="renderer", architecture=TINY_RENDERER, crop=crop))
    return DubSettings(landmark_generator=paths[0], renderer=paths[1], references=3, landmark_references=5, device="cpu", crf=10)
