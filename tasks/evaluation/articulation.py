"""How strongly a mouth speaks, against the real one. Generated mouths mumble: a known defect is a third of the real opening."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

LEAST_SPREAD = 1e-6
"""Of real openings in mouth widths: below it nobody speaks, and nothing can be compared with it."""


def spread(openings: Sequence[npt.NDArray[np.floating]]) -> float:
    """How far lip openings (T,) of some clips lie from their own clip's mean: the root of the mean square over all frames; 0 without frames.

    Within clips, as a mouth that hangs open says nothing; over all frames at once, so that a clip with a still mouth counts as little as it shows.
    """
    frames = sum(len(opening) for opening in openings)
    squares = sum(float(np.square(opening - opening.mean(), dtype=np.float64).sum()) for opening in openings if len(opening))
    return float(np.sqrt(squares / frames)) if frames else 0.0


def articulation(predicted: Sequence[npt.NDArray[np.floating]], real: Sequence[npt.NDArray[np.floating]]) -> float | None:
    """The spread of the predicted lip openings as a share of that of the real ones, clip by clip the same frames in the same unit.

    1: the mouth moves as much as the real one; under 1 it mumbles, over 1 it overdoes it; 0: it stands still. It does not say whether it
    moves at the right time. Give openings in mouth widths, so that near faces count no more than far ones. None where the real mouths do not move.
    """
    real_spread = spread(real)
    return spread(predicted) / real_spread if real_spread > LEAST_SPREAD else None
