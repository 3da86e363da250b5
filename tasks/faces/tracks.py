"""Following faces through a video: short gaps are bridged, a long gap or a jump begins a new track."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

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
    scene_start: index of the first frame of its scene.
    """

    index: int
    time_s: float
    picture: Picture
    points: Points | None
    detected: bool
    track: int | None
    scene_start: int = 0


class Finder(Protocol):
    """What finds all faces of a picture (`tasks.faces.detect.FaceFinder`)."""

    def find(self, picture: Picture, known: Sequence[Points]) -> list[Points]:
        """The faces (131, 2) of a picture; known: where those of the picture before were."""
        ...

    def forget(self) -> None:
        """The next picture has nothing to do with the one before."""
        ...


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


def follow_all_faces(frames: Iterable[Frame], finder: Finder, is_cut: Callable[[Picture], bool], max_gap: int = 5) -> Iterator[tuple[FaceFrame, ...]]:
    """The faces of every frame in order, by their tracks: one tuple a frame, empty without a face.

    A found face goes on with the track whose last box it overlaps most, by at least SAME_FACE_OVERLAP; else it begins one.
    Gaps of up to `max_gap` frames are interpolated linearly, a longer one ends the track, and so does a cut: `is_cut` is asked
    once a picture, in order, whether a new scene begins with it. Holds at most max_gap + 1 pictures.
    """
    follower = _Follower(max_gap)
    finder.forget()
    for frame in frames:
        if is_cut(frame.picture):
            yield from follower.end_scene(frame.index)
            finder.forget()
        follower.add(frame, finder.find(frame.picture, follower.known))
        yield from follower.settled()
    yield from follower.end_scene(0)


@dataclass
class _Track:
    """A face being followed: where it was found last."""

    number: int
    points: Points
    index: int


@dataclass
class _Pending:
    """A frame that waits until it is known which gaps of it are bridged."""

    frame: Frame
    scene_start: int
    faces: dict[int, tuple[Points, bool]] = field(default_factory=dict)  # points and whether detected, by track

    def faces_by_track(self) -> tuple[FaceFrame, ...]:
        frame = self.frame
        return tuple(
            FaceFrame(frame.index, frame.time_s, frame.picture, points, detected, track, self.scene_start)
            for track, (points, detected) in sorted(self.faces.items())
        )


class _Follower:
    """The tracks under way, and the frames whose faces are not settled yet."""

    def __init__(self, max_gap: int) -> None:
        self._max_gap = max_gap
        self._active: list[_Track] = []
        self._pending: deque[_Pending] = deque()
        self._tracks = 0
        self._scene_start = 0

    @property
    def known(self) -> list[Points]:
        """Where the faces under way were last."""
        return [track.points for track in self._active]

    def add(self, frame: Frame, faces: Sequence[Points]) -> None:
        """Takes the faces found in the next frame."""
        pending = _Pending(frame, self._scene_start)
        self._pending.append(pending)
        for points, known in zip(faces, _matched(faces, self._active), strict=True):
            track = known or self._begin(points, frame.index)
            self._bridge(track, points, frame.index)
            track.points, track.index = points, frame.index
            pending.faces[track.number] = (points, True)
        self._active = [track for track in self._active if frame.index - track.index <= self._max_gap]

    def settled(self) -> Iterator[tuple[FaceFrame, ...]]:
        """Hands on, and lets go of, the frames that no gap under way reaches back to."""
        until = min((track.index for track in self._active), default=None)
        while self._pending and (until is None or self._pending[0].frame.index <= until):
            yield self._pending.popleft().faces_by_track()

    def end_scene(self, next_start: int) -> Iterator[tuple[FaceFrame, ...]]:
        """Ends every track and hands on all frames; the next scene begins with the frame `next_start`."""
        self._active.clear()
        yield from self.settled()
        self._scene_start = next_start

    def _begin(self, points: Points, index: int) -> _Track:
        track = _Track(self._tracks, points, index)
        self._tracks += 1
        self._active.append(track)
        return track

    def _bridge(self, track: _Track, points: Points, index: int) -> None:
        """Points on the straight way from where the track was found last to where it is found now."""
        steps = index - track.index
        for pending in self._pending:
            step = pending.frame.index - track.index
            if 0 < step < steps:
                pending.faces[track.number] = ((1 - step / steps) * track.points + step / steps * points, False)


def _matched(faces: Sequence[Points], tracks: Sequence[_Track]) -> list[_Track | None]:
    """The track of each face, or None: pairs in falling order of their overlap, then of face and track; each used once."""
    pairs = [(-overlap(face, track.points), which, number) for which, face in enumerate(faces) for number, track in enumerate(tracks)]
    matched: list[_Track | None] = [None] * len(faces)
    taken: set[int] = set()
    for negative, which, number in sorted(pairs):
        if -negative >= SAME_FACE_OVERLAP and matched[which] is None and number not in taken:
            matched[which] = tracks[number]
            taken.add(number)
    return matched


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
