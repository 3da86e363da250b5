"""Training samples: which windows make a batch, and the batches of both networks.

A batch is a function of (seed, step, batch size) alone: it is the same after a resume, and however many workers share it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from tasks.faces.sketch import draw_sketch
from tasks.training.footage import WINDOW, Footage, IntArray

Picture = npt.NDArray[np.uint8]

MARGIN = 2
"""Frames at both ends of a clip's sound that belong to no window, so that mel windows lie within the sound (as in the original)."""
CLIP_ORDER = 1
"""Keeps the random numbers that order clips apart from those that choose windows."""
DECODERS = 4
"""Threads that read and decode pictures; OpenCV lets go of Python's lock meanwhile."""


@dataclass(frozen=True)
class Windows:
    """The choice behind a batch of B samples."""

    clips: IntArray
    """(B,)"""
    starts: IntArray
    """(B,) first frame of the window"""
    references: IntArray
    """(B, N) frames outside the window; they repeat where a clip has fewer than N"""

    def part(self, rank: int, world_size: int) -> "Windows":
        """A worker's share: the parts of all workers, one after the other, are the whole."""
        mine = np.array_split(np.arange(len(self.clips)), world_size)[rank]
        return Windows(self.clips[mine], self.starts[mine], self.references[mine])


def possible_starts(frames: IntArray, sound_shift: IntArray) -> tuple[IntArray, IntArray]:
    """First possible start and number of possible starts of a window in clips of so many frames (n,) whose sound is so many late (n,).

    All frames of a window have sound of their own: where the sound is moved, frames at one end have none, and are not sampled.
    """
    margin = np.where(frames - np.abs(sound_shift) >= WINDOW + 2 * MARGIN, MARGIN, 0)
    first = np.maximum(margin - sound_shift, 0)
    last = np.minimum(frames - margin - sound_shift, frames) - WINDOW
    return first, last - first + 1


def samples_in_batch(footage: Footage, batch_size: int) -> int:
    """How many samples a batch really has: never more than there are windows."""
    return min(batch_size, int(possible_starts(footage.frames, footage.sound_shift)[1].sum()))


def choose_windows(footage: Footage, seed: int, step: int, batch_size: int, references: int) -> Windows:
    """The windows of one batch: clips in turn, shuffled anew each time round (an epoch), a random window of each, random references.

    A batch size beyond the number of windows gives every window once.
    """
    first, choices = possible_starts(footage.frames, footage.sound_shift)
    random = _random(seed, step)
    if batch_size >= choices.sum():
        clips = np.repeat(np.arange(footage.clips), choices)
        starts = np.concatenate([np.arange(begin, begin + count) for begin, count in zip(first, choices, strict=True)])
    else:
        clips = _clips_in_turn(footage.clips, seed, step * batch_size, batch_size)
        starts = random.integers(first[clips], first[clips] + choices[clips])
    return Windows(clips, starts, _choose_references(random, footage.frames[clips], starts, references))


def _random(*key: int) -> np.random.Generator:
    return np.random.default_rng([number % 2**63 for number in key])  # seeds below zero are allowed too


def _clips_in_turn(clips: int, seed: int, first: int, count: int) -> IntArray:
    """Positions first … first + count - 1 of the endless row of shuffled epochs."""
    epochs = range(first // clips, (first + count - 1) // clips + 1)
    row = np.concatenate([_random(seed, epoch, CLIP_ORDER).permutation(clips) for epoch in epochs])
    return row[first % clips :][:count]


def _choose_references(random: np.random.Generator, frames: IntArray, starts: IntArray, count: int) -> IntArray:
    """(B, count) frames outside each window, without repetition as far as there are enough."""
    outside = frames - WINDOW
    keys = random.random((len(frames), int(outside.max())), dtype=np.float32)
    keys[np.arange(keys.shape[1]) >= outside[:, None]] = 2.0  # sorts behind every real frame
    shuffled = np.argsort(keys, axis=1)
    picked = np.take_along_axis(shuffled, np.arange(count) % outside[:, None], axis=1)
    return picked + WINDOW * (picked >= starts[:, None])


class LandmarkBatch(NamedTuple):
    """What the landmark generator sees, float32."""

    mels: torch.Tensor
    """(B, 5, 1, 80, 16)"""
    pose: torch.Tensor
    """(B, 5, 2, 74)"""
    content: torch.Tensor
    """(B, 5, 2, 57): the answer"""
    reference_pose: torch.Tensor
    """(B, N, 2, 74)"""
    reference_content: torch.Tensor
    """(B, N, 2, 57)"""


class RendererBatch(NamedTuple):
    """What the renderer sees: pictures uint8 BGR, channels first; `unit_pictures` makes them 0..1."""

    face: torch.Tensor
    """(B, 3, S, S): input (its lower half is masked in the network) and answer"""
    sketches: torch.Tensor
    """(B, 5, 3, S, S)"""
    reference_faces: torch.Tensor
    """(B, N, 3, S, S)"""
    reference_sketches: torch.Tensor
    """(B, N, 3, S, S)"""
    mel: torch.Tensor
    """(B, 1, 80, 16) float32"""

    def unit_pictures(self) -> "RendererBatch":
        """The same with pictures as float32 in 0..1."""
        return RendererBatch(*(tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor for tensor in self))


BatchKind = TypeVar("BatchKind", bound=LandmarkBatch | RendererBatch)


def to_device(batch: BatchKind, device: torch.device) -> BatchKind:
    """The same batch on another device."""
    return type(batch)(*(tensor.to(device, non_blocking=True) for tensor in batch))


class Samples(ABC, Generic[BatchKind]):
    """A source of batches."""

    footage: Footage

    @abstractmethod
    def batch(self, seed: int, step: int, batch_size: int, rank: int = 0, world_size: int = 1) -> BatchKind:
        """A worker's part of the batch of a step."""


class LandmarkSamples(Samples[LandmarkBatch]):
    """Batches for the landmark generator (paper 3.1): five frames, their mel windows, N reference frames outside."""

    def __init__(self, footage: Footage, references: int) -> None:
        self.footage = footage
        self.references = references

    def batch(self, seed: int, step: int, batch_size: int, rank: int = 0, world_size: int = 1) -> LandmarkBatch:
        """A worker's part of the batch of a step, by one indexing of the arrays."""
        footage = self.footage
        windows = choose_windows(footage, seed, step, batch_size, self.references).part(rank, world_size)
        frames = windows.starts[:, None] + np.arange(WINDOW)
        rows = frames + footage.first_frame[windows.clips][:, None]
        reference_rows = windows.references + footage.first_frame[windows.clips][:, None]
        mels = footage.mel_windows(np.repeat(windows.clips, WINDOW), frames.reshape(-1)).reshape(len(frames), WINDOW, 1, 80, -1)
        arrays = (mels, footage.pose[rows], footage.content[rows], footage.pose[reference_rows], footage.content[reference_rows])
        return LandmarkBatch(*map(torch.from_numpy, arrays))


class RendererSamples(Samples[RendererBatch]):
    """Batches for the renderer (paper 3.2): a face, the five sketches around it, N reference faces with their sketches.

    Only the pictures that a batch needs are read: `face_picture(shard, offset, size)` gives (S, S, 3) uint8 BGR.
    """

    def __init__(self, footage: Footage, references: int, size: int, face_picture: Callable[[str, int, int], Picture]) -> None:
        self.footage = footage
        self.references = references
        self.size = size
        self._face_picture = face_picture

    def batch(self, seed: int, step: int, batch_size: int, rank: int = 0, world_size: int = 1) -> RendererBatch:
        """A worker's part of the batch of a step; pictures are decoded on several threads."""
        windows = choose_windows(self.footage, seed, step, batch_size, self.references).part(rank, world_size)
        middles = windows.starts + WINDOW // 2
        clips = np.repeat(windows.clips[:, None], 1 + self.references, axis=1)
        frames = np.concatenate([middles[:, None], windows.references], axis=1)
        faces = self._faces(clips, frames)
        around = windows.starts[:, None] + np.arange(WINDOW)
        sketches = self._sketches(np.repeat(windows.clips[:, None], WINDOW, axis=1), around)
        reference_sketches = self._sketches(clips[:, 1:], windows.references)
        mel = torch.from_numpy(self.footage.mel_windows(windows.clips, middles))
        return RendererBatch(faces[:, 0], sketches, faces[:, 1:], reference_sketches, mel)

    def _faces(self, clips: IntArray, frames: IntArray) -> torch.Tensor:
        """(B, N, 3, S, S) uint8 of frames (B, N) in clips (B, N)."""
        rows = (frames + self.footage.first_frame[clips]).reshape(-1)
        with ThreadPoolExecutor(DECODERS) as decoders:
            pictures = list(decoders.map(self._read_face, clips.reshape(-1).tolist(), rows.tolist()))
        return _channels_first(pictures, frames.shape)

    def _read_face(self, clip: int, row: int) -> Picture:
        footage = self.footage
        return self._face_picture(footage.shards[clip], int(footage.picture_offset[row]), int(footage.picture_size[row]))

    def _sketches(self, clips: IntArray, frames: IntArray) -> torch.Tensor:
        """(B, N, 3, S, S) uint8, drawn from landmarks."""
        rows = (frames + self.footage.first_frame[clips]).reshape(-1)
        return _channels_first([self._sketch(row) for row in rows.tolist()], frames.shape)

    def _sketch(self, row: int) -> Picture:
        x0, y0, x1, y1 = self.footage.boxes[row].tolist()  # of whole pixels, or not, as the crop's padding has it
        return draw_sketch(self.footage.pose[row], self.footage.content[row], (y1 - y0, x1 - x0), self.size)


def _channels_first(pictures: list[Picture], shape: tuple[int, ...]) -> torch.Tensor:
    """(*shape, 3, S, S) of pictures (S, S, 3)."""
    stacked = torch.from_numpy(np.stack(pictures))
    return stacked.view(*shape, *stacked.shape[1:]).movedim(-1, -3).contiguous()
