"""The references that the networks copy a person from: chosen among face crops that are kept while the video is looked at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tasks.faces import draw_sketch
from tasks.faces.references import reference_frames

Picture = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

CANDIDATES = 1000
"""Most face crops kept to choose references from: 50 MB at 128 pixels, every frame of the first 40 s at 25 a second."""
FIT_VISIBILITY = 0.5
"""Visibility of the mouth (`covered`) under which a face is not copied from: a microphone before the chin would come along."""
FIT_YAW_DEG = 50.0
"""How far a face is turned at most that is copied from: of one farther round half of the mouth is hidden."""
LEAST_FIT = 5
"""With fewer fit faces the others are copied from, too: the renderer needs some choice of mouths."""


@dataclass(frozen=True)
class References:
    """What the networks copy the person from.

    pose (N, 2, 74) and content (N, 2, 57): landmarks, float32, 0..1 of the box. faces and sketches (M, S, S, 3): uint8 BGR.
    """

    pose: FloatArray
    content: FloatArray
    faces: Picture
    sketches: Picture


@dataclass(frozen=True)
class Candidate:
    """The face crop (S, S, 3) of a frame that may become a reference; crop_size: (height, width) of its box in source pixels."""

    frame: int
    pose: FloatArray
    content: FloatArray
    lip_opening: float
    crop_size: tuple[float, float]
    face: Picture
    track: int = 0


@dataclass
class _OfTrack:
    """Candidates of one track, of every `stride`-th frame from `first` on. seen: frames in which it was offered one."""

    first: int
    stride: int = 1
    seen: int = 0
    kept: list[Candidate] = field(default_factory=list)

    def thin(self) -> None:
        """Lets every second frame's go; never the first one's."""
        self.stride *= 2
        self.kept = [kept for kept in self.kept if (kept.frame - self.first) % self.stride == 0]


class Candidates:
    """At most CANDIDATES face crops however many come, of each track those of evenly spread frames.

    When it is full the track that has most gives up half of them, so that who is seen briefly has as many as who is seen all the time.
    Of more tracks than there is room for, those seen in most frames have one each.
    """

    def __init__(self, most: int = CANDIDATES) -> None:
        self.most = most
        self._tracks: dict[int, _OfTrack] = {}
        self._held = 0

    def offer(self, frame: int, make: Callable[[], Candidate]) -> None:
        """Keeps the candidate of a face when it is one of those kept. A frame may have several faces, one of a track; frames come in order."""
        candidate = make()
        track = self._tracks.setdefault(candidate.track, _OfTrack(frame))
        track.seen += 1
        if (frame - track.first) % track.stride:
            return
        track.kept.append(candidate)
        self._held += 1
        while self._held > self.most:
            self._make_room()

    def _make_room(self) -> None:
        """Takes from who has most; where all have one, from who was seen least."""
        track = max(self._tracks.values(), key=lambda one: (len(one.kept), -one.seen))
        before = len(track.kept)
        if before == 1:
            track.kept = []
        else:
            track.thin()
        self._held -= before - len(track.kept)

    def of(self, tracks: Sequence[int]) -> list[Candidate]:
        """The candidates of some tracks, in the order of their frames."""
        chosen = (candidate for number in dict.fromkeys(tracks) if number in self._tracks for candidate in self._tracks[number].kept)
        return sorted(chosen, key=lambda candidate: candidate.frame)


def fit_to_copy(visibility: FloatArray, yaw_deg: FloatArray) -> npt.NDArray[np.bool_]:
    """Which frames (F,) show the mouth well enough to be copied from; a template's arrays."""
    return (visibility >= FIT_VISIBILITY) & ~(np.abs(yaw_deg) > FIT_YAW_DEG)


def fit_ones(candidates: Sequence[Candidate], fit: npt.NDArray[np.bool_]) -> Sequence[Candidate]:
    """Those of frames that are fit (F,), or all where these are too few."""
    some = [candidate for candidate in candidates if fit[candidate.frame]]
    return some if len(some) >= LEAST_FIT else candidates


def choose_references(candidates: Sequence[Candidate], landmarks: int, pictures: int, size: int) -> References:
    """References at even steps of the candidates sorted by lip opening (contract: Dubbing).

    A picture is not taken twice when there are fewer candidates than asked for: the renderer weighs equal ones as one.
    """
    openings = [candidate.lip_opening for candidate in candidates]
    for_landmarks = [candidates[index] for index in reference_frames(openings, landmarks)]
    for_pictures = [candidates[index] for index in dict.fromkeys(reference_frames(openings, pictures))]
    return References(
        pose=np.stack([candidate.pose for candidate in for_landmarks]),
        content=np.stack([candidate.content for candidate in for_landmarks]),
        faces=np.stack([candidate.face for candidate in for_pictures]),
        sketches=np.stack([draw_sketch(candidate.pose, candidate.content, candidate.crop_size, size) for candidate in for_pictures]),
    )
