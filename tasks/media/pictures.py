"""From what ffmpeg decodes to upright BGR pictures."""

from fractions import Fraction
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from tasks.media.colour import HDR_NAMES, ToneMap, assumed_matrix

Picture = npt.NDArray[np.uint8]
"""(height, width, 3), blue green red, 0..255."""

SQUARE_PIXELS = Fraction(1)
"""The aspect of most videos' pixels; those of HDV, DV and DVD are wider or narrower than high."""

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
    """Converts decoded frames of one stream to upright BGR pictures of one size, whatever the pixel format; HDR is brought to BT.709."""

    def __init__(self, size: tuple[int, int] | None = None) -> None:
        self._size = size
        self._orientation: Orientation | None = None
        self._reformatter = VideoReformatter()
        self._tone_maps: dict[int, ToneMap] = {}

    def convert(self, frame: VideoFrame) -> Picture:
        """(H, W, 3) uint8 BGR; frames of another size than the stream's first are scaled to it."""
        self._size = self._size or (frame.width, frame.height)
        width, height = self._size
        pixels = "gbrp16le" if frame.color_trc in HDR_NAMES else "bgr24"
        converted = self._reformatter.reformat(frame, width, height, format=pixels, src_colorspace=assumed_matrix(frame), interpolation=SCALING, threads=1)
        if self._orientation is None:
            # Asked once, and of the copy: a frame whose side data was looked at lives on until the garbage collector runs, and with a
            # decoded one all the memory that its decoder keeps for frames.
            self._orientation = orientation_of(converted)
        return self._orientation.upright(self._tone_mapped(converted, int(frame.color_trc)) if pixels == "gbrp16le" else converted.to_ndarray())

    def _tone_mapped(self, wide: VideoFrame, transfer: int) -> Picture:
        if transfer not in self._tone_maps:
            self._tone_maps[transfer] = ToneMap(transfer, wide.width, wide.height)
        return self._tone_maps[transfer].mapped(wide)
