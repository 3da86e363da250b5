"""Boxes and landmarks over time without jitter and without lag: Savitzky-Golay, a parabola fitted around every frame. NumPy alone."""

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt

BOX_WINDOW_S = 0.6
"""Of the boxes. What moves faster than about twice a second may move within its box: the points are shares of it, so nothing is lost."""
HEAD_WINDOW_S = 0.36
"""Of what the head does (pose): of a nod or shake 3 times a second 7 tenths stay, of FaceMesh's jitter from frame to frame half."""
CONTENT_WINDOW_S = 0.2
"""Of mouth and jaw: lips that close for 2 frames of 25 a second keep five sixths of it."""
DEGREE = 2
"""Of the fitted polynomial: constants, straight lines and parabolas come out as they are."""
SMALLEST_WINDOW = 5
"""Frames. In fewer a parabola follows whatever there is, and a straight line would take closures of the lips away."""
PIECE_FRAMES = 2000
"""Frames smoothed at a time, to bound memory: 4 MB of landmarks."""

Values = TypeVar("Values", npt.NDArray[np.float32], npt.NDArray[np.float64])


def smoothed(values: Values, frames_a_second: float, how: str, window_s: float = HEAD_WINDOW_S) -> Values:
    """One stretch (n, ...), float32 or float64, of values without a break (no cut, no gap, one track): the same shape and dtype.

    how: "savitzky-golay" or "none", as the setting `smoothing`. Each value becomes that of the parabola through the window around it (the
    first and last ones: of the first or last whole window), so there is no lag, also at the ends. Of the window, `window_s` long, a stretch
    that is shorter gives what it has; with less than SMALLEST_WINDOW frames values stay as they are.
    """
    reach = _reach(len(values), frames_a_second, how, window_s)
    if reach == 0:
        return values.copy()
    weights = _weights(reach)
    flat = values.reshape(len(values), -1).astype(np.float64)
    window = len(weights)
    result = np.empty_like(flat)
    result[:reach] = weights[:reach] @ flat[:window]
    result[len(flat) - reach :] = weights[reach + 1 :] @ flat[-window:]
    result[reach : len(flat) - reach] = sum(weight * flat[place : len(flat) - window + 1 + place] for place, weight in enumerate(weights[reach]))
    return result.reshape(values.shape).astype(values.dtype)


def pieces_of(frames: int, frames_a_second: float) -> Iterator[tuple[slice, slice]]:
    """A long stretch in pieces that can be smoothed one by one as if it were smoothed whole: (what to smooth, what to keep of that)."""
    margin = round(max(BOX_WINDOW_S, HEAD_WINDOW_S, CONTENT_WINDOW_S) * frames_a_second) + 1
    for first in range(0, frames, PIECE_FRAMES):
        last = min(first + PIECE_FRAMES, frames)
        begin, end = _with_whole_windows(first, last, frames, margin)
        yield slice(begin, end), slice(first - begin, last - begin)


def _with_whole_windows(first: int, last: int, frames: int, margin: int) -> tuple[int, int]:
    """The piece and what the windows of its frames reach; the windows of the ends lie within the stretch."""
    return max(0, min(first - margin, frames - 2 * margin)), min(frames, max(last + margin, 2 * margin))


def _reach(frames: int, frames_a_second: float, how: str, window_s: float) -> int:
    """Frames on each side of the middle of a window; 0: nothing is to be smoothed."""
    if how == "none":
        return 0
    reach = min(round((window_s * frames_a_second - 1) / 2), (frames - 1) // 2)
    return reach if 2 * reach + 1 >= SMALLEST_WINDOW else 0


def _weights(reach: int) -> npt.NDArray[np.float64]:
    """(window, window): row k gives the value at place k of the parabola fitted to a window of 2 * reach + 1 values."""
    powers = np.vander(np.arange(-reach, reach + 1) / reach, DEGREE + 1)
    return powers @ np.linalg.pinv(powers)
