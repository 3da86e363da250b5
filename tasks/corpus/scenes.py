"""Scene changes by PySceneDetect's content detector, frame by frame."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
IsCut = Callable[[Picture], bool]

COMPARED_PX = 64
"""Longer side of the pictures that are compared, in pixels: the score is a mean over all pixels, which a reduction hardly changes."""


def cut_finder(threshold: float | None) -> IsCut:
    """A function that is shown each BGR picture (H, W, 3) of a video in order and says whether a new scene begins with it.

    threshold: PySceneDetect's content score (0..255) from which on a change is a scene change; None: there are none.
    """
    return _CutFinder(threshold).is_cut if threshold is not None else _never


def _never(_: Picture) -> bool:
    return False


class _CutFinder:
    """PySceneDetect's ContentDetector over pictures that come one by one. Any two neighbours may be a cut: it has no shortest scene."""

    def __init__(self, threshold: float) -> None:
        # Imported late: it is needed only where footage is read.
        from scenedetect import FrameTimecode  # type: ignore[import-untyped]
        from scenedetect.detectors import ContentDetector  # type: ignore[import-untyped]

        self._detector = ContentDetector(threshold=threshold, min_scene_len=0)
        self._clock: Any = FrameTimecode(0, Fraction(25))

    def is_cut(self, picture: Picture) -> bool:
        """Whether this picture begins a scene; the first one does not, for there is none before it."""
        cuts = self._detector.process_frame(self._clock, reduced(picture))
        self._clock += 1
        return bool(cuts)


def reduced(picture: Picture) -> Picture:
    """The picture with a longer side of COMPARED_PX: rows and columns left out to near twice that, then averaged."""
    longer_px = max(picture.shape[:2])
    step = max(1, longer_px // (2 * COMPARED_PX))
    thinned = picture[::step, ::step]
    scale = COMPARED_PX / max(thinned.shape[:2])
    size = (max(1, round(thinned.shape[1] * scale)), max(1, round(thinned.shape[0] * scale)))
    return cv2.resize(np.ascontiguousarray(thinned), size, interpolation=cv2.INTER_AREA)
