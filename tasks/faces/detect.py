"""Finding the faces of a picture as the settings say: by FaceMesh alone, by dlib's frontal detector first, or by both."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
import numpy.typing as npt

from schemas.settings import CuttingSettings
from tasks.faces.landmarks import FaceMesh, distinct_faces

Picture = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]

WIDENED_SIDEWAYS = 0.1
WIDENED_UP_AND_DOWN = 0.3
"""How much of its size a box grows on each side before FaceMesh looks into it, as LIP_MASK does it: dlib's boxes end at the brows."""
DLIB_LONGER_PX = 960
"""Longer side of the picture that dlib sees. Its detector finds faces of 80 pixels: a twelfth of the longer side, where FaceMesh alone
misses what is under a tenth. 800 found fewer of those and took two thirds of the time; 1280 found more and took twice as long."""
LARGEST_ENLARGEMENT = 2.0
"""A small picture is enlarged for dlib by this much at most: faces of 40 pixels are found in it, smaller ones are of no use."""
FRAMES_A_LOOK = 5
"""While a face stays lost, dlib looks at one frame in so many: a gap of up to 5 frames is bridged, so none is lost by waiting."""


class FaceFinder:
    """The faces of each picture of a video, as `detector`, `mesh` and `max_faces` of the settings say.

    A context manager; leaving it frees the networks. FaceMesh is made anew after `clips_a_mesh` clips, as counted by
    `count_clip`, because it is known to leak. For one thread at a time.
    """

    def __init__(self, cutting: CuttingSettings, clips_a_mesh: int = 200) -> None:
        self._cutting, self._clips_a_mesh = cutting, clips_a_mesh
        self._clips = self._frames_to_look = 0
        self._dlib = _DlibDetector() if cutting.detector != "mediapipe" else None
        self._open()

    def find(self, picture: Picture, known: Sequence[Points] = ()) -> list[Points]:
        """Landmarks (131, 2) float64 of each face of a BGR picture (H, W, 3), in source pixels; at most `max_faces`, none twice.

        known: where the faces of the picture before were.
        """
        if self._dlib is None:
            return self._whole.find_all(picture)
        if self._cutting.detector == "both":
            return self._whole.find_all(picture) or self._by_boxes(picture, known, self._dlib)
        return self._by_boxes(picture, known, self._dlib) or self._whole.find_all(picture)

    def forget(self) -> None:
        """The next picture has nothing to do with the one before: a cut, or another source."""
        self._frames_to_look = 0
        self._renew_if_due()
        self._whole.forget()

    def count_clip(self) -> None:
        """Counts a clip. FaceMesh is made anew at once when it reads each picture by itself, and else at the next `forget`."""
        self._clips += 1
        if self._cutting.mesh == "static":
            self._renew_if_due()

    def close(self) -> None:
        """Frees the networks; further calls do nothing."""
        self._whole.close()
        self._boxed.close()

    def _open(self) -> None:
        self._whole = FaceMesh(self._cutting.mesh, self._cutting.max_faces)
        # Boxes move from frame to frame, which FaceMesh's own tracking would take for motion of the face.
        self._boxed = FaceMesh() if self._dlib is not None else self._whole
        self._clips = 0

    def _renew_if_due(self) -> None:
        if self._clips >= self._clips_a_mesh:
            self.close()
            self._open()

    def _by_boxes(self, picture: Picture, known: Sequence[Points], dlib: "_DlibDetector") -> list[Points]:
        """Known faces in their last boxes widened; where one is lost, or none was known, dlib looks for faces."""
        found = self._in_boxes(picture, [_bounds(points) for points in known])
        wanted = max(1, len(known))
        if len(found) < wanted and self._frames_to_look > 0:
            self._frames_to_look -= 1
        elif len(found) < wanted:
            found = distinct_faces(found + self._in_boxes(picture, dlib.boxes(picture)))
            self._frames_to_look = FRAMES_A_LOOK - 1 if len(found) < wanted else 0
        else:
            self._frames_to_look = 0
        return found[: self._cutting.max_faces]

    def _in_boxes(self, picture: Picture, boxes: Sequence[npt.NDArray[np.float64]]) -> list[Points]:
        pieces = [_widened(box, picture) for box in boxes[: self._cutting.max_faces]]
        found = [self._in_piece(picture, *piece) for piece in pieces if piece[0] < piece[2] and piece[1] < piece[3]]
        return distinct_faces([points for points in found if points is not None])

    def _in_piece(self, picture: Picture, x0: int, y0: int, x1: int, y1: int) -> Points | None:
        points = self._boxed.find(picture[y0:y1, x0:x1])
        return None if points is None else points + np.array((x0, y0), dtype=np.float64)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class _DlibDetector:
    """dlib's frontal detector (HOG) on a reduced picture; it works on one thread."""

    def __init__(self) -> None:
        # Imported late: only these two detectors need it.
        import dlib

        self._detect: Any = dlib.get_frontal_face_detector()

    def boxes(self, picture: Picture) -> list[npt.NDArray[np.float64]]:
        """Boxes (x0, y0, x1, y1) in pixels of the picture, most certain first."""
        scale = min(LARGEST_ENLARGEMENT, DLIB_LONGER_PX / max(picture.shape[:2]))
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        grey = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        found = self._detect(grey, 0)
        return [np.array((box.left(), box.top(), box.right() + 1, box.bottom() + 1)) / scale for box in found]


def _bounds(points: Points) -> npt.NDArray[np.float64]:
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def _widened(box: npt.NDArray[np.float64], picture: Picture) -> tuple[int, int, int, int]:
    """Whole pixels of a box (x0, y0, x1, y1) grown by its share of each side, within the picture."""
    height, width = picture.shape[:2]
    sideways, up_and_down = WIDENED_SIDEWAYS * (box[2] - box[0]), WIDENED_UP_AND_DOWN * (box[3] - box[1])
    x0, y0 = max(0, round(box[0] - sideways)), max(0, round(box[1] - up_and_down))
    return x0, y0, min(width, round(box[2] + sideways)), min(height, round(box[3] + up_and_down))
