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


def played_frames(frames: int, source_frames: int) -> IndexArray:
    """The source frame that each output frame shows, (frames,): forth and back, the turning frames shown once."""
    period = max(1, 2 * source_frames - 2)
    position = np.arange(frames, dtype=np.int64) % period
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


def face_runs(tracks: npt.NDArray[np.int32], fps: Fraction) -> list[Run]:
    """Runs of output frames with a face, cut where the track changes. `tracks` (frames,): NO_TRACK without a face."""
    if len(tracks) == 0:
        return []
    cuts = np.flatnonzero(np.diff(tracks)) + 1
    firsts = [0, *cuts.tolist()]
    lasts = [*(cuts - 1).tolist(), len(tracks) - 1]
    return [Run(first, last, fps) for first, last in zip(firsts, lasts, strict=True) if tracks[first] != NO_TRACK]


def interpolate(values: FloatArray, positions: PositionArray) -> FloatArray:
    """Values (n, ...) at fractional positions (m,) in 0..n-1, linearly: (m, ...)."""
    low = np.floor(positions).astype(np.int64)
    high = np.minimum(low + 1, len(values) - 1)
    share = (positions - low).astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
    return values[low] * (1 - share) + values[high] * share
