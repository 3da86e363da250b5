"""Which of the faces that were followed through a video is dubbed: one person's, in all shots.

It is decided by the video's beginning, so that all dubs of a video, long and short ones, are of the same person.

Somebody else who fills a shot is not dubbed there: the person's references would give him another face.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from schemas.errors import MediaError
from schemas.reasons import Reason
from tasks.audio import SAMPLE_RATE
from tasks.corpus.speaking import FEWEST_FRAMES, LIPS_CORRELATE, best_correlation, loudness_a_frame
from tasks.dubbing.appearance import SAME_PERSON, Look, likeness
from tasks.faces.crop import Box

FloatArray = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.float64]

PLACES = {"left": 0, "right": -1}
"""Of the faces from left to right."""
DECIDED_BY_S = 40
"""Seconds of a video, or from its first face on where that comes later, by which the person is decided. Every dub looks at so much."""
MOST_PERSONS = 6
"""Persons among whom the largest or the speaking one is sought: those with the largest faces."""
SAME_PLACE_OVERLAP = 0.3
"""Intersection over union of the boxes before and after a face was lost in a shot, from which on it is the same person."""


@dataclass(eq=False)
class FollowedFace:
    """A face that was followed without a break: a track. Frames of the video; boxes in source pixels.

    frames: so many of its first ones decide who is dubbed; area: the sum of their boxes', in pixels.
    """

    track: int
    shot: int
    first: int
    last: int
    first_box: Box
    last_box: Box
    area: float = 0.0
    across: float = 0.0
    frames: int = 0
    looks: list[Look] = field(default_factory=list)

    def add(self, frame: int, box: Box, *, decides: bool = True) -> None:
        """Goes on with a frame."""
        self.last, self.last_box = frame, box
        if not decides:
            return
        self.area += box.width * box.height
        self.across += (box.x0 + box.x1) / 2
        self.frames += 1

    @property
    def middle_px(self) -> float:
        """Its mean place from left to right, in source pixels."""
        return self.across / self.frames

    @property
    def last_deciding(self) -> int:
        """The last of its frames that decide who is dubbed."""
        return self.first + self.frames - 1


def person_of(faces: Sequence[FollowedFace], choice: str, follows_sound: Callable[[FollowedFace], float], pictured: Callable[[], Look], name: str) -> list[int]:
    """The tracks of the person that the setting `face` names; no two of them share a frame.

    faces: at least one whose frames decide. follows_sound: how well a face's lips go with the sound, -1..1. pictured: the look of the person in the picture
    that `choice` names. name: of the video. Raises MediaError(NO_FACE) when the named one is not there, and what `pictured` raises.
    """
    if choice == "largest":
        return _tracks(max(_persons(faces), key=_area))
    if choice == "speaking":
        return _tracks(_speaking(_persons(faces), follows_sound))
    if choice in PLACES or choice.isdecimal():
        return _tracks(_appearances(_placed(faces, choice, name), faces))
    return _tracks(_appearances(_like(faces, pictured(), choice, name), faces))


def lips_follow(openings: FloatArray, first_s: float, fps: float, waveform: FloatArray) -> float:
    """Best correlation of lip openings (n,), a frame at `fps` from `first_s` on, with the loudness of a sound, over shifts of a few frames.

    waveform: (m,) 16 kHz mono from the video's first frame on. -1..1; 0 for less than a second, and where either does not vary.
    """
    first, frames = round(first_s * 25), int(len(openings) / fps * 25)
    if frames < FEWEST_FRAMES:
        return 0.0
    opening = np.interp(np.arange(frames) / 25, np.arange(len(openings)) / fps, openings.astype(np.float64))
    loudness = loudness_a_frame(waveform[first * SAMPLE_RATE // 25 :], 0, frames)
    return best_correlation(opening, loudness)


def _tracks(person: Sequence[FollowedFace]) -> list[int]:
    return sorted(face.track for face in person)


def _area(person: Sequence[FollowedFace]) -> float:
    return sum(face.area for face in person)


def _persons(faces: Sequence[FollowedFace]) -> list[list[FollowedFace]]:
    """The first MOST_PERSONS persons: each the largest face that is left, with what else is the same person's."""
    left = list(faces)
    persons: list[list[FollowedFace]] = []
    while left and len(persons) < MOST_PERSONS:
        person = _appearances(max(left, key=lambda face: face.area), left)
        persons.append(person)
        left = [face for face in left if face not in person]
    return persons


def _appearances(seed: FollowedFace, faces: Sequence[FollowedFace]) -> list[FollowedFace]:
    """The tracks of the person of one track: those that look alike, the most alike first, then those found again in the same place."""
    person = [seed]
    ranked = sorted(((likeness(seed.looks, face.looks), face) for face in faces if face is not seed), key=lambda pair: (-pair[0], pair[1].track))
    for like, face in ranked:
        if like >= SAME_PERSON and not _at_once(face, person):
            person.append(face)
    for face in sorted((face for _, face in ranked if face not in person), key=lambda face: face.first):
        if not _at_once(face, person) and _found_again(face, person):
            person.append(face)
    return person


def _at_once(face: FollowedFace, person: Sequence[FollowedFace]) -> bool:
    return any(face.first <= other.last and other.first <= face.last for other in person)


def _found_again(face: FollowedFace, person: Sequence[FollowedFace]) -> bool:
    """Whether a face is where the person was lost in its shot, or was found later."""
    for other in person:
        before, after = (other, face) if other.last < face.first else (face, other)
        if other.shot == face.shot and _overlap(before.last_box, after.first_box) >= SAME_PLACE_OVERLAP:
            return True
    return False


def _overlap(first: Box, second: Box) -> float:
    across = max(0.0, min(first.x1, second.x1) - max(first.x0, second.x0))
    shared = across * max(0.0, min(first.y1, second.y1) - max(first.y0, second.y0))
    return shared / (first.width * first.height + second.width * second.height - shared)


def _speaking(persons: Sequence[list[FollowedFace]], follows_sound: Callable[[FollowedFace], float]) -> list[FollowedFace]:
    """The person whose lips move with the sound most and for longest; the largest where nobody's do."""
    spoken = [sum(_spoken(face, follows_sound(face)) for face in person) for person in persons]
    return max(zip(spoken, persons, strict=True), key=lambda pair: (pair[0], _area(pair[1])))[1]


def _spoken(face: FollowedFace, follows: float) -> float:
    return face.frames * follows if follows >= LIPS_CORRELATE else 0.0


def _placed(faces: Sequence[FollowedFace], choice: str, name: str) -> FollowedFace:
    """The one at a place from left to right, counted at the moment that shows the most faces."""
    deciding = [face for face in faces if face.frames]
    moments = [[face for face in deciding if face.first <= other.first <= face.last_deciding] for other in deciding]
    moment = max(moments, key=lambda seen: (len(seen), min(face.last_deciding for face in seen) - max(face.first for face in seen)))
    row = sorted(moment, key=lambda face: face.middle_px)
    place = PLACES[choice] if choice in PLACES else int(choice)
    if place >= len(row):
        most = "one face is" if len(row) == 1 else f"{len(row)} faces are"
        place_in = f"{name} (its first {DECIDED_BY_S} s decide)"
        raise MediaError(Reason.NO_FACE, f"At most {most} seen at once in {place_in}, so there is no face {choice}: they are counted from 0, left to right.")
    return row[place]


def _like(faces: Sequence[FollowedFace], look: Look, choice: str, name: str) -> FollowedFace:
    best = max(faces, key=lambda face: likeness([look], face.looks))
    if likeness([look], best.looks) < SAME_PERSON:
        raise MediaError(Reason.NO_FACE, f"None of the faces in {name} looks like the one in {choice}; give a picture out of the video itself.")
    return best
