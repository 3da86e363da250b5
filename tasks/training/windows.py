"""Which windows make a batch. A function of (seed, step, batch size) alone: the same after a resume, and however many workers share it."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import lru_cache
from typing import Self

import numpy as np
import numpy.typing as npt

from tasks.evaluation.lips import in_pixels, lips_are_closed
from tasks.training.footage import WINDOW, Footage, IntArray

MARGIN = 2
"""Frames at both ends of a clip's sound that belong to no window, so that mel windows lie within the sound (as in the original)."""
ORDERS_KEPT = 4
"""Epochs whose order of clips is kept: of a million clips one takes 8 MB, and shuffling it anew at each batch would take longer than the batch."""
FRAMES_AT_ONCE = 65536
"""Frames whose lips are looked at at once: landmarks may be larger than memory."""

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]


class Draw(IntEnum):
    """What random numbers are for. Each has its own, so that an augmentation changes nothing but what it changes."""

    WINDOWS = 0
    CLIP_ORDER = 1
    SILENCE = 2
    FLIP = 3
    JITTER = 4
    COLOUR = 5


def random_numbers(seed: int, step: int, draw: Draw) -> np.random.Generator:
    """Random numbers of a step (of an epoch, for CLIP_ORDER)."""
    return np.random.default_rng([seed % 2**63, step, draw])  # seeds below zero are allowed too


class Shared:
    """Arrays of a batch, one row a sample, that workers share."""

    def part(self, rank: int, world_size: int) -> Self:
        """A worker's share: the parts of all workers, one after the other, are the whole."""
        if world_size == 1:
            return self
        whole = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return type(self)(**{name: np.array_split(array, world_size)[rank] for name, array in whole.items()})


@dataclass(frozen=True)
class Windows(Shared):
    """The choice behind a batch of B samples."""

    clips: IntArray
    """(B,)"""
    starts: IntArray
    """(B,) first frame of the window"""
    references: IntArray
    """(B, N) frames outside the window; they repeat where a clip has fewer than N"""
    silent: BoolArray
    """(B,) samples in which silence is heard; the lips are closed in the middle of their windows"""


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


class WindowChooser:
    """Chooses the windows of batches: clips in turn, shuffled anew each time round (an epoch), a random window of each, random references.

    silence_share: of the samples, which are windows with closed lips in place of what would have come; clips without such keep theirs.
    """

    def __init__(self, footage: Footage, silence_share: float = 0.0) -> None:
        self._frames = footage.frames
        self._first, self._choices = possible_starts(footage.frames, footage.sound_shift)
        self._windows = int(self._choices.sum())
        self._order: Callable[[int, int], IntArray] = lru_cache(maxsize=ORDERS_KEPT)(self._shuffled)
        self._silence_share = silence_share
        self._closed = closed_windows(footage, self._first, self._choices) if silence_share else None

    def choose(self, seed: int, step: int, batch_size: int, references: int) -> Windows:
        """The windows of one batch; a batch size beyond the number of windows gives every window once."""
        random = random_numbers(seed, step, Draw.WINDOWS)
        if batch_size >= self._windows:
            clips, starts = self._every_window()
        else:
            clips = self._clips_in_turn(seed, step * batch_size, batch_size)
            starts = random.integers(self._first[clips], self._first[clips] + self._choices[clips])
        silent = np.zeros(len(clips), dtype=np.bool_)
        if self._closed is not None:
            starts, silent = self._with_silence(self._closed, random_numbers(seed, step, Draw.SILENCE), clips, starts)
        return Windows(clips, starts, choose_references(random, self._frames[clips], starts, references), silent)

    def _every_window(self) -> tuple[IntArray, IntArray]:
        clips = np.repeat(np.arange(len(self._choices)), self._choices)
        before = np.repeat(np.cumsum(self._choices) - self._choices, self._choices)
        return clips, self._first[clips] + np.arange(self._windows) - before

    def _clips_in_turn(self, seed: int, first: int, count: int) -> IntArray:
        """Positions first … first + count - 1 of the endless row of shuffled epochs."""
        clips = len(self._frames)
        epochs = range(first // clips, (first + count - 1) // clips + 1)
        ends = ((max(first - epoch * clips, 0), min(first + count - epoch * clips, clips)) for epoch in epochs)
        return np.concatenate([self._order(seed, epoch)[begin:end] for epoch, (begin, end) in zip(epochs, ends, strict=True)])

    def _shuffled(self, seed: int, epoch: int) -> IntArray:
        return random_numbers(seed, epoch, Draw.CLIP_ORDER).permutation(len(self._frames))

    def _with_silence(self, closed: "ClosedWindows", random: np.random.Generator, clips: IntArray, starts: IntArray) -> tuple[IntArray, BoolArray]:
        """The starts with those of silent samples in place, and which samples are silent."""
        chance, which = random.random((2, len(clips)))
        there = closed.count[clips]
        silent = (chance < self._silence_share) & (there > 0)
        chosen = closed.first[clips] + (which * there).astype(np.int64)
        starts = starts.copy()
        starts[silent] = closed.starts[chosen[silent]]
        return starts, silent


def choose_windows(footage: Footage, seed: int, step: int, batch_size: int, references: int) -> Windows:
    """The windows of one batch without any silence; for many batches keep a `WindowChooser`."""
    return WindowChooser(footage).choose(seed, step, batch_size, references)


@dataclass(frozen=True)
class ClosedWindows:
    """Windows with closed lips in their middle, clip after clip."""

    starts: IntArray
    """First frames of the windows."""
    first: IntArray
    """(clips,) where each clip's begin in `starts`"""
    count: IntArray
    """(clips,)"""


def closed_windows(footage: Footage, first: IntArray, choices: IntArray) -> ClosedWindows:
    """Of the possible windows of each clip (first start and number of starts, as `possible_starts` has them) those with closed lips."""
    rows = _rows_with_closed_lips(footage)
    clips = np.searchsorted(footage.first_frame, rows, side="right") - 1
    starts = rows - footage.first_frame[clips] - WINDOW // 2
    possible = (starts >= first[clips]) & (starts < first[clips] + choices[clips])
    count = np.bincount(clips[possible], minlength=footage.clips)
    return ClosedWindows(starts[possible], np.cumsum(count) - count, count)


def _rows_with_closed_lips(footage: Footage) -> IntArray:
    found = [np.zeros(0, dtype=np.int64)]
    for begin in range(0, len(footage.content), FRAMES_AT_ONCE):
        rows = slice(begin, begin + FRAMES_AT_ONCE)
        boxes = footage.boxes[rows]
        found.append(begin + np.flatnonzero(lips_are_closed(in_pixels(footage.content[rows], boxes[:, 2:] - boxes[:, :2]))))
    return np.concatenate(found)


def choose_references(random: np.random.Generator, frames: IntArray, starts: IntArray, count: int) -> IntArray:
    """(B, count) frames outside each window of clips of so many frames (B,), without repetition as far as there are enough.

    Floyd's way of sampling: as many rounds as there are references, however long the clips are.
    """
    outside = frames - WINDOW
    chances = random.random((len(frames), count))
    picked = (chances[:, :1] * outside[:, None]).astype(np.int64) + np.arange(count)  # of too short clips: each frame in turn
    picked %= outside[:, None]
    enough = np.flatnonzero(outside >= count)
    picked[enough] = _distinct(chances[enough], outside[enough])
    return picked + WINDOW * (picked >= starts[:, None])


def _distinct(chances: FloatArray, below: IntArray) -> IntArray:
    """(B, count) numbers from 0 to below (B,) - 1, distinct in each row, every set equally likely; chances (B, count) in 0..1."""
    count = chances.shape[1]
    bounds = below - count + 1 + np.arange(count)[:, None]
    picked = (chances.T * bounds).astype(np.int64)  # (count, B): a round is one row
    for number in range(1, count):
        taken = (picked[:number] == picked[number]).any(axis=0)
        np.copyto(picked[number], bounds[number] - 1, where=taken)
    return picked.T
