"""The picture of a renderer's validation: what went in, what came out, and what should have."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

from tasks.evaluation.lips import JAW_POINTS
from tasks.training.validation import Picture

COLUMNS = ("reference", "warped", "generated", "real", "generated mouth", "real mouth")
CAPTION_PX = 20
"""Height of the line of captions."""
CAPTION_COLOUR = (80, 200, 255)
MOUTH_SHARE = 1.6
"""Side of the enlarged piece in widths of the mouth: the lips and what is beside them."""


def sample_sheet(columns: Sequence[Tensor], content: npt.NDArray[np.floating]) -> Picture:
    """A row a sample: reference, warped references, generated face, real face, and the mouths of the last two enlarged; captions above.

    columns: those four, (n, 3, S, S) BGR in 0..1 each. content (n, 2, 57): the real mouths, x then y, 0..1 of the picture.
    Returns (CAPTION_PX + n S, 6 S, 3) uint8 BGR.
    """
    faces = [(column.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy() for column in columns]
    rows = [np.hstack([*row, *(_mouth(face, mouth) for face in row[-2:])]) for *row, mouth in zip(*faces, content, strict=True)]
    return np.vstack([_captions(faces[0].shape[1]), *rows])


def _captions(width: int) -> Picture:
    """The line of captions over columns of that width."""
    line = np.zeros((CAPTION_PX, width * len(COLUMNS), 3), dtype=np.uint8)
    for column, name in enumerate(COLUMNS):
        cv2.putText(line, name, (column * width + 4, CAPTION_PX - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.4, CAPTION_COLOUR, 1, cv2.LINE_AA)
    return line


def _mouth(face: Picture, content: npt.NDArray[np.floating]) -> Picture:
    """The square around the real mouth, as large as the face."""
    size = face.shape[0]
    lips = content[:, JAW_POINTS:] * size
    scale = size / (MOUTH_SHARE * max(float(np.ptp(lips[0])), 1.0))
    centre = (lips.min(axis=1) + lips.max(axis=1)) / 2
    shift = size / 2 - scale * centre
    onto_square = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    return np.asarray(cv2.warpAffine(face, onto_square, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), dtype=np.uint8)
