"""What a video's numbers mean as colours, and how pictures of high dynamic range become ordinary ones."""

import tempfile
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace

from schemas.errors import MediaError
from schemas.reasons import Reason

FloatArray = npt.NDArray[np.float64]

BT709 = 1
"""AVColorSpace, AVColorPrimaries and AVColorTransferCharacteristic of BT.709."""
UNSAID = 2
SMPTE170M = 6
"""AVColorSpace of BT.601."""
BT2020 = 9
PQ, HLG = 16, 18
"""AVColorTransferCharacteristic of HDR: SMPTE ST 2084 and ARIB STD-B67."""
HDR_NAMES = {PQ: "PQ", HLG: "HLG"}
FULL_RANGE = 2
"""AVColorRange: 0..255 and not 16..235."""

SMALL_PICTURE = (1024, 576)
"""Untagged pictures up to this width and height are taken for BT.601, larger ones for BT.709, as players do."""
MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}
"""AVColorSpace values that swscale knows, as it calls them: BT.709, FCC, BT.470BG, SMPTE 170M, SMPTE 240M, BT.2020."""
RGB = 0
"""AVColorSpace of what is no luma and chroma at all."""

WHITE_NITS = 203.0
"""HDR's reference white (ITU-R BT.2408); it counts as 1 here."""
PEAK = 1000 / WHITE_NITS
"""What becomes the brightest white: most HDR is graded for 1000 nits; what is brighter is cut off."""
KNEE = 0.6
"""Up to here light stays as it is, faces and all; above it, it is rolled off so that PEAK becomes 1."""
DISPLAY_GAMMA = 2.4
"""Of the displays that BT.709 is made for (BT.1886)."""
HLG_GAMMA = 1.2
"""From a camera's light to that of a display of 1000 nits (BT.2100)."""
BT2020_LUMA = np.array([0.2627, 0.6780, 0.0593])
BT2020_TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
"""Of linear light (BT.2087)."""
GRID = 65
"""Points of the look-up table a side: interpolated between them, greys are met within a level of 255, all colours within 0.3 on average."""


@dataclass(frozen=True)
class ColourTags:
    """What H.264 and MP4 say of their colours: AVColorSpace, AVColorPrimaries, AVColorTransferCharacteristic, and whether 0..255 is used."""

    matrix: int = BT709
    primaries: int = BT709
    transfer: int = BT709
    full_range: bool = False

    @property
    def is_hdr(self) -> bool:
        """Whether it is of high dynamic range: PQ or HLG."""
        return self.transfer in HDR_NAMES

    @property
    def to_write(self) -> "ColourTags":
        """The tags for pictures that were read from such a video: its own, or BT.709 where reading brings them to that (HDR, RGB)."""
        return self if self.matrix in MATRICES and not self.is_hdr else BT709_TAGS


BT709_TAGS = ColourTags()
"""Of ordinary video."""


def colour_tags(frame: VideoFrame) -> ColourTags:
    """What a decoded frame's colours mean: as it says itself, and a matrix as players assume it where it does not."""
    return ColourTags(_matrix_of(frame), int(frame.color_primaries), int(frame.color_trc), int(frame.color_range) == FULL_RANGE)


def assumed_matrix(frame: VideoFrame) -> Colorspace | None:
    """The matrix for a frame that does not say its own; None where its tag is to be believed."""
    matrix = _matrix_of(frame)
    return None if matrix == frame.colorspace else MATRICES[matrix]


def _matrix_of(frame: VideoFrame) -> int:
    if frame.colorspace in MATRICES or frame.colorspace == RGB:
        return int(frame.colorspace)
    if frame.color_trc in HDR_NAMES:
        return BT2020
    is_small = frame.width <= SMALL_PICTURE[0] and frame.height <= SMALL_PICTURE[1]
    return SMPTE170M if is_small else BT709


def refuse_hdr(path: str | Path, colour: ColourTags) -> None:
    """Raises MediaError for a video of high dynamic range, where the user does not want it brought to BT.709."""
    if colour.is_hdr:
        name = HDR_NAMES[colour.transfer]
        raise MediaError(Reason.BAD_SETTINGS, f"{path} is HDR ({name}), which hdr: refuse turns away; use hdr: tone-map, or give a version in BT.709.")


class ToneMap:
    """Brings HDR pictures to BT.709, by a look-up table in ffmpeg."""

    def __init__(self, transfer: int, width: int, height: int) -> None:
        """transfer: PQ or HLG; all pictures are of one size. Planes, since swscale's rgb48le comes out wrong with full chroma."""
        self._graph = Graph()
        self._source = self._graph.add_buffer(width=width, height=height, format=VideoFormat("gbrp16le"), time_base=Fraction(1))
        with tempfile.TemporaryDirectory(prefix="dubmill-") as folder:
            cube = Path(folder) / "tone-map.cube"
            cube.write_text(_cube(transfer))
            table = self._graph.add("lut3d", file=str(cube), interp="tetrahedral")
            self._sink = self._graph.add("buffersink")
            self._source.link_to(table)
            table.link_to(self._sink)
            self._graph.configure()

    def mapped(self, frame: VideoFrame) -> npt.NDArray[np.uint8]:
        """A gbrp16le frame as (H, W, 3) uint8 BGR."""
        frame.pts = 0
        self._source.push(frame)
        levels = cv2.convertScaleAbs(cast(VideoFrame, self._sink.pull()).to_ndarray(), alpha=255 / 65535)
        return np.asarray(cv2.cvtColor(levels, cv2.COLOR_RGB2BGR), dtype=np.uint8)


@cache
def _cube(transfer: int) -> str:
    """The look-up table as a .cube text, red changing fastest."""
    steps = np.linspace(0, 1, GRID)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    values = tone_mapped(np.stack([red, green, blue], axis=-1).reshape(-1, 3), transfer)
    return f"LUT_3D_SIZE {GRID}\n" + "".join(f"{r:.6f} {g:.6f} {b:.6f}\n" for r, g, b in values.tolist())


def tone_mapped(signal: FloatArray, transfer: int) -> FloatArray:
    """BT.709 signal (n, 3) in 0..1 for an HDR signal (n, 3) in 0..1 of BT.2020 primaries, red green blue.

    Light up to KNEE of HDR's reference white stays as it is; above, a Möbius curve brings 1000 nits to white. The curve is that of
    the strongest of the three colours and darkens all three alike, so that hues stay.
    """
    light = (_pq_light(signal) if transfer == PQ else _hlg_light(signal)) @ BT2020_TO_BT709.T
    light = np.maximum(light, 0)
    strongest = light.max(axis=1, keepdims=True)
    scale = _rolled_off(np.minimum(strongest, PEAK)) / np.maximum(strongest, 1e-9)
    return np.asarray((light * scale).clip(0, 1) ** (1 / DISPLAY_GAMMA), dtype=np.float64)


def _rolled_off(light: FloatArray) -> FloatArray:
    """Light 0..PEAK to 0..1: as it is up to KNEE, then (light + a) / (light + b), which goes on as steeply and ends at 1."""
    a = -(KNEE**2) * (PEAK - 1) / (KNEE**2 - 2 * KNEE + PEAK)
    b = (KNEE**2 - 2 * KNEE * PEAK + PEAK) / (PEAK - 1)
    rolled = (b**2 + 2 * b * KNEE + KNEE**2) / (b - a) * (light + a) / (light + b)
    return np.where(light <= KNEE, light, rolled)


def _pq_light(signal: FloatArray) -> FloatArray:
    """Light in reference whites of a PQ signal (SMPTE ST 2084)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = signal ** (1 / m2)
    return np.asarray((np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1) * 10_000 / WHITE_NITS)


def _hlg_light(signal: FloatArray) -> FloatArray:
    """Light in reference whites, on a display of 1000 nits, of an HLG signal (BT.2100)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = (scene @ BT2020_LUMA)[:, None]
    return np.asarray(scene * luminance ** (HLG_GAMMA - 1) * PEAK)
