"""Changes of training samples: mirrored faces, references out of step with themselves, silence, other colours.

What is drawn is a function of (seed, step, index in the batch of all workers). Each change has random numbers of its own.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from schemas.face_points import MIRRORED_CONTENT, MIRRORED_POSE
from schemas.settings import AnyTraining, RendererTraining
from tasks.training.footage import WINDOW, IntArray
from tasks.training.windows import BoolArray, Draw, Shared, Windows, random_numbers

FloatArray = npt.NDArray[np.float32]
POINT_MIRRORS = {len(MIRRORED_POSE): np.array(MIRRORED_POSE), len(MIRRORED_CONTENT): np.array(MIRRORED_CONTENT)}
"""The mirror's order of points, by how many there are: 74 of pose, 57 of content."""
GREY_WEIGHTS = np.array([0.114, 0.587, 0.299])
"""What blue, green and red add to a grey level (BT.601, as OpenCV has it)."""
MIDDLE_GREY = 127.5
"""What contrast turns about: the same of every picture, so that all pictures of a sample get one change."""


@dataclass(frozen=True)
class Augmentation:
    """How samples are changed. Without any argument: not at all."""

    flip_share: float = 0.0
    """Share of samples that are mirrored, pictures and points."""
    reference_jitter_frames: int = 0
    """References' content (landmark generator) or sketch (renderer) comes from up to so many frames before or after."""
    silence_share: float = 0.0
    """Share of samples in which silence is heard and the closed lips stay as they are."""
    colour_jitter: float = 0.0
    """Brightness, contrast and saturation of a sample are multiplied by 1 - this to 1 + this."""

    @classmethod
    def of(cls, settings: AnyTraining) -> Self:
        """As the settings have it."""
        colour_jitter = settings.colour_jitter if isinstance(settings, RendererTraining) else 0.0
        return cls(settings.flip_share, settings.reference_jitter_frames, settings.silence_share, colour_jitter)


NO_AUGMENTATION = Augmentation()


@dataclass(frozen=True)
class Changes(Shared):
    """What is changed in a batch of B samples, beside silence, which `Windows` tells."""

    flipped: BoolArray
    """(B,)"""
    shown: IntArray
    """(B, N) frames that the references' content or sketches come from: the references themselves where nothing is jittered"""
    colours: npt.NDArray[np.float64]
    """(B, 3) factors of brightness, contrast and saturation"""


def draw_changes(augmentation: Augmentation, seed: int, step: int, windows: Windows, frames: IntArray) -> Changes:
    """The changes of a whole batch; frames (B,): how long each sample's clip is."""
    flipped, shown, colours = np.zeros(len(frames), dtype=np.bool_), windows.references, np.ones((len(frames), 3))
    if augmentation.flip_share:
        flipped = random_numbers(seed, step, Draw.FLIP).random(len(frames)) < augmentation.flip_share
    if augmentation.reference_jitter_frames:
        shown = jittered(random_numbers(seed, step, Draw.JITTER), windows, frames, augmentation.reference_jitter_frames)
    if augmentation.colour_jitter:
        colours += augmentation.colour_jitter * random_numbers(seed, step, Draw.COLOUR).uniform(-1, 1, colours.shape)
    return Changes(flipped, shown, colours)


def jittered(random: np.random.Generator, windows: Windows, frames: IntArray, most: int) -> IntArray:
    """References (B, N) moved by up to `most` frames, each as likely; never out of the clip, nor into the window, whose content is the answer."""
    references, starts = windows.references, windows.starts[:, None]
    before = references < starts
    lowest = np.maximum(references - most, np.where(before, 0, starts + WINDOW))
    highest = np.minimum(references + most, np.where(before, starts, frames[:, None]) - 1)
    moved: IntArray = lowest + (random.random(references.shape) * (highest - lowest + 1)).astype(np.int64)
    return moved


def mirrored(points: FloatArray) -> FloatArray:
    """Pose (…, 2, 74) or content (…, 2, 57) of the face in a mirror: x becomes 1 - x, left and right points change places."""
    turned = points[..., POINT_MIRRORS[points.shape[-1]]]
    turned[..., 0, :] = 1 - turned[..., 0, :]
    return turned


def carried_along(content: FloatArray, pose: FloatArray, boxes: FloatArray) -> FloatArray:
    """The content of the middle one of five frames in all of them, carried along by the head: (n, 5, 2, 57) as content.

    content (n, 5, 2, 57) and pose (n, 5, 2, 74) in shares of boxes (n, 5, 4): x0, y0, x1, y1. The head's movement from the middle
    frame to another is the similarity (turn, scale and move) between their poses in pixels with the smallest squared error.
    """
    middle = slice(WINDOW // 2, WINDOW // 2 + 1)
    heads, mouths = _in_plane(pose, boxes), _in_plane(content[:, middle], boxes[:, middle])
    centres = heads.mean(axis=-1, keepdims=True)
    heads = heads - centres
    still = heads[:, middle]
    power = np.maximum((still * still.conj()).real.sum(axis=-1, keepdims=True), np.finfo(np.float64).tiny)
    turns = (still.conj() * heads).sum(axis=-1, keepdims=True) / power
    return _in_shares(turns * (mouths - centres[:, middle]) + centres, boxes)


def _in_plane(points: FloatArray, boxes: FloatArray) -> npt.NDArray[np.complex128]:
    """Points (…, 2, P) in shares of boxes (…, 4) as numbers x + iy in pixels (…, P)."""
    x0, y0, x1, y1 = np.moveaxis(boxes.astype(np.float64), -1, 0)[..., None]
    plane: npt.NDArray[np.complex128] = x0 + points[..., 0, :] * (x1 - x0) + 1j * (y0 + points[..., 1, :] * (y1 - y0))
    return plane


def _in_shares(plane: npt.NDArray[np.complex128], boxes: FloatArray) -> FloatArray:
    x0, y0, x1, y1 = np.moveaxis(boxes.astype(np.float64), -1, 0)[..., None]
    return np.stack([(plane.real - x0) / (x1 - x0), (plane.imag - y0) / (y1 - y0)], axis=-2).astype(np.float32)


def colour_change(brightness: float, contrast: float, saturation: float) -> npt.NDArray[np.float64]:
    """(3, 4): a picture's B, G, R and 1 to its new B, G and R, for `cv2.transform`; first saturation, then contrast, then brightness."""
    mixing = saturation * np.eye(3) + (1 - saturation) * GREY_WEIGHTS
    shift = np.full((3, 1), (1 - contrast) * MIDDLE_GREY)
    return brightness * np.hstack([contrast * mixing, shift])
