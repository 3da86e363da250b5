"""Looks at a video here and there: what its faces are like, at a cost that does not grow with its length."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from schemas.errors import MediaError
from schemas.settings import CropSettings, CuttingSettings
from tasks.corpus.scenes import IsCut, cut_finder
from tasks.dubbing.face_choice import PLACES
from tasks.faces.crop import Box, crop_face, face_box
from tasks.faces.detect import FaceFinder
from tasks.faces.head_angles import head_angles
from tasks.media.decode import Frame, read_frames, read_picture
from tasks.media.probe import MediaInfo
from tasks.progress import Progress, silent

Picture = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]

LOOKS_A_SECOND = 2
"""A face that is lost or turned away for less is a matter of frames, which only a dub's own first pass can count."""
WHOLE_UP_TO_S = 40.0
"""Videos up to this length are looked at from end to end."""
STRETCHES, STRETCH_S = 8, 5
"""Longer ones in so many stretches of so many seconds, spread evenly: 8 seeks and 40 s of decoding, about 15 s of one core at 1080p."""
MOST_FACES = 4
MEASURED_PX = 128
"""Faces are brought to this size before sharpness is measured, so that it means the same for all of them."""
LIKE_IN_SIZE = 0.5
"""A face whose box has at least this share of the largest one's width is a person who may be meant, and no passer-by."""


@dataclass(frozen=True)
class Face:
    """What a look says of one face.

    face_px: shorter side of its box, yaw_deg: how far it is turned, from 0; sharpness: variance of the Laplacian at 128 pixels;
    brightness: mean grey, 0..255.
    """

    face_px: float
    yaw_deg: float
    sharpness: float
    brightness: float


@dataclass(frozen=True)
class Glance:
    """One look. time_s: of the video. face: the one looked at, None without it. persons: faces nearly as large as the largest, it too.

    is_cut: the picture has little to do with that of the look before. seen: faces of any size.
    """

    time_s: float
    face: Face | None
    persons: int
    is_cut: bool
    seen: int


def looks_at(path: Path, info: MediaInfo, until_s: float | None, crop: CropSettings, face: str = "largest", progress: Progress = silent) -> list[Glance]:
    """Looks at the first `until_s` seconds of a video (None: of what there is), two a second, or at a still picture once.

    face: as in `DubSettings`; by its place from left to right, counted in each picture anew, or else the largest of each picture. None is
    looked at where it names a place that no picture has. More than WHOLE_UP_TO_S seconds, and what has no known length, are looked at in
    samples. Raises what decoding raises.
    """
    looks: list[Glance] = []
    with FaceFinder(CuttingSettings(detector="both", max_faces=MOST_FACES)) as finder:
        for frames in _stretches(path, info, until_s):
            is_cut = cut_finder(CuttingSettings().scene_threshold)
            for frame in frames:
                looks.append(_look(frame, finder, is_cut, crop, face))
                progress(len(looks), None, "looks at the video")
    is_there = not face.isdecimal() or int(face) < max((look.seen for look in looks), default=0)
    return looks if is_there else [replace(look, face=None) for look in looks]


def _stretches(path: Path, info: MediaInfo, until_s: float | None) -> Iterator[Iterator[Frame]]:
    if info.is_picture:
        yield iter([Frame(0, 0.0, read_picture(path))])
        return
    length_s = min((limit for limit in (info.duration_s, until_s) if limit is not None), default=WHOLE_UP_TO_S)
    if length_s <= WHOLE_UP_TO_S or info.duration_s is None:
        yield _frames(path, 0.0, min(length_s, WHOLE_UP_TO_S))
        return
    for begin_s in np.linspace(0, length_s - STRETCH_S, STRETCHES):
        yield _frames(path, float(begin_s), float(begin_s) + STRETCH_S)


def _frames(path: Path, begin_s: float, end_s: float) -> Iterator[Frame]:
    first = round(begin_s * LOOKS_A_SECOND)
    return read_frames(path, Fraction(LOOKS_A_SECOND), first, max(first + 1, round(end_s * LOOKS_A_SECOND)))


def _look(frame: Frame, finder: FaceFinder, is_cut: IsCut, crop: CropSettings, choice: str) -> Glance:
    finder.forget()  # half a second has passed: each picture is looked at by itself
    size = (frame.picture.shape[0], frame.picture.shape[1])
    boxed = [(box, points) for points in finder.find(frame.picture) if (box := _box(points, size, crop)) is not None]
    cut = is_cut(frame.picture)
    if not boxed:
        return Glance(frame.time_s, None, 0, cut, 0)
    largest_px = max(box.width for box, _ in boxed)
    persons = sum(box.width >= LIKE_IN_SIZE * largest_px for box, _ in boxed)
    return Glance(frame.time_s, _face(frame.picture, *_chosen(boxed, choice)), persons, cut, len(boxed))


def _chosen(boxed: list[tuple[Box, Points]], choice: str) -> tuple[Box, Points]:
    """The face at the place that `choice` names (the last one where fewer are seen), or the largest."""
    if choice not in PLACES and not choice.isdecimal():
        return max(boxed, key=lambda face: face[0].width)
    row = sorted(boxed, key=lambda face: face[0].x0 + face[0].x1)
    return row[PLACES[choice] if choice in PLACES else min(int(choice), len(row) - 1)]


def _box(points: Points, size: tuple[int, int], crop: CropSettings) -> Box | None:
    try:
        return face_box(points, size, crop)
    except MediaError:  # outside the picture: no face that could be dubbed
        return None


def _face(picture: Picture, box: Box, points: Points) -> Face:
    grey = cv2.cvtColor(crop_face(picture, box, MEASURED_PX), cv2.COLOR_BGR2GRAY)
    yaw_deg = abs(float(head_angles(points[None])[0, 0]))
    return Face(min(box.width, box.height), yaw_deg, float(cv2.Laplacian(grey, cv2.CV_64F).var()), float(grey.mean()))
