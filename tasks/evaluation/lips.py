"""How wide a mouth is and how far its lips are apart, frame by frame, from content points (T, 2, 57). NumPy alone.

All measures want one unit along x and y, such as pixels. What a store holds are shares of the face's box, whose width and height differ
and change from frame to frame: `in_pixels` takes that back first, or an open jaw, which makes the box higher, would look less open.
"""

import numpy as np
import numpy.typing as npt

from schemas.face_points import CONTENT_INDICES, LOWER_LIP, UPPER_LIP

FloatArray = npt.NDArray[np.float32]

RIGHT_CORNER, LEFT_CORNER = CONTENT_INDICES.index(61), CONTENT_INDICES.index(291)
"""Positions in content of the mouth's corners; left and right are the person's own."""
INNER_UPPER_LIP, INNER_LOWER_LIP = CONTENT_INDICES.index(13), CONTENT_INDICES.index(14)
"""Positions in content of the inner middles of the lips, which touch when a mouth is closed."""
JAW_POINTS = 17
"""The first points of content; the others are the lips'."""
CLOSED_SHARE = 0.03
"""Lips are closed where their inner middles are nearer than this share of the mouth's width.

Of 13127 frames of 93 real clips a quarter lies below 0.01 and most between 0.07 and 0.25, with a valley from 0.015 to 0.065, so that it
hardly matters where in the valley the line is drawn: 25 % of the frames lie under 0.015, 29 % under 0.03, 33 % under 0.05. Each p, b and m
of 48 GRID sentences closes the lips at any line from 0.01 on. On the pictures lips are shut up to 0.01, half of the mouths show a slit
at 0.02, nearly all at 0.04. It is drawn at 0.03 because that is a pixel of the 128-pixel sketch: the renderer sees the lips' lines touch.
"""


def in_pixels(content: FloatArray, box_sizes: npt.NDArray[np.floating]) -> FloatArray:
    """Content (T, 2, 57) in shares of boxes of so many pixels, width and height (T, 2) or (2,), as pixels."""
    pixels: FloatArray = (content * np.asarray(box_sizes, np.float32)[..., None]).astype(np.float32)
    return pixels


def mouth_width(content: FloatArray) -> FloatArray:
    """Distance of the mouth's corners (T,), in content's unit."""
    return _distance(content, RIGHT_CORNER, LEFT_CORNER)


def outer_opening(content: FloatArray) -> FloatArray:
    """Lip opening of the numeric contract (T,): distance of the outer middles of the lips, in content's unit; never nought, as lips are thick."""
    return _distance(content, UPPER_LIP, LOWER_LIP)


def inner_opening(content: FloatArray) -> FloatArray:
    """Distance of the inner middles of the lips (T,), in content's unit; nought where they touch."""
    return _distance(content, INNER_UPPER_LIP, INNER_LOWER_LIP)


def opening_share(content: FloatArray) -> FloatArray:
    """Inner opening as a share of the mouth's width (T,): the same however large the face is and wherever it is; 0 where the width is 0."""
    width = mouth_width(content)
    return np.divide(inner_opening(content), width, out=np.zeros_like(width), where=width > 0)


def lips_are_closed(content: FloatArray) -> npt.NDArray[np.bool_]:
    """In which frames the lips are closed (T,): their inner opening is under CLOSED_SHARE of the mouth's width."""
    return opening_share(content) < CLOSED_SHARE


def _distance(content: FloatArray, one: int, other: int) -> FloatArray:
    distance: FloatArray = np.hypot(*(content[:, axis, one] - content[:, axis, other] for axis in (0, 1)))
    return distance
