"""Landmarks of a face by MediaPipe FaceMesh (contract: Landmarks)."""

import re
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
import numpy.typing as npt

from schemas.face_points import ORDER
from tasks.faces.quiet import filtered_stderr

MINIMUM_CONFIDENCE = 0.5
BLANK_SIZE = (16, 16, 3)
VISIBLE_SHARE = 0.5
"""Share of the points that must lie in the picture: FaceMesh guesses those outside, and a crop needs most of a face."""
START_UP_NOISE = re.compile(rb"^(INFO: Created TensorFlow Lite|WARNING: All log messages before absl|[IW]\d{4} .*\.cc:\d+\] )")
"""Lines that MediaPipe's compiled parts print past every log setting, and that no user can act on."""


class FaceMesh:
    """Finds the landmarks of one face in a picture, each picture by itself: no memory of the one before.

    A context manager; leaving it frees the networks. Works on one core; for one thread at a time.
    """

    def __init__(self) -> None:
        with filtered_stderr(START_UP_NOISE):
            # Imported late: it takes seconds and brings matplotlib.
            from mediapipe.python.solutions import face_mesh

            self._mesh: Any = face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True, max_num_faces=1, min_detection_confidence=MINIMUM_CONFIDENCE)
            self._mesh.process(np.zeros(BLANK_SIZE, dtype=np.uint8))  # its parts open in threads of their own: this waits for them
        self._is_warm = False

    def find(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64] | None:
        """Landmarks of the most certain face of a BGR picture (H, W, 3) of any size, None without one.

        Returns (131, 2) float64, x then y in source pixels, in `schemas.face_points.ORDER`. A face reaching out of the picture
        has points outside of it; one with less than VISIBLE_SHARE of its points inside counts as none.
        """
        faces = self._process(picture)
        if not faces:
            return None
        height, width = picture.shape[:2]
        mesh = faces[0].landmark
        points = np.array([(mesh[index].x * width, mesh[index].y * height) for index in ORDER])
        visible = ((points >= 0) & (points <= (width, height))).all(axis=1)
        return points if visible.mean() >= VISIBLE_SHARE else None

    def close(self) -> None:
        """Frees the networks; further calls do nothing."""
        if self._mesh is not None:
            self._mesh.close()
            self._mesh = None

    def _process(self, picture: npt.NDArray[np.uint8]) -> Any:
        if self._mesh is None:
            raise ValueError("this FaceMesh is closed")
        rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        if self._is_warm:
            return self._mesh.process(rgb).multi_face_landmarks
        with filtered_stderr(START_UP_NOISE):  # its parts speak up when first used, the last of them at the first face
            faces = self._mesh.process(rgb).multi_face_landmarks
        self._is_warm = bool(faces)
        return faces

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
