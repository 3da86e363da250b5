"""The sketch of a face: its points joined by grey lines (contract: Crop and sketch). NumPy and OpenCV alone, for the training path."""

import itertools

import cv2
import numpy as np
import numpy.typing as npt

from schemas.face_points import PATH_POSITIONS

GREY = 224
"""Brightness of a line."""
EDGE_TOLERANCE = 1e-9
"""How far beyond 0 or 1 a coordinate still counts as on the edge."""
LINES = np.array([ends for path in PATH_POSITIONS for ends in itertools.pairwise(path)])
"""(n, 2): positions in concat(pose, content) of the ends of each line."""


def draw_sketch(pose: npt.NDArray[np.floating], content: npt.NDArray[np.floating], crop_size: tuple[float, float], size: int = 128) -> npt.NDArray[np.uint8]:
    """The sketch (size, size, 3) uint8 of a face, black with grey lines.

    pose (2, 74) and content (2, 57): x then y, in 0..1 of the crop; points outside are left out with their lines.
    crop_size: (height, width) of the box that the points are relative to, in pixels (not cut to whole ones with `iplap-train`);
    the canvas has its ratio before it is resized to a square.
    """
    height, width = crop_size
    shorter = min(height, width)
    canvas = np.zeros((int(height * size / shorter), int(width * size / shorter)), dtype=np.float32)
    lines = _lines_in_pixels(np.concatenate([pose, content], axis=1), canvas_width=canvas.shape[1], canvas_height=canvas.shape[0])
    cv2.polylines(canvas, list(lines), isClosed=False, color=GREY, thickness=1)
    grey = np.rint(cv2.resize(canvas, (size, size), interpolation=cv2.INTER_LINEAR))
    return cv2.cvtColor(grey.astype(np.uint8), cv2.COLOR_GRAY2BGR)


def _lines_in_pixels(points: npt.NDArray[np.floating], canvas_width: int, canvas_height: int) -> npt.NDArray[np.int32]:
    """(n, 2, 2) int32: both ends, x then y, of the lines whose ends lie on the canvas."""
    places = points.T.astype(np.float64)
    on_canvas = ((places >= -EDGE_TOLERANCE) & (places <= 1 + EDGE_TOLERANCE)).all(axis=1)
    limits = np.array([canvas_width, canvas_height])
    pixels = np.clip(np.floor(places * limits), 0, limits - 1).astype(np.int32)
    return pixels[LINES[on_canvas[LINES].all(axis=1)]]
