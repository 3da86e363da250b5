"""Followed faces cut into segments: pieces of at most a segment's length in which one face is followed without gaps."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from schemas.errors import MediaError
from schemas.settings import FormatSettings
from tasks.corpus.faces import CutFrame, cut_face
from tasks.faces.tracks import FaceFrame


@dataclass(frozen=True)
class Segment:
    """Consecutive frames of one track; the segments of a track are counted from 0."""

    track: int
    number: int
    start_frame: int
    frames: tuple[CutFrame, ...]


def windows(faces: Iterable[tuple[FaceFrame, ...]], store_format: FormatSettings) -> Iterator[list[Segment]]:
    """The segments of each window with a face: windows of `segment_s` follow each other from the first frame of each scene on.

    All faces of a scene are cut at the same frames, so that those of one moment can be chosen among. Segments are in the order
    of their first frames, then tracks. Where decoding fails, the window up to there is given before the MediaError is raised again.
    """
    cutter = _Cutter(store_format)
    failure: MediaError | None = None
    try:
        for frame in faces:
            yield from cutter.take(frame)
    except MediaError as error:
        failure = error
    yield from cutter.end_window()
    if failure is not None:
        raise failure


class _Cutter:
    """Collects the segments of the window under way."""

    def __init__(self, store_format: FormatSettings) -> None:
        self._format = store_format
        self._longest = int(store_format.segment_s * store_format.fps)
        self._window = (0, 0)
        self._open: dict[int, list[CutFrame]] = {}
        self._starts: dict[int, int] = {}
        self._counts: Counter[int] = Counter()
        self._done: list[Segment] = []

    def take(self, faces: tuple[FaceFrame, ...]) -> Iterator[list[Segment]]:
        """Adds the faces of a frame; gives the window before it, if it begins one."""
        if faces and self._window_of(faces[0]) != self._window:
            yield from self.end_window()
            self._window = self._window_of(faces[0])
        cut = {face.track: (face.index, frame) for face in faces if face.track is not None and (frame := cut_face(face, self._format)) is not None}
        for track in self._open.keys() - cut.keys():
            self._end(track)
        for track, (index, frame) in cut.items():
            self._starts.setdefault(track, index)
            self._open.setdefault(track, []).append(frame)

    def end_window(self) -> Iterator[list[Segment]]:
        """Gives the window under way, if there is anything in it."""
        for track in list(self._open):
            self._end(track)
        if self._done:
            yield sorted(self._done, key=lambda segment: (segment.start_frame, segment.track))
        self._done = []

    def _window_of(self, face: FaceFrame) -> tuple[int, int]:
        return face.scene_start, (face.index - face.scene_start) // self._longest

    def _end(self, track: int) -> None:
        self._done.append(Segment(track, self._counts[track], self._starts.pop(track), tuple(self._open.pop(track))))
        self._counts[track] += 1
