"""Clips of a split that a landmark generator speaks as dubbing has it speak: a window slides frame by frame, and its middle is kept."""

import copy
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from schemas.tables import MEL_BANDS
from tasks.evaluation import lips
from tasks.faces.references import reference_frames
from tasks.mel_windows import SILENCE, WINDOW_FRAMES
from tasks.training.footage import WINDOW, FloatArray, Footage, IntArray

LONGEST_FRAMES = 100
"""Of a clip: its middle four seconds show how a mouth speaks, and a validation stays a few seconds."""
WINDOWS_AT_ONCE = 64
"""Windows generated at once: bounds memory, changes no number."""
NARROWEST_MOUTH_PX = 1e-6
"""Points that all lie in one place are no mouth, and no error."""


@dataclass(frozen=True)
class SpokenClip:
    """The middle of a clip, T frames at most LONGEST_FRAMES; its references are chosen among all frames of the clip, as dubbing does."""

    clip: int
    frames: IntArray
    """(T,) of the clip"""
    content: FloatArray
    """(T, 2, 57) shares of the box: the real mouth"""
    box_sizes: FloatArray
    """(T, 2) width and height in source pixels"""
    pose_windows: FloatArray
    """(T, 5, 2, 74): the pose around each frame; the clip's ends repeat"""
    mel_windows: FloatArray
    """(T + 4, 1, 80, 16): the sound from two frames before the first to two after the last; silence outside the clip"""
    reference_pose: FloatArray
    """(1, N, 2, 74)"""
    reference_content: FloatArray
    """(1, N, 2, 57)"""
    mouth_px: float
    """How wide the real mouth is, the median over the frames, in source pixels."""

    @classmethod
    def of(cls, footage: Footage, clip: int, references: int) -> "SpokenClip":
        """The middle of a clip of the footage."""
        rows = slice(int(footage.first_frame[clip]), int(footage.first_frame[clip] + footage.frames[clip]))
        pose, content, boxes = footage.pose[rows], footage.content[rows], footage.boxes[rows]
        length = min(len(pose), LONGEST_FRAMES)
        frames = np.arange(length, dtype=np.int64) + (len(pose) - length) // 2
        sizes = (boxes[:, 2:] - boxes[:, :2])[frames]
        heard = np.arange(frames[0] - WINDOW // 2, frames[-1] + WINDOW // 2 + 1)
        around = np.clip(frames[:, None] + np.arange(WINDOW) - WINDOW // 2, 0, len(pose) - 1)
        chosen = reference_frames(lips.outer_opening(content), references)
        width = np.median(lips.mouth_width(lips.in_pixels(content[frames], sizes)))
        mels = footage.mel_windows(np.full(len(heard), clip), heard)
        return cls(clip, frames, content[frames], sizes, pose[around], mels, pose[chosen][None], content[chosen][None], max(float(width), NARROWEST_MOUTH_PX))

    def opening(self, content: FloatArray) -> FloatArray:
        """Lip opening of the first frames' content (n, 2, 57), in widths of the real mouth, as the video shows it."""
        return lips.outer_opening(self._in_pixels(content)) / self.mouth_px

    def inner_opening(self, content: FloatArray) -> FloatArray:
        """The same between the inner lips: 0 where they touch."""
        return lips.inner_opening(self._in_pixels(content)) / self.mouth_px

    def closed(self, content: FloatArray) -> npt.NDArray[np.bool_]:
        """In which of the first frames (n,) the lips are closed."""
        return lips.lips_are_closed(self._in_pixels(content))

    def _in_pixels(self, content: FloatArray) -> FloatArray:
        return lips.in_pixels(content, self.box_sizes[: len(content)])


class SpeakingNetwork:
    """A landmark generator in evaluation mode that hears each frame's sound once; plain windows would hear it five times, at nine tenths of their cost."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.device = device
        self._hearing = cast(nn.Module, network.audio_encoder).eval()
        self._speaking = copy.deepcopy(network).eval()
        self._speaking.audio_encoder = nn.Identity()  # takes what was heard in place of mel windows

    @torch.no_grad()
    def hear(self, mel_windows: FloatArray) -> torch.Tensor:
        """What the network makes of mel windows (n, 1, 80, 16): (n, width), on its device."""
        at_once = WINDOW * WINDOWS_AT_ONCE
        pieces = (torch.from_numpy(mel_windows[first : first + at_once]) for first in range(0, len(mel_windows), at_once))
        return torch.cat([self._hearing(piece.to(self.device)).flatten(1) for piece in pieces])

    def hear_silence(self, frames: int) -> torch.Tensor:
        """What it makes of so many frames of silence."""
        silence = np.full((1, 1, MEL_BANDS, WINDOW_FRAMES), SILENCE, dtype=np.float32)
        return self.hear(silence).expand(frames, -1)

    @torch.no_grad()
    def speak(self, clip: SpokenClip, heard: torch.Tensor) -> FloatArray:
        """The clip's mouth (T, 2, 57) to a sound that was heard from two frames before its first; it ends with the shorter of both."""
        sounds = heard.unfold(0, WINDOW, 1).transpose(1, 2)  # (n, 5, width)
        length = min(len(clip.frames), len(sounds))
        references = [torch.from_numpy(array).to(self.device) for array in (clip.reference_pose, clip.reference_content)]
        pieces = []
        for first in range(0, length, WINDOWS_AT_ONCE):
            part = slice(first, min(first + WINDOWS_AT_ONCE, length))
            poses = torch.from_numpy(clip.pose_windows[part]).to(self.device)
            pieces.append(self._speaking(sounds[part], poses, *references)[:, WINDOW // 2].float().cpu().numpy())
        return np.concatenate(pieces)
