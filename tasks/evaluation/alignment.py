"""Whether two videos show the same head at the same place and time: before that is known, nothing of them can be compared."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.errors import MediaError
from schemas.settings import CropSettings
from tasks.evaluation.seen_video import SeenVideo
from tasks.faces.crop import UPPER_FACE, Box, face_box
from tasks.mel_windows import VIDEO_FPS

Points = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]

# What `python -m tests.bench.alignment_limits` says of 12 real clips of 6 s stands beside each limit.
LEAST_OVERLAP = 0.7
"""Of the boxes of both upper faces, median over frames, intersection over union. Clips coded anew poorly keep 0.94 and more; a box that lies a
tenth of its width and of its height aside has 0.68."""
LARGEST_SHIFT_FRAMES = VIDEO_FPS
"""Shifts in time that are looked for, in both directions: a second."""
LEAST_LIKENESS = 0.3
"""Correlation of the heads' motion under which the heads move too little, or too differently, to tell a shift. Clips coded anew have 0.91 (median;
a head that hardly moves 0.10), two clips at their best shift 0.12 (highest of 132: 0.32)."""
CLEARLY_BETTER = 0.05
"""By how much the motion must be more alike at another shift than at none."""
SAME_SPEECH = 0.4
"""Correlation of the spectrograms, each band about its own mean, from which on two sounds say the same. Coded anew with noise 10 dB under the
speech a sound keeps 0.62 and more; two sounds of speech have 0.14 at most."""

_UPPER = CropSettings(padding=0.0, anchor="upper-face")


@dataclass(frozen=True)
class Alignment:
    """How two videos lie to each other. fault: a sentence on why they cannot be compared; empty where they can."""

    fault: str
    shift_frames: int | None = None
    """Frames by which the generated head comes after the real one; None where the heads move too little to tell."""
    overlap: float | None = None


def align(generated: SeenVideo, real: SeenVideo, length_difference_frames: int = 0) -> Alignment:
    """Compares lengths, sizes, places of the upper face, and the time of the head's motion, which a dub leaves alone."""
    lengths = len(generated.points), len(real.points)
    shift, overlap = head_shift(generated.points, real.points), None
    if generated.size == real.size:
        overlap = faces_overlap(generated.points, real.points, real.size, shift or 0)
    return Alignment(_fault(generated, real, lengths, length_difference_frames, shift, overlap), shift, overlap)


def _fault(generated: SeenVideo, real: SeenVideo, lengths: tuple[int, int], most: int, shift: int | None, overlap: float | None) -> str:
    if generated.size != real.size:
        (height, width), (real_height, real_width) = generated.size, real.size
        return f"The generated video is {width} x {height} pixels, the real one {real_width} x {real_height}."
    if shift:
        return f"The generated head moves {abs(shift)} frames {'after' if shift > 0 else 'before'} the real one."
    if abs(lengths[0] - lengths[1]) > most:
        return f"The generated video has {lengths[0]} frames at 25 a second, the real one {lengths[1]}."
    if overlap is not None and overlap < LEAST_OVERLAP:
        return f"The faces lie at different places: their boxes overlap by {overlap:.0%}."
    return ""


def head_shift(generated: Points, real: Points) -> int | None:
    """Frames by which the motion of the generated head (T, 131, 2) comes after that of the real one (T', 131, 2); None where none can be told.

    The motion of all points of the upper face from frame to frame, blinks and brows included: the dub has them from its source.
    """
    likeness = _likeness_by_shift(generated, real)
    best = int(likeness.argmax())
    if likeness[best] < LEAST_LIKENESS:
        return None
    return best - LARGEST_SHIFT_FRAMES if likeness[best] > likeness[LARGEST_SHIFT_FRAMES] + CLEARLY_BETTER else 0


def best_likeness(generated: Points, real: Points) -> float:
    """Correlation of the heads' motion at the shift where it is highest, -1 to 1."""
    return float(_likeness_by_shift(generated, real).max())


def _likeness_by_shift(generated: Points, real: Points) -> npt.NDArray[np.float64]:
    """Of every shift from the largest to before, to the largest after."""
    motions = [np.diff(points[:, UPPER_FACE].reshape(len(points), -1), axis=0) for points in (generated, real)]
    return np.array([_likeness(motions[0], motions[1], shift) for shift in range(-LARGEST_SHIFT_FRAMES, LARGEST_SHIFT_FRAMES + 1)])


def _likeness(generated: Points, real: Points, shift: int) -> float:
    """Correlation of both motions where the generated one is taken `shift` frames later; -1 where less than half is left to compare."""
    later, earlier = generated[max(0, shift) :], real[max(0, -shift) :]
    frames = min(len(later), len(earlier))
    if 2 * frames < min(len(generated), len(real)) or not frames:
        return -1.0
    there = np.isfinite(later[:frames]).all(axis=1) & np.isfinite(earlier[:frames]).all(axis=1)
    one, other = later[:frames][there], earlier[:frames][there]
    size = float(np.sqrt((one * one).sum() * (other * other).sum()))
    return float((one * other).sum()) / size if size > 0 else -1.0


def faces_overlap(generated: Points, real: Points, size: tuple[int, int], shift: int = 0) -> float | None:
    """Intersection over union of the upper faces' boxes, median over the frames in which both have a face; None where none has."""
    later, earlier = generated[max(0, shift) :], real[max(0, -shift) :]
    pairs = [(one, other) for one, other in zip(later, earlier, strict=False) if np.isfinite(one).all() and np.isfinite(other).all()]
    overlaps = [_overlap(box_of(one, size), box_of(other, size)) for one, other in pairs]
    return float(np.median(overlaps)) if overlaps else None


def box_of(points: Points, size: tuple[int, int], crop: CropSettings = _UPPER) -> Box | None:
    """The box of a face (131, 2); None where it lies outside the picture or is no face at all (NaN)."""
    if not np.isfinite(points).all():
        return None
    try:
        return face_box(points, size, crop)
    except MediaError:
        return None


def _overlap(one: Box | None, other: Box | None) -> float:
    if one is None or other is None:
        return 0.0
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (one.width * one.height + other.width * other.height - shared)


def say_the_same(one: FloatArray, other: FloatArray) -> bool:
    """Whether two sounds, as mel spectrograms (frames, 80), are one speech; True where one is silent or has no frames."""
    return speech_likeness(one, other) >= SAME_SPEECH


def speech_likeness(one: FloatArray, other: FloatArray) -> float:
    """Correlation of two mel spectrograms (frames, 80), each band about its own mean; 1 where one is silent or has no frames."""
    frames = min(len(one), len(other))
    if not frames:
        return 1.0
    first, second = (mel[:frames].astype(np.float64) - mel[:frames].mean(axis=0, dtype=np.float64) for mel in (one, other))
    size = float(np.sqrt((first * first).sum() * (second * second).sum()))
    return float((first * second).sum()) / size if size else 1.0
