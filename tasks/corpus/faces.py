"""The face of one frame as the store keeps it: box, points, coded crop and what is measured of it."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from schemas.errors import MediaError
from schemas.settings import FormatSettings
from tasks.faces.crop import Box, crop_face, face_box, lip_opening, relative_points, split_points
from tasks.faces.tracks import FaceFrame

CODING = {
    "png": (".png", []),
    "webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),  # above 100: lossless
    "jpeg": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]),
}
"""Suffix and encoder settings by the format's name."""

FloatArray = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class CutFrame:
    """The face of one frame. pose: (2, 74), content: (2, 57) float32, 0..1 of the box; picture: the coded crop."""

    box: Box
    pose: FloatArray
    content: FloatArray
    lip_opening: float
    detected: bool
    picture: bytes
    sharpness: float
    brightness: float


def cut_face(face: FaceFrame, store_format: FormatSettings) -> CutFrame | None:
    """The crop of a followed face; None where there is no face, or where it lies outside the picture."""
    if face.points is None:
        return None
    crop = store_format.crop
    height, width = face.picture.shape[:2]
    try:
        box = face_box(face.points, (height, width), crop)
    except MediaError:
        return None  # points can lie outside when they were interpolated or guessed: a frame without a face
    pose, content = split_points(relative_points(face.points, box, crop))
    picture = crop_face(face.picture, box, crop.size)
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    return CutFrame(
        box=box,
        pose=pose,
        content=content,
        lip_opening=lip_opening(content),
        detected=face.detected,
        picture=encode_picture(picture, store_format.picture),
        sharpness=float(cv2.Laplacian(grey, cv2.CV_64F).var()),
        brightness=float(grey.mean()),
    )


def encode_picture(picture: Picture, coding: str) -> bytes:
    """A BGR picture as png, lossless webp or jpeg of quality 95."""
    suffix, parameters = CODING[coding]
    done, content = cv2.imencode(suffix, picture, parameters)
    if not done:
        raise ValueError(f"a picture of shape {picture.shape} could not be coded as {coding}")
    return bytes(content)
