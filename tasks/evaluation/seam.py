"""Whether one sees where a new face was pasted: edges along the border of the blend, against edges within the face."""

import cv2
import numpy as np
import numpy.typing as npt

from tasks.dubbing.composite import Contours, enlarged, seam_mask

Picture = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

WHOLLY_NEW = 0.98
"""Of the mask: from here on inwards the picture is the new face alone."""
LIPS = slice(17, 57)
"""Of content: the mouth, whose edges are its own, and not counted as the face's."""
MOUTH_MARGIN_SHARE = 0.02
"""Of the picture, around the mouth."""
LEAST_WEIGHT = 1e-6
"""A border that is nowhere in the picture has no edges to see."""


def seam_visibility(picture: Picture, contours: Contours) -> float | None:
    """Mean change of grey across the mask's border, over the mean change within the face, of a crop (S, S, 3) uint8 BGR.

    The border is where a dub of these contours is blended; a pixel counts by the mask's own slope, and the change is that along the
    slope. A face that is pasted with another brightness has a higher figure than the real one at the same place, which has some
    anyway: the outline of the jaw. None where nothing of the border or the face lies in the picture.
    """
    size = picture.shape[0]
    mask = enlarged(seam_mask(contours), size, size)
    slope_x, slope_y = _slopes(mask)
    steepness = np.hypot(slope_x, slope_y)
    grey_x, grey_y = _slopes(cv2.cvtColor(picture.astype(np.float32), cv2.COLOR_BGR2GRAY))
    inside = (mask >= WHOLLY_NEW) & ~_mouth(contours.content, size) & ~_mouth(contours.source_content, size)
    within = np.hypot(grey_x, grey_y)[inside]
    if steepness.sum() < LEAST_WEIGHT or not len(within) or within.mean() < LEAST_WEIGHT:
        return None
    across = np.abs(grey_x * slope_x + grey_y * slope_y).sum() / steepness.sum()  # the slope's direction times its weight is the slope
    return float(across / within.mean())


def _slopes(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Change a pixel along x and y, from the pixels on either side."""
    down, right = np.gradient(values)
    return right.astype(np.float32), down.astype(np.float32)


def _mouth(content: FloatArray, size: int) -> npt.NDArray[np.bool_]:
    canvas = np.zeros((size, size), np.uint8)
    hull = cv2.convexHull(np.rint(content[:, LIPS].T * size - 0.5).astype(np.int32))
    cv2.fillConvexPoly(canvas, hull, 1)
    reach = 2 * max(1, round(MOUTH_MARGIN_SHARE * size)) + 1
    return np.asarray(cv2.dilate(canvas, np.ones((reach, reach), np.uint8)), np.bool_)
