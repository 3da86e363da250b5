"""Following one face through a video: short gaps are bridged, a long gap or a jump begins a new track."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.media.decode import Frame

Picture = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]

SAME_FACE_OVERLAP = 0.3
"""Lowest intersection over union of the boxes of one face in consecutive found frames: at 25 fps a head moves far less."""


@dataclass(frozen=True)
class FaceFrame:
    """A frame and the face in it.

    picture: (H, W, 3) uint8 BGR. points: (131, 2) float64 source pixels, None without a face. detected: False also where the
    points are interpolated. track: number of the face, counted from 0 in the order of appearance; None without a face.
    """

    index: int
    time_s: float
    picture: Picture
    points: Points | None
    detected: bool
    track: int | None


def follow_faces(frames: Iterable[Frame], find: Callable[[Picture], Points | None], max_gap: int = 5) -> Iterator[FaceFrame]:
    """Every frame in order, each with its face.

    Gaps of up to `max_gap` frames between two findings of one face are interpolated linearly. A longer gap, or a face whose
    box overlaps the last one by less than SAME_FACE_OVERLAP, begins a new track; frames before the first finding and
    after the last have no face. Holds at most max_gap + 1 pictures.
    """
    gap: deque[Frame] = deque()
    last: Points | None = None
    track = -1
    for frame in frames:
        points = find(frame.picture)
        if points is None:
            gap.append(frame)
            if last is None or len(gap) > max_gap:
                last = None
                yield from _without_face(gap)
            continue
        if last is not None and overlap(last, points) >= SAME_FACE_OVERLAP:
            yield from _interpolated(gap, last, points, track)
        else:
            yield from _without_face(gap)
            track += 1
        yield FaceFrame(frame.index, frame.time_s, frame.picture, points, detected=True, track=track)
        last = points
    yield from _without_face(gap)


def overlap(first: Points, second: Points) -> float:
    """Intersection over union of the bounds of two sets of points (n, 2): 0..1."""
    shared = np.minimum(first.max(axis=0), second.max(axis=0)) - np.maximum(first.min(axis=0), second.min(axis=0))
    intersection = float(np.prod(np.maximum(shared, 0.0)))
    union = float(np.prod(np.ptp(first, axis=0)) + np.prod(np.ptp(second, axis=0))) - intersection
    return intersection / union if union > 0 else 0.0


def _without_face(gap: deque[Frame]) -> Iterator[FaceFrame]:
    """Empties the gap: frames leave it as they are handed on, so that no picture is held longer than needed."""
    while gap:
        frame = gap.popleft()
        yield FaceFrame(frame.index, frame.time_s, frame.picture, points=None, detected=False, track=None)


def _interpolated(gap: deque[Frame], before: Points, after: Points, track: int) -> Iterator[FaceFrame]:
    """Empties the gap, with points on the straight way from the face before it to the face after it."""
    steps = len(gap) + 1
    for step in range(1, steps):
        frame = gap.popleft()
        share = step / steps
        yield FaceFrame(frame.index, frame.time_s, frame.picture, points=(1 - share) * before + share * after, detected=False, track=track)
