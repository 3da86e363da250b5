"""A video or a still picture as it is to be played: looked at once from its beginning, then shown for as long as the speech lasts."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.media.decode import Frame, read_frames, read_frames_backwards, read_picture
from tasks.media.pictures import SQUARE_PIXELS
from tasks.media.probe import MediaInfo

Picture = npt.NDArray[np.uint8]

STILL_FPS = Fraction(25)
"""Frames a second of a video made from a still picture."""


@dataclass(frozen=True)
class Footage:
    """A video or a still picture, as it is to be played: (height, width, 3) BGR pictures at `fps`."""

    path: Path
    fps: Fraction
    width: int
    height: int
    is_picture: bool
    pixel_aspect: Fraction = SQUARE_PIXELS
    """Width of a pixel for its height."""

    def frames(self, most: int) -> Iterator[Frame]:
        """The first `most` frames in order; one frame where it is a still picture."""
        if self.is_picture:
            return iter([Frame(0, 0.0, read_picture(self.path))])
        return read_frames(self.path, self.fps, 0, most)

    def played(self, source_frames: int, frames: int, loop: str = "forth-and-back") -> Iterator[Picture]:
        """`frames` pictures over the first `source_frames`, as the setting `loop` says.

        forth-and-back: the order of `timeline.played_frames`; backwards a group of pictures at a time. cut: from the start again and again.
        """
        if source_frames == 1:
            picture = next(self.frames(1)).picture
            return itertools.repeat(picture, frames)
        order = self._again_and_again if loop == "cut" else self._forth_and_back
        return itertools.islice(order(source_frames, frames), frames)

    def _again_and_again(self, source_frames: int, frames: int) -> Iterator[Picture]:
        for _ in range(0, frames, source_frames):
            yield from self._forth(min(source_frames, frames))

    def _forth_and_back(self, source_frames: int, frames: int) -> Iterator[Picture]:
        for _ in range(0, frames, 2 * source_frames - 2):
            yield from self._forth(min(source_frames, frames))
            if source_frames > 2:
                for frame in read_frames_backwards(self.path, self.fps, 1, source_frames - 1):
                    yield frame.picture

    def _forth(self, frames: int) -> Iterator[Picture]:
        for frame in read_frames(self.path, self.fps, 0, frames):
            yield frame.picture


def footage_of(path: Path, info: MediaInfo, fps: str) -> Footage:
    """How a probed file is played: at its own rate (`fps` "source") or at 25 frames a second; a picture always at 25."""
    own_rate = fps == "source" and not info.is_picture
    return Footage(path, info.fps if own_rate else STILL_FPS, info.width, info.height, info.is_picture, info.pixel_aspect)
