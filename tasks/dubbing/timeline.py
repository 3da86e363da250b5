"""Which frame is shown when, and the 25-frames-a-second timeline on which the landmark generator works.

Times are exact: frame rates are fractions, and both output and landmark timeline start with the first sample of the speech.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from tasks.mel_windows import VIDEO_FPS

FloatArray = npt.NDArray[np.float32]
PositionArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int64]

NO_TRACK = -1
"""Track of a frame without a face."""
WINDOW_OFFSETS = np.arange(-2, 3)
"""Offsets, in steps of the 25-frames-a-second timeline, of the five frames of a window; the middle one is kept."""


def frames_of_speech(fps: Fraction, speech_s: Fraction) -> int:
    """Frames of the output: round(fps x seconds of speech), departure 4 of the contract."""
    return round(fps * speech_s)


def played_frames(frames: int, source_frames: int, loop: str = "forth-and-back") -> IndexArray:
    """The source frame that each output frame shows, (frames,), as the setting `loop` says.

    forth-and-back: the turning frames are shown once. cut: from the first one again.
    """
    output = np.arange(frames, dtype=np.int64)
    if loop == "cut":
        return output % source_frames
    period = max(1, 2 * source_frames - 2)
    position = output % period
    return np.minimum(position, period - position)


@dataclass(frozen=True)
class Run:
    """Consecutive output frames, `first` to `last` (included), that show one face without a break."""

    first: int
    last: int
    fps: Fraction

    @property
    def steps(self) -> range:
        """The steps of the 25-frames-a-second timeline that span the run; step 0 is output frame 0."""
        return range(math.floor(VIDEO_FPS * self.first / self.fps), math.ceil(VIDEO_FPS * self.last / self.fps) + 1)

    def frame_positions(self, steps: npt.NDArray[np.float64] | npt.NDArray[np.int64]) -> PositionArray:
        """Where steps lie among the run's frames: 0 is its first frame. Steps beyond its ends are moved to the ends."""
        positions = steps * float(self.fps / VIDEO_FPS) - self.first
        return np.clip(positions, 0, self.last - self.first)

    def step_windows(self, frame: int) -> PositionArray:
        """The times, in steps (5,), of the window around an output frame; beyond the run's ends its end frames repeat."""
        per_frame = VIDEO_FPS / self.fps
        return np.clip(float(frame * per_frame) + WINDOW_OFFSETS, float(self.first * per_frame), float(self.last * per_frame))


def face_runs(tracks: npt.NDArray[np.int32], played: IndexArray, fps: Fraction) -> list[Run]:
    """Runs of output frames with a face, broken where the track changes, and where the source frame does not follow the one before.

    tracks (frames,): NO_TRACK without a face. played (frames,): of `played_frames`.
    """
    if len(tracks) == 0:
        return []
    breaks = np.flatnonzero((np.diff(tracks) != 0) | (np.abs(np.diff(played)) > 1)) + 1
    firsts = [0, *breaks.tolist()]
    lasts = [*(breaks - 1).tolist(), len(tracks) - 1]
    return [Run(first, last, fps) for first, last in zip(firsts, lasts, strict=True) if tracks[first] != NO_TRACK]


def interpolate(values: npt.NDArray[np.floating], positions: PositionArray, rows: IndexArray | None = None) -> FloatArray:
    """Values (n, ...) at fractional positions (m,) in 0..n-1, linearly: (m, ...) float32. rows: only these of the values count, in their order."""
    low = np.floor(positions).astype(np.int64)
    high = np.minimum(low + 1, len(values if rows is None else rows) - 1)
    share = (positions - low).astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
    first, second = (values[places if rows is None else rows[places]].astype(np.float32) for places in (low, high))
    return np.asarray(first * (1 - share) + second * share, dtype=np.float32)
