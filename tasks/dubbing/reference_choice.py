"""The references that the networks copy a person from: chosen among face crops that are kept while the video is looked at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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


class Candidates:
    """At most CANDIDATES face crops, those of evenly spread frames however many come: when it is full, every second frame's go."""

    def __init__(self, most: int = CANDIDATES) -> None:
        self.most = most
        self._kept: list[Candidate] = []
        self._stride = 1

    def offer(self, frame: int, make: Callable[[], Candidate]) -> None:
        """Keeps a candidate of a frame when it is one of those kept; `make` is called only then. A frame may have several faces."""
        if frame % self._stride:
            return
        self._kept.append(make())
        while len(self._kept) > self.most:
            self._stride *= 2
            self._kept = [kept for kept in self._kept if kept.frame % self._stride == 0]

    def of(self, tracks: Sequence[int]) -> list[Candidate]:
        """The candidates of some tracks, in the order of their frames."""
        return [candidate for candidate in self._kept if candidate.track in tracks]


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
