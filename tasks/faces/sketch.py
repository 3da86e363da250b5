"""The sketch of a face: its points joined by grey lines (contract: Crop and sketch). NumPy and OpenCV alone, for the training path."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from schemas.face_points import PATH_POSITIONS

GREY = 224
"""Brightness of a line."""
EDGE_TOLERANCE = 1e-9
"""How far beyond 0 or 1 a coordinate still counts as on the edge."""
ALONG_PATHS = np.concatenate(PATH_POSITIONS)
"""(P,): positions in concat(pose, content) of the points of all paths, one path after the other."""
_ENDS = np.cumsum([len(path) for path in PATH_POSITIONS])
PATHS_ALONG = tuple(slice(int(end) - len(path), int(end)) for end, path in zip(_ENDS, PATH_POSITIONS, strict=True))
"""Where each path lies in ALONG_PATHS."""
LINES = np.setdiff1d(np.arange(len(ALONG_PATHS) - 1), _ENDS - 1)
"""Where in ALONG_PATHS each line begins; it ends at the next point."""


@dataclass(frozen=True)
class Outlines:
    """Faces whose sketches are ready to be drawn; from any thread."""

    pixels: npt.NDArray[np.int32]
    """(n, P, 2): x, y on the canvas of the points along all paths"""
    on_canvas: npt.NDArray[np.bool_]
    """(n, P): points outside are left out with their lines"""
    canvas_sizes: npt.NDArray[np.int64]
    """(n, 2): height, width"""
    size: int
    """Side of the sketches in pixels."""

    def draw(self, face: int) -> npt.NDArray[np.uint8]:
        """The sketch (S, S) uint8 of a face, black with grey lines."""
        canvas = np.zeros(self.canvas_sizes[face], dtype=np.uint8)
        cv2.polylines(canvas, self._paths(face), isClosed=False, color=GREY, thickness=1)
        if canvas.shape == (self.size, self.size):
            return canvas
        # In whole numbers OpenCV's interpolation is coarser than the contract's, and slower too.
        grey = cv2.resize(canvas.astype(np.float32), (self.size, self.size), interpolation=cv2.INTER_LINEAR)
        return np.rint(grey).astype(np.uint8)

    def _paths(self, face: int) -> list[npt.NDArray[np.int32]]:
        """Whole paths, which are quicker to draw, or single lines where some are left out."""
        pixels, on_canvas = self.pixels[face], self.on_canvas[face]
        if on_canvas.all():
            return [pixels[path] for path in PATHS_ALONG]
        begins = LINES[on_canvas[LINES] & on_canvas[LINES + 1]]
        return list(np.stack([pixels[begins], pixels[begins + 1]], axis=1))


def outline_faces(points: npt.NDArray[np.floating], crop_sizes: npt.NDArray[np.floating], size: int = 128) -> Outlines:
    """Faces ready to be drawn as sketches (S, S).

    points (n, 2, 131): pose, then content; x then y, in 0..1 of the crop.
    crop_sizes (n, 2): height and width of the boxes that points are relative to, in pixels (not cut to whole ones with `iplap-train`);
    the canvas has their ratio, its shorter side is `size`, before it is resized to a square.
    """
    crops = crop_sizes.astype(np.float64)
    canvas_sizes = (crops * size / crops.min(axis=1, keepdims=True)).astype(np.int64)
    places = points[:, :, ALONG_PATHS].astype(np.float64)
    on_canvas = ((places >= -EDGE_TOLERANCE) & (places <= 1 + EDGE_TOLERANCE)).all(axis=1)
    limits = canvas_sizes[:, ::-1, None]  # x is below the width, y below the height
    pixels = np.clip(np.floor(places * limits), 0, limits - 1).astype(np.int32)
    return Outlines(np.ascontiguousarray(pixels.transpose(0, 2, 1)), on_canvas, canvas_sizes, size)


def draw_sketch(pose: npt.NDArray[np.floating], content: npt.NDArray[np.floating], crop_size: tuple[float, float], size: int = 128) -> npt.NDArray[np.uint8]:
    """The sketch (size, size, 3) uint8 of a face: pose (2, 74) and content (2, 57), crop_size (height, width), as in `outline_faces`."""
    outlines = outline_faces(np.concatenate([pose, content], axis=1)[None], np.array([crop_size], dtype=np.float64), size)
    return cv2.cvtColor(outlines.draw(0), cv2.COLOR_GRAY2BGR)
