"""Faces: landmarks, boxes, crops, sketches and tracks. Importing this needs NumPy and OpenCV only."""

from tasks.faces.sketch import draw_sketch

__all__ = ["draw_sketch"]
