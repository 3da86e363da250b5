"""Mouths to measure: a content array with its corners and the middles of its lips where a test wants them."""

import numpy as np

from tasks.evaluation import lips


def mouth(inner: np.ndarray, width: float = 40.0, lip: float = 6.0) -> np.ndarray:
    """Content (T, 2, 57) in pixels: a level mouth so wide, its inner lips so far apart (T,), each lip so thick."""
    content = np.zeros((len(inner), 2, 57), np.float32)
    content[:, 0, lips.LEFT_CORNER] = width
    for upper, lower, thickness in ((lips.INNER_UPPER_LIP, lips.INNER_LOWER_LIP, 0.0), (lips.UPPER_LIP, lips.LOWER_LIP, lip)):
        content[:, 0, [upper, lower]] = width / 2
        content[:, 1, upper] = -inner / 2 - thickness
        content[:, 1, lower] = inner / 2 + thickness
    return content
