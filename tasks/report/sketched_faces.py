"""A real and a generated face with their landmarks drawn over them, at the moment at which their mouths differ most."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from schemas.errors import MediaError
from schemas.settings import CropSettings
from tasks.faces.crop import crop_face, face_box, lip_opening, relative_points, split_points
from tasks.faces.landmarks import FaceMesh
from tasks.faces.sketch import draw_sketch
from tasks.media.decode import read_frames
from tasks.mel_windows import VIDEO_FPS

Picture = npt.NDArray[np.uint8]

FACE_PX = 192
LINE_BGR = (80, 255, 120)
"""No skin, hair or clothing has it."""
SHOWS = CropSettings(padding=0.15, anchor="all-points")
"""Jaw, mouth and brows with some room around them, whatever crop the networks have."""


@dataclass(frozen=True)
class SketchedFace:
    """A face (FACE_PX, FACE_PX, 3) as it is and with its sketch over it, and how far its lips are apart in shares of its box."""

    plain: Picture
    sketched: Picture
    opening: float


def differing_faces(real: Path, generated: Path, longest_s: float) -> Picture | None:
    """(FACE_PX, 4 FACE_PX, 3): the real face and it with its sketch, the generated one likewise, where their lips differ most in opening.

    None where in no frame both show a face. MediaError when a video cannot be read.
    """
    pairs = _pairs(real, generated, longest_s)
    worst = max(pairs, key=lambda pair: abs(pair[0].opening - pair[1].opening), default=None)
    return None if worst is None else np.hstack([picture for face in worst for picture in (face.plain, face.sketched)])


def _pairs(real: Path, generated: Path, longest_s: float) -> Iterator[tuple[SketchedFace, SketchedFace]]:
    last = round(longest_s * VIDEO_FPS)
    mesh = FaceMesh()
    try:
        for one, other in zip(read_frames(real, VIDEO_FPS, 0, last), read_frames(generated, VIDEO_FPS, 0, last), strict=False):
            faces = [_sketched(frame.picture, mesh) for frame in (one, other)]
            if faces[0] is not None and faces[1] is not None:
                yield faces[0], faces[1]
    finally:
        mesh.close()


def _sketched(picture: Picture, mesh: FaceMesh) -> SketchedFace | None:
    points = mesh.find(picture)
    if points is None:
        return None
    try:
        box = face_box(points, (picture.shape[0], picture.shape[1]), SHOWS)
    except MediaError:  # outside the picture
        return None
    pose, content = split_points(relative_points(points, box, SHOWS))
    lines = draw_sketch(pose, content, (box.height, box.width), FACE_PX)
    plain = cv2.resize(crop_face(picture, box, FACE_PX), (FACE_PX, FACE_PX), interpolation=cv2.INTER_AREA)
    sketched = np.where(lines > 0, np.array(LINE_BGR, np.uint8), plain)
    return SketchedFace(np.asarray(plain, np.uint8), np.asarray(sketched, np.uint8), lip_opening(content))
