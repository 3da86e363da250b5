"""The jaw's outline by dlib's 68-point predictor, for who has one: it takes over from FaceMesh's in the mask of a dub."""

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from schemas.errors import SettingsError
from schemas.locations import without_secrets
from tasks.places import local_copy

Picture = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

PREDICTED_POINTS = 68
JAW_POINTS = 17
"""The first of the 68: from ear to ear, as the jaw's 17 points of content."""
UPPER_OUTLINE = slice(0, 8)
"""The outline's points in pose, from the temples to the jaw's ends: ORDER positions 0-3 and 21-24."""
BROWS = slice(8, 28)
"""The brows' points in pose."""
BELIEVED_SHARE = 0.15
"""Mean distance to FaceMesh's jaw, in widths of the face, from which on the predictor has lost the face and is not believed."""


class JawPredictor:
    """Finds the jaw of a face whose brows and temples are known. For one thread at a time."""

    def __init__(self, predictor: Any) -> None:
        """predictor: a `dlib.shape_predictor` of 68 points."""
        self._predictor = predictor

    def jaw(self, picture: Picture, pose: FloatArray, known: FloatArray) -> FloatArray:
        """The jaw (2, 17) float32, 0..1 of the picture, of the face with this pose (2, 74), 0..1.

        picture (H, W, 3) BGR with the face in its true proportions. known (2, 17): FaceMesh's jaw, which is given back where the
        predictor is far from it.
        """
        height, width = picture.shape[:2]
        shape = self._predictor(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), face_rectangle(pose, width, height))
        jaw = np.array([(shape.part(index).x / width, shape.part(index).y / height) for index in range(JAW_POINTS)], dtype=np.float32).T
        face_width = float(np.ptp(pose[0, UPPER_OUTLINE]))
        distance = float(np.linalg.norm(jaw - known, axis=0).mean())
        return jaw if distance <= BELIEVED_SHARE * face_width else known


def face_rectangle(pose: FloatArray, width: int, height: int) -> Any:
    """The square in which dlib's detector would see the face: as wide as the temples are apart, from the brows down.

    It does not depend on the jaw, so that an open mouth is found by what is seen. `dlib.rectangle` in pixels.
    """
    import dlib

    x, y = pose[0, UPPER_OUTLINE] * width, pose[1, BROWS] * height
    left, right, top = float(x.min()), float(x.max()), float(y.min())
    return dlib.rectangle(round(left), round(top), round(right), round(top + right - left))


@lru_cache(maxsize=1)
def load_jaw_predictor(location: str) -> JawPredictor:
    """The predictor in a file at a path or URI; read once a process, for it is some 100 MB. SettingsError when it is none."""
    import dlib  # imported late: who has no predictor needs no dlib

    shown = without_secrets(location)
    try:
        with local_copy(location) as path:
            predictor = dlib.shape_predictor(str(path))
    except (OSError, RuntimeError) as error:
        raise SettingsError(f"jaw_predictor: {shown} cannot be read as a shape predictor of dlib.") from error
    points = predictor(np.zeros((64, 64), dtype=np.uint8), dlib.rectangle(8, 8, 56, 56)).num_parts
    if points != PREDICTED_POINTS:
        raise SettingsError(f"jaw_predictor: {shown} predicts {points} points; one of {PREDICTED_POINTS} points is needed.")
    return JawPredictor(predictor)
