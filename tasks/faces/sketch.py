"""The sketch of a face: its points joined by grey lines (contract: Crop and sketch). NumPy and OpenCV alone, for the training path."""

import itertools

import cv2
import numpy as np
import numpy.typing as npt

from schemas.face_points import PATH_POSITIONS

GREY = 224
"""Brightness of a line."""
EDGE_TOLERANCE = 1e-9
"""How far from 0 or 1 a coordinate counts as on the edge."""


def draw_sketch(pose: npt.NDArray[np.floating], content: npt.NDArray[np.floating], crop_size: tuple[float, float], size: int = 128) -> npt.NDArray[np.uint8]:
    """The sketch (size, size, 3) uint8 of a face, black with grey lines.

    pose (2, 74) and content (2, 57): x then y, in 0..1 of the crop; points outside are left out with their lines.
    crop_size: (height, width) of the box that the points are relative to, in pixels (not cut to whole ones with `iplap-train`);
    the canvas has its ratio before it is resized to a square.
    """
    height, width = crop_size
    shorter = min(height, width)
    canvas = np.zeros((int(height * size / shorter), int(width * size / shorter)), dtype=np.float32)
    points = np.concatenate([pose, content], axis=1).astype(np.float64)
    for start, end in _lines(points, canvas.shape[1], canvas.shape[0]):
        cv2.line(canvas, start, end, color=GREY, thickness=1)
    grey = np.rint(cv2.resize(canvas, (size, size), interpolation=cv2.INTER_LINEAR)).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _lines(points: npt.NDArray[np.float64], width: int, height: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Ends of the lines between connected points inside the canvas, in pixels."""
    limits = np.array([[width], [height]], dtype=np.float64)
    inside = ((points >= -EDGE_TOLERANCE) & (points <= 1 + EDGE_TOLERANCE)).all(axis=0)
    pixels = np.clip(np.floor(points * limits), 0, limits - 1)
    ends = [(int(x), int(y)) if is_inside else None for (x, y), is_inside in zip(pixels.T, inside, strict=True)]
    pairs = ((ends[first], ends[second]) for path in PATH_POSITIONS for first, second in itertools.pairwise(path))
    return [(start, end) for start, end in pairs if start is not None and end is not None]
