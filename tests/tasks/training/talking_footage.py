"""Footage of drawn mouths whose opening their sound tells exactly, and networks that know more, or less, than they should."""

import numpy as np
import torch
from torch import nn

from tasks.corpus.store import ClipArrays
from tasks.evaluation import lips
from tasks.training.footage import Footage, lay_end_to_end

WIDTH = 0.3
"""Of the mouth, in shares of the box."""
BOX = (10.0, 20.0, 110.0, 120.0)
AT_FRAME = 7
"""Column of a mel window that lies in the middle frame of its five."""


def talking_footage(frames: list[int], sources: list[str] | None = None, seed: int = 0) -> Footage:
    """Clips of so many frames, each of the source of that name (or of one of its own), their lips random and often closed."""
    names = sources or [f"source{number}" for number in range(len(frames))]
    return lay_end_to_end([_clip(f"{name}-s{number}t0", count, [seed, number]) for number, (name, count) in enumerate(zip(names, frames, strict=True))])


def _clip(clip_id: str, frames: int, seed: list[int]) -> ClipArrays:
    random = np.random.default_rng(seed)
    opening = np.clip(random.uniform(-0.5, 1, frames), 0, 1).astype(np.float32)
    pose = np.tile(random.uniform(0, 1, (frames, 1, 1)), (1, 2, 74)).astype(np.float32)  # tells the frame, and nothing of the lips
    mel = (8 * opening - 4)[(np.arange(int(frames * 3.2)) / 3.2).astype(int)]
    return ClipArrays(
        clip_id=clip_id, speaker="", batch="b0", mel=np.tile(mel[:, None], (1, 80)), pose=pose, content=content_of(opening),
        boxes=np.tile(np.float32(BOX), (frames, 1)), lip_opening=opening, faces_shard="", faces_offset=np.zeros(frames, np.int64),
        faces_size=np.zeros(frames, np.int32),
    )  # fmt: skip


def content_of(opening: np.ndarray) -> np.ndarray:
    """Content (T, 2, 57) of a level mouth open by these shares (T,) of a fifth of the box."""
    content = np.full((len(opening), 2, 57), 0.5, np.float32)
    content[:, 0, lips.LEFT_CORNER] += WIDTH
    content[:, 1, lips.INNER_LOWER_LIP] += 0.2 * opening
    content[:, 1, lips.LOWER_LIP] += 0.1 + 0.2 * opening
    return content


class Mouth(nn.Module):
    """Stands in for a landmark generator whose audio encoder gives the opening that the sound tells."""

    class Ear(nn.Module):
        def forward(self, mels: torch.Tensor) -> torch.Tensor:
            return (mels[:, 0, 0, AT_FRAME, None] + 4) / 8

    def __init__(self) -> None:
        super().__init__()
        self.audio_encoder = self.Ear()
        self.strength = 1.0

    def forward(self, mels: torch.Tensor, pose: torch.Tensor, reference_pose: torch.Tensor, reference_content: torch.Tensor) -> torch.Tensor:
        heard = self.audio_encoder(mels.flatten(0, 1)).view(-1)
        return torch.from_numpy(content_of(self.opening(heard.numpy() * self.strength, pose))).view(*pose.shape[:2], 2, 57)

    def opening(self, heard: np.ndarray, pose: torch.Tensor) -> np.ndarray:
        return heard


class Ventriloquist(Mouth):
    """Says what the source says, whatever it hears: it knows each frame's lips by the head."""

    def __init__(self, footage: Footage) -> None:
        super().__init__()
        self.heads = footage.pose[:, 0, 0]
        self.lips = (footage.content[:, 1, lips.INNER_LOWER_LIP] - 0.5) / 0.2

    def opening(self, heard: np.ndarray, pose: torch.Tensor) -> np.ndarray:
        heads = pose[:, :, 0, 0].reshape(-1).numpy()
        return self.lips[np.abs(heads[:, None] - self.heads).argmin(axis=1)]
