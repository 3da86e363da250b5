"""Which way a head is turned, from its landmarks: a weak-perspective fit of MediaPipe's canonical face."""

import numpy as np
import numpy.typing as npt

from schemas.face_points import ORDER

# fmt: off
CANONICAL_POINTS_CM: dict[int, tuple[float, float, float]] = {
    162: (-7.555811, 4.106811, -0.991917), 389: (7.555811, 4.106811, -0.991917),
    127: (-7.743095, 2.364999, -2.005167), 356: (7.743095, 2.364999, -2.005167),
    234: (-7.664182, 0.673132, -2.435867), 454: (7.664182, 0.673132, -2.435867),
    33: (-4.445859, 2.663991, 3.173422), 263: (4.445859, 2.663991, 3.173422),
    133: (-1.856432, 2.585245, 3.757904), 362: (1.856432, 2.585245, 3.757904),
    168: (0.0, 3.271027, 5.236015), 6: (0.0, 2.473255, 5.788627), 197: (0.0, 1.728369, 6.316750),
    195: (0.0, 1.059413, 6.774605), 5: (0.0, 0.365669, 7.242870), 4: (0.0, -0.463170, 7.586580),
    48: (-1.608635, -0.942516, 5.814193), 278: (1.608635, -0.942516, 5.814193),
    115: (-1.305757, -0.672779, 6.415959), 344: (1.305757, -0.672779, 6.415959),
}
# fmt: on
"""MediaPipe's canonical face model where it is rigid (temples, corners of the eyes, nose), by FaceMesh index.

x to the head's own left, y up, z forwards out of the face. Brows, lids, jaw and lips are left out: they move with what is said.
"""

FloatArray = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]

_POSITIONS = [ORDER.index(index) for index in CANONICAL_POINTS_CM]
_CANONICAL = np.array(list(CANONICAL_POINTS_CM.values()))
_FIT: Points = np.linalg.pinv(_CANONICAL - _CANONICAL.mean(axis=0))
"""(3, points): least squares of the canonical face."""


def head_angles(points: Points) -> FloatArray:
    """Yaw and pitch (F, 2) float32, in degrees, of heads with landmarks (F, 131, 2) in pixels, x then y, in `schemas.face_points.ORDER`.

    Yaw is positive where the head is turned to its own left (to the right of the picture), pitch where it looks up; both are
    those of the direction the nose points in, so a head that leans to a shoulder keeps them, and so does one that is stretched
    upwards or sideways (shares of a box will do for pixels). Points that lie on each other give 0, 0.
    """
    rigid = points[:, _POSITIONS] * (1.0, -1.0)  # a picture's y points down
    centred = rigid - rigid.mean(axis=1, keepdims=True)
    rows = np.swapaxes(_FIT @ centred, 1, 2)  # (F, 2, 3): how the canonical axes appear in the picture
    left, _, right = np.linalg.svd(rows, full_matrices=False)
    across, upwards = np.moveaxis(left @ right, 1, 0)  # the nearest rows of a rotation
    forwards = np.cross(across, upwards)
    nose = np.stack([across[:, 2], upwards[:, 2], forwards[:, 2]])  # to the right, up, towards the camera
    angles = np.arctan2(nose[0], nose[2]), np.arcsin(np.clip(nose[1], -1.0, 1.0))
    return np.rad2deg(np.stack(angles, axis=1)).astype(np.float32)
