"""From what ffmpeg decodes to upright BGR pictures."""

from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

Picture = npt.NDArray[np.uint8]
"""(height, width, 3), blue green red, 0..255."""

SMALL_PICTURE = (1024, 576)
"""Untagged pictures up to this width and height are taken for BT.601, larger ones for BT.709, as players do."""
TAGGED_MATRICES = frozenset({0, 1, 4, 5, 6, 7, 9})
"""AVColorSpace values that swscale knows: RGB, BT.709, FCC, BT.470BG, SMPTE 170M, SMPTE 240M, BT.2020."""
# Without accurate rounding swscale darkens every picture by about one level.
SCALING = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


class Orientation(NamedTuple):
    """How a decoded picture is turned upright: transposed first, then mirrored."""

    transposed: bool = False
    mirrored: bool = False
    upside_down: bool = False

    @property
    def rotation_deg(self) -> int:
        """Degrees counter-clockwise by which the picture is turned: 0, 90, 180 or 270 (mirroring apart)."""
        if self.transposed:
            return 90 if self.upside_down else 270
        return 180 if self.upside_down else 0

    def upright(self, picture: npt.NDArray) -> Picture:
        """The picture as it is meant to be seen, contiguous in memory."""
        turned = picture.transpose(1, 0, 2) if self.transposed else picture
        turned = turned[:, ::-1] if self.mirrored else turned
        return np.ascontiguousarray(turned[::-1] if self.upside_down else turned)

    def upright_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after turning."""
        return (height, width) if self.transposed else (width, height)


def orientation_of(frame: VideoFrame) -> Orientation:
    """The orientation that the container's display matrix asks for; right angles and mirroring, the nearest for others."""
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return Orientation()
    # Row-major 3 × 3: x' = a·x + c·y, y' = b·x + d·y, with y downwards.
    a, b, _, c, d = np.frombuffer(bytes(cast(SideData, side_data)), dtype=np.int32)[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(transposed=True, mirrored=c < 0, upside_down=b < 0)
    return Orientation(mirrored=a < 0, upside_down=d < 0)


class BgrPictures:
    """Converts decoded frames of one stream to upright BGR pictures of one size, whatever the pixel format."""

    def __init__(self, size: tuple[int, int] | None = None) -> None:
        self._size = size
        self._orientation: Orientation | None = None
        self._reformatter = VideoReformatter()

    def convert(self, frame: VideoFrame) -> Picture:
        """(H, W, 3) uint8 BGR; frames of another size than the stream's first are scaled to it."""
        self._size = self._size or (frame.width, frame.height)
        if self._orientation is None:  # asked once: a frame whose side data was looked at lives on until the garbage collector runs
            self._orientation = orientation_of(frame)
        width, height = self._size
        converted = self._reformatter.reformat(frame, width, height, format="bgr24", src_colorspace=_matrix_of(frame), interpolation=SCALING, threads=1)
        return self._orientation.upright(converted.to_ndarray())


def _matrix_of(frame: VideoFrame) -> Colorspace | None:
    """The matrix for a frame that does not say its own; None where its tag is to be believed."""
    if frame.colorspace in TAGGED_MATRICES:
        return None
    is_small = frame.width <= SMALL_PICTURE[0] and frame.height <= SMALL_PICTURE[1]
    return Colorspace.ITU601 if is_small else Colorspace.ITU709
