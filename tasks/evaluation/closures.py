"""Closed-lip moments against the real video: p, b and m close the lips, and a viewer sees at once where a dub does not."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]

TOLERANCE_FRAMES = 2
"""A closing so many frames early or late is the same one: 80 ms, about where viewers begin to see that lips and sound are apart."""


@dataclass(frozen=True)
class Closures:
    """Counts of one or more clips, to be added up before shares are taken, so that clips weigh by what they hold.

    Precision counts frames and recall moments. A mouth that never opens is one long moment that touches all real ones: by frames
    most of it is wrong. A missed b of two frames is seen as well as a pause of twenty: by moments each counts the same.
    """

    predicted_frames: int = 0
    """Frames with predicted closed lips."""
    right_frames: int = 0
    """Those of them with really closed lips within the tolerance."""
    real_moments: int = 0
    """Unbroken runs of frames with really closed lips."""
    met_moments: int = 0
    """Those of them in which, or within the tolerance of which, closed lips are predicted."""

    def __add__(self, other: Self) -> "Closures":
        return Closures(*(ours + theirs for ours, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))

    @property
    def precision(self) -> float:
        """Share of the predicted closed frames that are right, 0..1; 0 where none are predicted, for none is right."""
        return self.right_frames / self.predicted_frames if self.predicted_frames else 0.0

    @property
    def recall(self) -> float | None:
        """Share of the real closed moments that are met, 0..1; None where there are none."""
        return self.met_moments / self.real_moments if self.real_moments else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall: high only where both are; None where there are no real closed moments."""
        if self.recall is None:
            return None
        return 2 * self.precision * self.recall / (self.precision + self.recall) if self.met_moments else 0.0


def compare_closures(predicted: BoolArray, real: BoolArray, tolerance_frames: int = TOLERANCE_FRAMES) -> Closures:
    """Counts of one clip from its frames with closed lips (T,), predicted and real, as `lips.lips_are_closed` gives them."""
    near_predicted, near_real = widened(predicted, tolerance_frames), widened(real, tolerance_frames)
    moments = closed_moments(real)
    met = sum(bool(near_predicted[first:end].any()) for first, end in moments)
    return Closures(int(predicted.sum()), int((predicted & near_real).sum()), len(moments), met)


def closed_moments(closed: BoolArray) -> list[tuple[int, int]]:
    """Unbroken runs of closed frames: the first frame of each, and the one after its last."""
    changes = np.flatnonzero(np.diff(closed.astype(np.int8), prepend=0, append=0))
    return [(int(first), int(end)) for first, end in changes.reshape(-1, 2)]


def widened(closed: BoolArray, frames: int) -> BoolArray:
    """True (T,) where a closed frame is at most so many frames away."""
    counts = np.cumsum(np.pad(closed.astype(np.int64), (frames + 1, frames)))
    near: BoolArray = counts[2 * frames + 1 :] > counts[: len(closed)]
    return near
