"""Pasting a generated face into its frame so that only the face below the eyes changes."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tasks.faces.crop import Box

Picture = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

JAW = slice(0, 17)
"""The jaw's points in content, from ear to ear: ORDER positions 4-20."""
UPPER_OUTLINE = slice(0, 8)
"""The outline's points in pose, from the temples to the jaw's ends: ORDER positions 0-3 and 21-24."""
FULL_FROM, NONE_ABOVE = 0.5, 0.38
"""Heights in the box. The renderer sees the true upper half and makes up the lower one: its picture counts fully from the middle
down, and fades out above it, at the cheeks, so that eyes and brows stay the source's own, sharp ones."""
FEATHER_SHARE = 21 / 256
"""Width of the blending at the contour as a share of the box: the original's 21-pixel Gaussian at a box of 256 pixels."""
SIGMA_SHARE = 11 / 21
"""The Gaussian's sigma as a share of its width: the original's 11 of 21."""


@dataclass(frozen=True)
class Contours:
    """Outlines of one face in its box, 0..1: pose (2, 74) of the head; the source's content and the generated one (2, 57)."""

    pose: FloatArray
    source_content: FloatArray
    content: FloatArray


def paste_face(picture: Picture, generated: Picture, box: Box, contours: Contours) -> Picture:
    """The picture (H, W, 3) with the generated face (S, S, 3) blended into its box; nothing outside the box changes."""
    x0, y0, x1, y1 = box.pixels
    face = resize_face(generated, x1 - x0, y1 - y0)
    mask = blend_mask(contours, x1 - x0, y1 - y0)[:, :, None]
    pasted = picture.copy()
    true_face = picture[y0:y1, x0:x1].astype(np.float32)
    pasted[y0:y1, x0:x1] = np.rint(true_face + mask * (face - true_face)).clip(0, 255).astype(np.uint8)
    return pasted


def resize_face(generated: Picture, width: int, height: int) -> FloatArray:
    """The generated face at the size of its box: Lanczos when it grows (sharpest for skin), area means when it shrinks."""
    smaller = width * height < generated.shape[0] * generated.shape[1]
    resized = cv2.resize(generated, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LANCZOS4)
    return resized.astype(np.float32)


def blend_mask(contours: Contours, width: int, height: int) -> FloatArray:
    """How much of the generated face shows at each pixel of the box: (height, width), 0..1.

    Inside the face contour, of the source's jaw and of the new one together (else an open jaw of the source would show below a
    closed new one), below the eyes. The border is softened by a Gaussian that lies within the contour: what is around a face
    (neck, hair, background) is the source's own, and the renderer's blurred guess of it would show as a halo.
    """
    size = np.array([width, height], dtype=np.float32)
    mask = np.zeros((height, width), dtype=np.float32)
    for content in (contours.source_content, contours.content):
        outline = np.concatenate([contours.pose[:, UPPER_OUTLINE], content[:, JAW]], axis=1).T * size
        cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(outline).astype(np.int32)), 1.0)
    kernel = 2 * round(FEATHER_SHARE * min(width, height) / 2) + 1
    mask[[0, -1]] = 0
    mask[:, [0, -1]] = 0
    mask = cv2.erode(mask, np.ones((kernel, kernel), dtype=np.uint8))
    softened = cv2.GaussianBlur(mask, (kernel, kernel), kernel * SIGMA_SHARE, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(softened, dtype=np.float32) * _fade_in(height)[:, None]


def _fade_in(height: int) -> FloatArray:
    """From 0 above the cheeks to 1 at the middle of the box, smoothly: (height,)."""
    share = np.clip((np.arange(height, dtype=np.float32) / height - NONE_ABOVE) / (FULL_FROM - NONE_ABOVE), 0, 1)
    return np.asarray(share * share * (3 - 2 * share), dtype=np.float32)
