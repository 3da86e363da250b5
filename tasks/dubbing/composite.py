"""Pasting a generated face into its frame so that only the face below the eyes changes, and nobody sees where."""

from dataclasses import dataclass, replace
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

from schemas.settings import DubSettings
from tasks.dubbing.colour_match import match_colour
from tasks.dubbing.jaw_outline import UPPER_OUTLINE, JawPredictor, load_jaw_predictor
from tasks.faces.crop import Box

Picture = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

JAW = slice(0, 17)
"""The jaw's points in content, from ear to ear: ORDER positions 4-20."""
FULL_FROM, NONE_ABOVE = 0.5, 0.38
"""Heights in the box. The renderer sees the true upper half and makes up the lower one: its picture counts fully from the middle
down, and fades out above it, at the cheeks, so that eyes and brows stay the source's own, sharp ones."""
FEATHER_SHARE = 21 / 256
"""Width of the blending at the contour as a share of the box: the original's 21-pixel Gaussian at a box of 256 pixels."""
SIGMA_SHARE = 11 / 21
"""The Gaussian's sigma as a share of its width: the original's 11 of 21."""
EDGE_SHARE = 0.06
"""Width of the blending at the box's edges, as a share of the box: a jaw may reach beyond the box, which must not show as a line."""
COVER_SHARE = 0.02
"""How far beyond the farther of two differing jaws the new face is shown fully, as a share of the box: lines of chins, and their
shadows, are that wide."""
DIFFERING_SHARE = FEATHER_SHARE / 2
"""The jaws' distance from which on both lines must be hidden wholly, as a share of the box; nearer ones pass for one line in the blending."""
CHIN_FROM, CHIN_WHOLLY = 0.2, 0.6
"""Sines of the angles below the horizontal between which the border begins to move out: beside the cheeks is hair or background, and
there the outlines differ by chance alone."""
DIRECTIONS = 72
"""Directions from the middle of the face in which its outlines are measured: every 5 degrees."""
SPREAD = np.hanning(9)[1:-1] / np.hanning(9).sum()
"""Weights by which what differs in one direction tells on its neighbours, so that the mask has no notch."""
MASK_SIZE = 128
"""Side of the canvas on which the mask is drawn: with its soft borders it needs no more, and takes a fraction of a millisecond."""
MARGIN = 16
"""Room around that canvas for outlines that reach out of the box, in its pixels."""
SUBPIXEL_BITS = 4
"""Binary digits of the fraction in OpenCV's coordinates: with whole pixels the mask would jump from frame to frame."""
SHARPENED_FROM = np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]], dtype=np.float32)
"""What sharpening adds: with strength 1 that is LIP_MASK's kernel, 5 in the middle and -1 at its four sides."""


@dataclass(frozen=True)
class Contours:
    """Outlines of one face in its box, 0..1: pose (2, 74) of the head; the source's content and the generated one (2, 57)."""

    pose: FloatArray
    source_content: FloatArray
    content: FloatArray


@dataclass(frozen=True)
class Finish:
    """How a generated face is made to look before and where it meets the source."""

    match_colour: bool = True
    sharpening: float = 0.0
    """0 none, 1 LIP_MASK's; before the enlargement"""
    jaw: JawPredictor | None = None
    """Takes over the jaw's outline where it is given."""

    @classmethod
    def of(cls, settings: DubSettings) -> Self:
        """The finish that settings ask for. SettingsError when their jaw predictor is none."""
        jaw = load_jaw_predictor(settings.jaw_predictor) if settings.jaw_predictor else None
        return cls(settings.match_colour, settings.sharpening, jaw)


@dataclass(frozen=True)
class Edges:
    """Which edges of a box are the picture's own: there is nothing beyond them to blend with."""

    left: bool = False
    top: bool = False
    right: bool = False
    bottom: bool = False


@dataclass(frozen=True)
class NewFace:
    """A generated face as it goes into its frame: float32 (h, w, 3), 0..255, and how much of it shows at each pixel, (h, w), 0..1.

    h × w are the box's whole pixels.
    """

    face: FloatArray
    mask: FloatArray
    box: Box

    def pasted(self, picture: Picture, share: float = 1.0) -> Picture:
        """The picture (H, W, 3) with the face blended into its box; nothing outside the box changes.

        share: how much of the dub is shown, 0 (the source) to 1; between them it is cross-faded.
        """
        if share <= 0:
            return picture
        x0, y0, x1, y1 = self.box.pixels
        pasted = picture.copy()
        pasted[y0:y1, x0:x1] = _blended(picture[y0:y1, x0:x1], self.face, self.mask * np.float32(min(share, 1.0)))
        return pasted


def new_face(picture: Picture, generated: Picture, box: Box, contours: Contours, finish: Finish = Finish()) -> NewFace:
    """The generated face (S, S, 3) made to fit the picture (H, W, 3) that it goes into."""
    x0, y0, x1, y1 = box.pixels
    true_face = picture[y0:y1, x0:x1]
    if finish.jaw is not None:
        contours = with_predicted_jaws(contours, true_face, generated, finish.jaw)
    mask = seam_mask(contours, _edges(picture, (x0, y0, x1, y1)))
    face = finished_face(generated, true_face, seam_of(mask, contours), finish)
    return NewFace(resize_face(face, x1 - x0, y1 - y0), enlarged(mask, x1 - x0, y1 - y0), box)


def finished_face(generated: Picture, true_face: Picture, seam: FloatArray, finish: Finish) -> FloatArray:
    """The generated face (S, S, 3), sharpened and in the colours of the true one: float32, not rounded, and not yet enlarged."""
    face = sharpened(generated, finish.sharpening)
    return match_colour(face, true_face, seam) if finish.match_colour else face


def sharpened(generated: Picture, strength: float) -> FloatArray:
    """The face (S, S, 3) as float32 with its edges raised, linearly in strength; strength 0 leaves it as it is."""
    face = generated.astype(np.float32)
    if strength == 0:
        return face
    return np.asarray(face + strength * cv2.filter2D(face, -1, SHARPENED_FROM, borderType=cv2.BORDER_REPLICATE), dtype=np.float32)


def resize_face(face: FloatArray, width: int, height: int) -> FloatArray:
    """The face at the size of its box: Lanczos when it grows (sharpest for skin), area means when it shrinks."""
    smaller = width * height < face.shape[0] * face.shape[1]
    return np.asarray(cv2.resize(face, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LANCZOS4), dtype=np.float32)


def _blended(true_face: Picture, face: FloatArray, mask: FloatArray) -> Picture:
    blended = cv2.blendLinear(face, true_face.astype(np.float32), mask, 1 - mask)
    return cv2.convertScaleAbs(np.maximum(blended, 0, out=blended))  # rounds, and stops at 255


def _edges(picture: Picture, box: tuple[int, int, int, int]) -> Edges:
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = box
    return Edges(x0 <= 0, y0 <= 0, x1 >= width, y1 >= height)


def with_predicted_jaws(contours: Contours, true_face: Picture, generated: Picture, predictor: JawPredictor) -> Contours:
    """The contours with both jaws, the source's and the new one, as the predictor sees them in the two pictures."""
    height, width = true_face.shape[:2]
    new_face = cv2.resize(generated, (width, height), interpolation=cv2.INTER_LINEAR)  # in true proportions
    source_content, content = contours.source_content.copy(), contours.content.copy()
    source_content[:, JAW] = predictor.jaw(true_face, contours.pose, source_content[:, JAW])
    content[:, JAW] = predictor.jaw(new_face, contours.pose, content[:, JAW])
    return replace(contours, source_content=source_content, content=content)


def enlarged(mask: FloatArray, width: int, height: int) -> FloatArray:
    """A mask of `seam_mask` at the size of the box: (height, width), 0..1."""
    return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def seam_mask(contours: Contours, edges: Edges = Edges()) -> FloatArray:
    """How much of the generated face shows at each place of the box: (MASK_SIZE, MASK_SIZE), 0..1.

    Inside the face's outline, below the eyes. Where source and new face have one outline, the border is softened within it: what
    is around a face (neck, hair, background) is the source's own, and the renderer's blurred guess of it would show as a halo.
    Where the jaws differ, the border moves out beyond the farther one: an open jaw of the source shows neither below a closed
    new one nor through its soft border, and a new chin that reaches farther is not cut off.
    """
    centre, source, new = _radii(contours)
    differing = np.clip(_spread(np.abs(new - source)) / DIFFERING_SHARE, 0, 1) * _downwards()
    outwards = -FEATHER_SHARE / 2 + differing * (FEATHER_SHARE + COVER_SHARE)
    return _softened(centre, np.maximum(source, new) + outwards) * _fade_in() * _edge_fades(edges)


def seam_of(mask: FloatArray, contours: Contours) -> FloatArray:
    """Where mask and face say that both pictures show the same skin, half blended: (MASK_SIZE, MASK_SIZE), weights 0..1."""
    centre, source, new = _radii(contours)
    both = _drawn(centre, np.minimum(source, new) - FEATHER_SHARE / 4)
    return np.asarray(4 * mask * (1 - mask) * both, dtype=np.float32)


def _radii(contours: Contours) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The middle of the face (2,), and how far the source's and the new outline are from it in DIRECTIONS directions, shares of the box."""
    source, new = (np.concatenate([contours.pose[:, UPPER_OUTLINE], content[:, JAW]], axis=1) for content in (contours.source_content, contours.content))
    centre = (source.mean(axis=1) + new.mean(axis=1)) / 2
    return centre, _radii_from(centre, source), _radii_from(centre, new)


def _radii_from(centre: FloatArray, outline: FloatArray) -> FloatArray:
    hull = cv2.convexHull(np.ascontiguousarray(outline.T, dtype=np.float32))[:, 0]
    x, y = (hull - centre).T
    angles = np.arctan2(y, x)
    return np.interp(_directions(), angles, np.hypot(x, y), period=2 * np.pi).astype(np.float32)


def _directions() -> FloatArray:
    return np.linspace(-np.pi, np.pi, DIRECTIONS, endpoint=False, dtype=np.float32)


def _downwards() -> FloatArray:
    """0 in directions to the cheeks and upwards, 1 in those to the chin, smoothly: (DIRECTIONS,)."""
    return _smooth_step((np.sin(_directions()) - CHIN_FROM) / (CHIN_WHOLLY - CHIN_FROM))


def _spread(values: FloatArray) -> FloatArray:
    """Values (DIRECTIONS,) with their neighbours' told on them: the weighted mean around, or the own one where that is larger."""
    reach = len(SPREAD) // 2
    around = np.concatenate([values[-reach:], values, values[:reach]])
    return np.maximum(values, np.convolve(around, SPREAD, mode="valid")).astype(np.float32)


def _drawn(centre: FloatArray, radii: FloatArray) -> FloatArray:
    """The outline filled: (MASK_SIZE, MASK_SIZE), 0..1, with room around it cut off."""
    return _canvas(centre, radii)[MARGIN:-MARGIN, MARGIN:-MARGIN]


def _canvas(centre: FloatArray, radii: FloatArray) -> FloatArray:
    angles, radii = _directions(), np.maximum(radii, 0)
    outline = centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    canvas = np.zeros((MASK_SIZE + 2 * MARGIN,) * 2, dtype=np.uint8)
    pixels = np.rint((outline * MASK_SIZE + MARGIN - 0.5) * 2**SUBPIXEL_BITS).astype(np.int32)
    cv2.fillPoly(canvas, [pixels], 255, lineType=cv2.LINE_AA, shift=SUBPIXEL_BITS)
    return np.asarray(canvas / np.float32(255), dtype=np.float32)


def _softened(centre: FloatArray, radii: FloatArray) -> FloatArray:
    kernel = 2 * round(FEATHER_SHARE * MASK_SIZE / 2) + 1
    soft = cv2.GaussianBlur(_canvas(centre, radii), (kernel, kernel), kernel * SIGMA_SHARE, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(soft[MARGIN:-MARGIN, MARGIN:-MARGIN], dtype=np.float32)


def _fade_in() -> FloatArray:
    """From 0 above the cheeks to 1 at the middle of the box, smoothly: (MASK_SIZE, 1)."""
    heights = (np.arange(MASK_SIZE, dtype=np.float32) + 0.5) / MASK_SIZE
    return _smooth_step((heights - NONE_ABOVE) / (FULL_FROM - NONE_ABOVE))[:, None]


def _edge_fades(edges: Edges) -> FloatArray:
    """From 0 at the box's edges to 1 within EDGE_SHARE of it, but for those that are the picture's own: (MASK_SIZE, MASK_SIZE)."""
    rising = _smooth_step(np.arange(MASK_SIZE, dtype=np.float32) / (EDGE_SHARE * MASK_SIZE))
    none = np.ones_like(rising)
    across = (none if edges.left else rising) * (none if edges.right else rising[::-1])
    downwards = (none if edges.top else rising) * (none if edges.bottom else rising[::-1])
    return downwards[:, None] * across[None, :]


def _smooth_step(share: FloatArray) -> FloatArray:
    share = np.clip(share, 0, 1)
    return np.asarray(share * share * (3 - 2 * share), dtype=np.float32)
