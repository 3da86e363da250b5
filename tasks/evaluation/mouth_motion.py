"""How a mouth moves in one video, frame by frame: how far it is open, what it does in silence, how it trembles. NumPy alone."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.dubbing.head_placement import placement, plane_of
from tasks.dubbing.voice import spoken_share
from tasks.evaluation import lips

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

FEWEST_FRAMES = 8
"""Of silence or of speech: in a third of a second there is no motion to speak of."""
MM_A_CM = 10.0


@dataclass(frozen=True)
class MouthMotion:
    """A mouth over T frames; NaN in frames without a face."""

    outer: FloatArray
    """(T,) distance of the lips' outer middles, in widths of the real mouth"""
    inner: FloatArray
    """(T,) distance of their inner middles likewise: 0 where they touch"""
    closed: BoolArray
    """(T,) whether the lips are closed; False without a face"""

    @classmethod
    def of(cls, content: FloatArray, mouth_px: float) -> "MouthMotion":
        """Of content (T, 2, 57) in source pixels. mouth_px: how wide the real mouth is, median over its frames."""
        found = np.isfinite(content).all(axis=(1, 2))
        closed = np.zeros(len(content), np.bool_)
        closed[found] = lips.lips_are_closed(content[found])
        return cls(lips.outer_opening(content) / mouth_px, lips.inner_opening(content) / mouth_px, closed)


def squares(values: npt.NDArray[np.floating]) -> float:
    """Sum of the squared distances of numbers (n,) from their mean; 0 for none."""
    return float(np.square(values - values.mean(), dtype=np.float64).sum()) if len(values) else 0.0


def spoken_and_silent(mel: FloatArray, frames: int) -> tuple[BoolArray, BoolArray]:
    """In which frames somebody speaks, and in which nobody does, by the sound (mel frames, 80); the frames between are neither.

    In silence the mouth has come to rest: the ways of 0.12 s from speech and to it are neither.
    """
    share = spoken_share(mel, frames)
    return share >= 1, share <= 0


def jitter_mm(pose: FloatArray, content: FloatArray) -> float | None:
    """How much mouth and jaw tremble: mean length of the second difference of their points' places on the head, over frames and points.

    pose (T, 2, 74) and content (T, 2, 57) in source pixels, NaN without a face; in mm of a face of the canonical size, so that
    distance, turning and leaning of the head play no part. Speech has some of it: the real video's figure says how much. None where no
    three frames on end have a face.
    """
    centre, turn = placement(pose)
    with np.errstate(invalid="ignore"):  # frames without a face
        on_head = (plane_of(content) - centre) / turn
    steps = np.abs(np.diff(on_head, n=2, axis=0))
    there = np.isfinite(steps).all(axis=1)
    return float(steps[there].mean() * MM_A_CM) if there.any() else None
