"""The 131 face points of the numeric contract with IP_LAP, how they are joined to a sketch, and which is which in a mirror.

Numbers are MediaPipe FaceMesh indices (478 points). An array of points is in `ORDER`; *pose* is what the head does (upper
outline, brows, nose, eyes: 74 points), *content* what speech does (17 jaw points, then 40 lip points: 57 points).
"""

# fmt: off
ORDER: tuple[int, ...] = (
    162, 127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323, 454, 356, 389,
    70, 63, 105, 66, 107, 55, 65, 52, 53, 46, 336, 296, 334, 293, 300, 276, 283, 282, 295, 285,
    168, 6, 197, 195, 5, 48, 115, 220, 45, 4, 275, 440, 344, 278,
    33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7,
    362, 398, 384, 385, 386, 387, 388, 466, 263, 249, 390, 373, 374, 380, 381, 382,
    61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146,
    78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95,
)

# Paths of connected points, in the order in which they are drawn.
LIPS = (
    (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291), (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291),
    (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308), (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308),
)
LEFT_EYE = ((263, 249, 390, 373, 374, 380, 381, 382, 362), (263, 466, 388, 387, 386, 385, 384, 398, 362))
LEFT_BROW = ((276, 283, 282, 295, 285), (300, 293, 334, 296, 336))
RIGHT_EYE = ((33, 7, 163, 144, 145, 153, 154, 155, 133), (33, 246, 161, 160, 159, 158, 157, 173, 133))
RIGHT_BROW = ((46, 53, 52, 65, 55), (70, 63, 105, 66, 107))
OVAL = ((389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162),)
NOSE = ((168, 6, 197, 195, 5, 4), (4, 45, 220, 115, 48), (4, 275, 440, 344, 278))
# fmt: on
PATHS = (*LIPS, *LEFT_EYE, *LEFT_BROW, *RIGHT_EYE, *RIGHT_BROW, *OVAL, *NOSE)

POSE_POSITIONS: tuple[int, ...] = (*range(4), *range(21, 25), *range(25, 91))
"""Positions in ORDER of the 74 pose points."""
CONTENT_POSITIONS: tuple[int, ...] = (*range(4, 21), *range(91, 131))
"""Positions in ORDER of the 57 content points."""
POSE_INDICES: tuple[int, ...] = tuple(ORDER[position] for position in POSE_POSITIONS)
CONTENT_INDICES: tuple[int, ...] = tuple(ORDER[position] for position in CONTENT_POSITIONS)

UPPER_LIP = CONTENT_INDICES.index(0)
"""Position in content of the upper lip's outer middle; lip opening is its distance from LOWER_LIP."""
LOWER_LIP = CONTENT_INDICES.index(17)
"""Position in content of the lower lip's outer middle."""

PATH_POSITIONS: tuple[tuple[int, ...], ...] = tuple(tuple((POSE_INDICES + CONTENT_INDICES).index(index) for index in path) for path in PATHS)
"""PATHS as positions in concat(pose, content), the networks' full face of 131 points."""

_MIRROR_PATHS = (
    *((path, path[::-1]) for path in (*LIPS, *OVAL)),
    *zip(LEFT_EYE + LEFT_BROW, RIGHT_EYE + RIGHT_BROW, strict=True),
    (NOSE[0], NOSE[0]),
    (NOSE[1], NOSE[2]),
)
"""Each path and the one that it becomes in a mirror, point by point: lips and oval are run through from the other side."""
MIRRORED: dict[int, int] = {
    index: partner for path, twin in _MIRROR_PATHS for one, other in zip(path, twin, strict=True) for index, partner in ((one, other), (other, one))
}
"""The point that is in a point's place in a mirror: left and right exchanged, those of the middle themselves."""
MIRRORED_POSE: tuple[int, ...] = tuple(POSE_INDICES.index(MIRRORED[index]) for index in POSE_INDICES)
"""Positions in pose: a mirrored face's pose has at each place the point that was at this one, its x become 1 - x."""
MIRRORED_CONTENT: tuple[int, ...] = tuple(CONTENT_INDICES.index(MIRRORED[index]) for index in CONTENT_INDICES)
"""Positions in content, likewise."""
