"""Training samples: the batches of both networks, whole, from the arrays of footage.

A batch is a function of (seed, step, batch size) alone: it is the same after a resume, and however many workers share it.
"""

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch

from schemas.tables import MEL_BANDS
from tasks.faces.sketch import Outlines, outline_faces
from tasks.mel_windows import SILENCE, WINDOW_FRAMES
from tasks.training.augment import NO_AUGMENTATION, Augmentation, Changes, carried_along, colour_change, draw_changes, mirrored
from tasks.training.footage import WINDOW, FloatArray, Footage, IntArray
from tasks.training.windows import WindowChooser, Windows

Picture = npt.NDArray[np.uint8]

PAINTERS = 16
"""Threads that read, decode and draw pictures; OpenCV lets go of Python's lock meanwhile, and so does a bucket that is waited for."""


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


def pinned(batch: BatchKind) -> BatchKind:
    """The same batch in memory that a GPU reads by itself, while the step before is computed."""
    return type(batch)(*(tensor.pin_memory() for tensor in batch))


class Samples(ABC, Generic[BatchKind]):
    """A source of batches, each a function of (seed, step, batch size); workers take parts of it."""

    def __init__(self, footage: Footage, references: int, augmentation: Augmentation = NO_AUGMENTATION) -> None:
        self.footage = footage
        self.references = references
        self.augmentation = augmentation
        self._windows = WindowChooser(footage, augmentation.silence_share)

    @abstractmethod
    def batch(self, seed: int, step: int, batch_size: int, rank: int = 0, world_size: int = 1) -> BatchKind:
        """A worker's part of the batch of a step."""

    def _chosen(self, seed: int, step: int, batch_size: int, rank: int, world_size: int) -> tuple[Windows, Changes]:
        """A worker's part of what is in the batch of a step, and of how it is changed; both are drawn for the whole batch."""
        windows = self._windows.choose(seed, step, batch_size, self.references)
        changes = draw_changes(self.augmentation, seed, step, windows, self.footage.frames[windows.clips])
        return windows.part(rank, world_size), changes.part(rank, world_size)

    def _content(self, windows: Windows, rows: IntArray) -> FloatArray:
        """Content (B, 5, 2, 57) of windows whose frames are rows (B, 5); of silent ones that of the middle frame, carried along by the head."""
        content = self.footage.content[rows]
        if windows.silent.any():
            still = rows[windows.silent]
            content[windows.silent] = carried_along(content[windows.silent], self.footage.pose[still], self.footage.boxes[still])
        return content


class LandmarkSamples(Samples[LandmarkBatch]):
    """Batches for the landmark generator (paper 3.1): five frames, their mel windows, N reference frames outside."""

    def batch(self, seed: int, step: int, batch_size: int, rank: int = 0, world_size: int = 1) -> LandmarkBatch:
        """A worker's part of the batch of a step, by one indexing of each array."""
        windows, changes = self._chosen(seed, step, batch_size, rank, world_size)
        footage, first = self.footage, self.footage.first_frame[windows.clips][:, None]
        frames = windows.starts[:, None] + np.arange(WINDOW)
        rows = frames + first
        mels = footage.mel_windows(np.repeat(windows.clips, WINDOW), frames.reshape(-1)).reshape(len(frames), WINDOW, 1, MEL_BANDS, WINDOW_FRAMES)
        mels[windows.silent] = SILENCE
        points = (footage.pose[rows], self._content(windows, rows), footage.pose[windows.references + first], footage.content[changes.shown + first])
        for array in points if changes.flipped.any() else ():
            array[changes.flipped] = mirrored(array[changes.flipped])
        return LandmarkBatch(*map(torch.from_numpy, (mels, *points)))


class Pictures(Protocol):
    """Where face pictures come from."""

    def read(self, clip: int, row: int) -> Picture:
        """The picture (S, S, 3) uint8 BGR of a row of footage, which is of that clip; from any thread."""
        ...


class RendererSamples(Samples[RendererBatch]):
    """Batches for the renderer (paper 3.2): a face, the five sketches around it, N reference faces with their sketches.

    Only the 1 + N pictures that a sample needs are read, and its 5 + N sketches are drawn, sample by sample on threads that are kept.
    """

    def __init__(self, footage: Footage, references: int, size: int, pictures: Pictures, augmentation: Augmentation = NO_AUGMENTATION) -> None:
        super().__init__(footage, references, augmentation)
        self.size = size
        self._pictures = pictures
        self._painters = ThreadPoolExecutor(PAINTERS, thread_name_prefix="pictures")

    def batch(self, seed: int, step: int, batch_size: int, rank: int = 0, world_size: int = 1) -> RendererBatch:
        """A worker's part of the batch of a step."""
        windows, changes = self._chosen(seed, step, batch_size, rank, world_size)
        middles = windows.starts + WINDOW // 2
        mels = self.footage.mel_windows(windows.clips, middles)
        mels[windows.silent] = SILENCE
        canvas = _Canvas.empty(len(windows.clips), self.references, self.size)
        outlines = self._outlines(windows, changes)
        for _ in self._painters.map(lambda sample: self._paint(sample, canvas, windows, changes, outlines), range(len(windows.clips))):
            pass  # a thread's error is raised here
        arrays = (canvas.face, canvas.sketches, canvas.reference_faces, canvas.reference_sketches, mels)
        return RendererBatch(*map(torch.from_numpy, arrays))

    def _outlines(self, windows: Windows, changes: Changes) -> Outlines:
        """The faces to be drawn: of each sample those of its window, then those of its references."""
        footage, first = self.footage, self.footage.first_frame[windows.clips][:, None]
        around, shown = windows.starts[:, None] + np.arange(WINDOW) + first, changes.shown + first
        rows = np.concatenate([around, shown], axis=1)
        content = np.concatenate([self._content(windows, around), footage.content[shown]], axis=1)
        points = np.concatenate([footage.pose[rows], content], axis=-1)
        boxes = footage.boxes[rows.reshape(-1)]  # of whole pixels, or not, as the crop's padding has it
        return outline_faces(points.reshape(-1, *points.shape[2:]), (boxes[:, 2:] - boxes[:, :2])[:, ::-1], self.size)

    def _paint(self, sample: int, canvas: "_Canvas", windows: Windows, changes: Changes, outlines: Outlines) -> None:
        """Fills a sample's place on the canvas."""
        clip, start = int(windows.clips[sample]), int(windows.starts[sample])
        first = int(self.footage.first_frame[clip])
        frames = [start + WINDOW // 2, *windows.references[sample].tolist()]
        flip = bool(changes.flipped[sample])
        colours = colour_change(*changes.colours[sample]) if self.augmentation.colour_jitter else None
        for frame, place in zip(frames, (canvas.face[sample], *canvas.reference_faces[sample]), strict=True):
            picture = self._pictures.read(clip, first + frame)
            picture = picture if colours is None else cv2.transform(picture, colours)
            cv2.split(cv2.flip(picture, 1) if flip else picture, list(place))
        drawn = sample * (WINDOW + self.references)
        for face, place in enumerate((*canvas.sketches[sample], *canvas.reference_sketches[sample]), drawn):
            sketch = outlines.draw(face)
            place[:] = sketch[:, ::-1] if flip else sketch


@dataclass(frozen=True)
class _Canvas:
    """The pictures of a batch, as `RendererBatch` has them, to be painted by many threads."""

    face: Picture
    sketches: Picture
    reference_faces: Picture
    reference_sketches: Picture

    @classmethod
    def empty(cls, samples: int, references: int, size: int) -> "_Canvas":
        shapes = ((), (WINDOW,), (references,), (references,))
        return cls(*(np.empty((samples, *shape, 3, size, size), dtype=np.uint8) for shape in shapes))
