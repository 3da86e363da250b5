"""A still portrait whose head sways and whose mouth and jaw move: displacement fields over the picture.

The picture is laid out twice. The upper layer is everything fixed to the skull, upper lip and upper teeth included; the lower
layer, from the lower lip downwards, moves with the jaw. Where they part, the inside of the mouth is seen. Outside the corners of
the mouth both layers move alike, so that no seam shows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from schemas.face_points import ORDER
from tasks.faces.landmarks import FaceMesh

Picture = npt.NDArray[np.uint8]
Field = npt.NDArray[np.float32]

FIELD_SCALE = 2
"""Fields are computed on every second pixel: they are smooth, and it is four times as quick."""
FIXED_POINT_STEPS = 5
"""Steps that turn "where a pixel goes" into "where a pixel comes from"; the last changes less than 0.1 pixels."""
WIDEST_OPENING = 0.13
"""Of the distance from brow to chin: a loud "ah" of somebody whose lips touch in the picture."""
GAP_SHARE = 0.6
"""Part of the gap between the lips in the picture by which its widest opening is wider."""
UPPER_LIP_SHARE = 0.12
"""Part of the opening that the upper lip does."""
ROUNDING_SHARE = 0.22
"""Of its half width by which each corner of the mouth moves inwards for an "oo"."""
EDGE_PX = 1.4
"""Width over which the edge of a lip fades into the inside of the mouth."""
TEETH_SHARE = 0.24
"""Height of the drawn upper teeth, of the mouth's half width."""
THROAT = (14.0, 12.0, 28.0)
TONGUE = (58.0, 54.0, 112.0)
TEETH = (146.0, 168.0, 200.0)
"""Colours of the inside of a mouth, BGR."""


@dataclass(frozen=True)
class Pose:
    """What the face does in one frame. Opening 0..1, rounding -1..1, head shifts in pixels, roll in radians, growth as a share."""

    opening: float = 0.0
    rounding: float = 0.0
    head_x: float = 0.0
    head_y: float = 0.0
    head_roll: float = 0.0
    head_growth: float = 0.0


@dataclass(frozen=True)
class Still:
    """Where a portrait comes from: a public-domain picture inside an installed package, the part of it to show, and its size."""

    read: Callable[[], Picture]
    left: int
    top: int
    width: int
    height: int
    scale: float
    shows_teeth: bool


def _astronaut() -> Picture:
    import skimage.data  # only who makes sample footage needs the portrait (NASA, public domain)

    return np.ascontiguousarray(skimage.data.astronaut()[..., ::-1])


def _admiral() -> Picture:
    from matplotlib.cbook import get_sample_data  # Grace Hopper (US Navy, public domain)

    return np.asarray(cv2.imread(str(get_sample_data("grace_hopper.jpg", asfileobj=False))), np.uint8)


STILLS = {
    "astronaut": Still(_astronaut, left=125, top=12, width=200, height=200, scale=2.0, shows_teeth=True),
    "admiral": Still(_admiral, left=68, top=14, width=400, height=448, scale=1.0, shows_teeth=False),
}
"""The portraits, by the names of their speakers."""


class Portrait:
    """A portrait that can be posed. `picture` (H, W, 3) uint8 BGR, `points` (131, 2) its landmarks in pixels, in ORDER."""

    def __init__(self, picture: Picture, points: npt.NDArray[np.float64], *, shows_teeth: bool) -> None:
        self.picture = picture
        self.points = points
        self.shows_teeth = shows_teeth
        self._mouth = _Mouth(points)
        height, width = picture.shape[:2]
        y, x = np.mgrid[0:height:FIELD_SCALE, 0:width:FIELD_SCALE].astype(np.float32)
        self._grid: Field = np.stack((x, y), axis=-1) + (FIELD_SCALE - 1) / 2
        self._fields = _Fields(self._grid, self._mouth)

    def posed(self, pose: Pose) -> Picture:
        """The portrait in that pose, the same size as `picture`."""
        drop_px, closing = self._jaw(pose.opening)
        shared = self._head(pose) + pose.rounding * self._fields.rounding
        lower = self._sources(shared + drop_px * (1 - UPPER_LIP_SHARE) * self._fields.drop + closing * self._fields.closing)
        upper = self._sources(shared - drop_px * UPPER_LIP_SHARE * self._fields.raising)
        below = lower[..., 1] - self._mouth.edge(lower[..., 0])
        shown = cv2.remap(self.picture, np.where(below[..., None] > 0, lower, upper), None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        near = self._mouth.surroundings(*self.picture.shape[:2])
        shown[near] = self._mouth_picture(upper[near], lower[near], below[near])
        return np.asarray(shown, np.uint8)

    def _mouth_picture(self, upper: Field, lower: Field, below: Field) -> Picture:
        """The part of the picture around the mouth: its inside, the upper layer over it, the lower layer over both."""
        above = self._mouth.upper_bound(upper[..., 0]) - upper[..., 1]
        layers = [cv2.remap(self.picture, source, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE) for source in (upper, lower)]
        shown = _laid_over(self._inside(upper, below), layers[0].astype(np.float32), above)
        return np.clip(np.rint(_laid_over(shown, layers[1].astype(np.float32), below)), 0, 255).astype(np.uint8)

    def _jaw(self, opening: float) -> tuple[float, float]:
        """Pixels by which the jaw drops below its place in the picture, and the share (0..1) by which the shown mouth closes."""
        gap_px = self._mouth.gap_px
        wanted_px = opening * (WIDEST_OPENING * self._mouth.face_px + GAP_SHARE * gap_px)
        if wanted_px >= gap_px:
            return wanted_px - gap_px, 0.0
        return 0.0, 1.0 - wanted_px / gap_px

    def _head(self, pose: Pose) -> Field:
        fields = self._fields
        shift = np.array((pose.head_x, pose.head_y), np.float32) * fields.head
        return np.asarray(shift + pose.head_roll * fields.head_roll + pose.head_growth * fields.head_growth, np.float32)

    def _sources(self, displacement: Field) -> Field:
        """For each pixel of the result (H, W, 2) the place in `picture` that moves there."""
        source = self._grid - displacement
        for _ in range(FIXED_POINT_STEPS):
            nodes = (source - (FIELD_SCALE - 1) / 2) / FIELD_SCALE
            source = self._grid - cv2.remap(displacement, nodes, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        height, width = self.picture.shape[:2]
        return np.asarray(cv2.resize(source, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)

    def _inside(self, upper: Field, below: Field) -> npt.NDArray[np.float32]:
        """The inside of the mouth: dark throat, tongue above the lower lip, drawn upper teeth where the picture has none."""
        mouth = self._mouth
        along = (upper[..., 0] - mouth.centre_x) / mouth.half_width
        tongue = np.exp(below / (0.16 * mouth.half_width)) * np.clip(1 - along**2, 0, 1)
        colour = _mixed(np.asarray(THROAT), np.asarray(TONGUE), np.asarray(np.clip(tongue, 0, 1) * 0.8))
        if self.shows_teeth:
            return colour
        height = TEETH_SHARE * mouth.half_width * np.sqrt(np.clip(1 - (along / 0.85) ** 2, 0, 1))
        depth = upper[..., 1] - mouth.edge(upper[..., 0])
        teeth = np.clip((height - depth) / EDGE_PX, 0, 1) * np.clip(1 - 1.1 * along**2, 0, 1) * np.clip(depth / (0.25 * height + 1) + 0.35, 0, 1)
        return _mixed(colour, np.asarray(TEETH), np.asarray(teeth, np.float32))


class _Mouth:
    """Measures of a mouth in its portrait, in pixels, and the line along which lower lip and upper layer part."""

    def __init__(self, points: npt.NDArray[np.float64]) -> None:
        at = {index: points[ORDER.index(index)] for index in ORDER}
        upper = np.array([at[index] for index in (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)])
        lower = np.array([at[index] for index in (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)])
        self.centre_x = float((at[78] + at[308])[0] / 2)
        self.half_width = float((at[308] - at[78])[0] / 2)
        self.centre_y = float(at[14][1])
        self.gap_px = max(float(at[14][1] - at[13][1]), 0.0)
        self.to_chin = float(at[152][1] - at[14][1])
        self.to_nose = float(at[14][1] - at[4][1]) * 0.8
        self.face_px = float(at[152][1] - at[168][1])
        self.face_x, self.face_y = (float(value) for value in (at[152] + at[168]) / 2)
        self.jaw_half_width = float((at[397] - at[172])[0] / 2)
        self._columns = np.arange(int(lower[0, 0]), int(lower[-1, 0]) + 2, dtype=np.float64)
        self._edge = _curve(lower, self._columns)
        self._gap = np.maximum(self._edge - _curve(upper, self._columns), 0)

    def surroundings(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns in which the mouth stays, whatever the pose, of a picture of that size."""
        left, right = self.centre_x - 1.5 * self.half_width, self.centre_x + 1.5 * self.half_width
        top, bottom = self.centre_y - self.half_width, self.centre_y + 1.7 * self.half_width
        return slice(max(int(top), 0), min(int(bottom), height)), slice(max(int(left), 0), min(int(right), width))

    def edge(self, x: Field) -> Field:
        """Height of the lower lip's inner edge at each x; level outside the corners."""
        return np.interp(x, self._columns, self._edge).astype(np.float32)

    def gap(self, x: Field) -> Field:
        """How far apart the lips are in the picture at each x."""
        return np.interp(x, self._columns, self._gap).astype(np.float32)

    def upper_bound(self, x: Field) -> Field:
        """Where the upper layer ends: at the lower lip's inner edge, and nowhere outside the corners."""
        outside = np.maximum(np.abs(x - self.centre_x) - self.half_width, 0)
        return self.edge(x) + 4 * outside.astype(np.float32)

    def opening_profile(self, x: Field) -> Field:
        """Shape of an open mouth: 1 in the middle, 0 from the corners outwards."""
        return np.clip(1 - ((x - self.centre_x) / self.half_width) ** 2, 0, 1).astype(np.float32)


class _Fields:
    """Displacements (h, w, 2) by one unit of each motion, on the coarse grid; `drop`, `closing` and `raising` per pixel or share."""

    def __init__(self, grid: Field, mouth: _Mouth) -> None:
        x, y = grid[..., 0], grid[..., 1]
        below = y - mouth.edge(x)
        self.drop = _downwards(self._jaw_drop(x, below, mouth))
        self.closing = _downwards(-mouth.gap(x) * (1 - _step(np.maximum(below, 0) / mouth.to_chin)))
        self.raising = _downwards(mouth.opening_profile(x) * (1 - _step((-below / mouth.to_nose - 0.25) / 0.75)))
        across, down = (x - mouth.centre_x) / mouth.half_width, below / mouth.half_width
        narrowing = -(x - mouth.centre_x) * ROUNDING_SHARE * np.exp(-((across / 1.5) ** 4) - (down / 1.1) ** 2)
        self.rounding = np.stack((narrowing, np.zeros_like(narrowing)), axis=-1)
        self.head = self._head_share(x, y, mouth)[..., None]
        from_neck = grid - np.array((mouth.face_x, mouth.face_y + 0.9 * mouth.face_px), np.float32)
        self.head_roll = self.head * np.stack((-from_neck[..., 1], from_neck[..., 0]), axis=-1)
        self.head_growth = self.head * (grid - np.array((mouth.face_x, mouth.face_y), np.float32))

    @staticmethod
    def _jaw_drop(x: Field, below: Field, mouth: _Mouth) -> Field:
        """The lips' opening shape at the edge of the lower lip becomes the jaw's shape on the way to the chin, and nothing in the neck."""
        sideways = np.abs(x - mouth.centre_x) / mouth.jaw_half_width
        jaw = 0.9 * (1 - _step((sideways - 0.35) / 0.85))
        towards_chin = _step(np.maximum(below, 0) / (0.6 * mouth.to_chin))
        neck = 1 - _step((below / mouth.to_chin - 1.0) / 0.95)
        return ((1 - towards_chin) * mouth.opening_profile(x) + towards_chin * jaw) * neck

    @staticmethod
    def _head_share(x: Field, y: Field, mouth: _Mouth) -> Field:
        """1 on the head, 0 where shoulders and background stand still."""
        across = (x - mouth.face_x) / (1.75 * mouth.face_px)
        down = (y - (mouth.face_y - 0.25 * mouth.face_px)) / (2.0 * mouth.face_px)
        return (1 - _step((np.hypot(across, down) - 0.35) / 0.65)).astype(np.float32)


@lru_cache(maxsize=len(STILLS))
def load_portrait(speaker: str) -> Portrait:
    """The portrait of one of STILLS, its landmarks found by FaceMesh."""
    still = STILLS[speaker]
    part = still.read()[still.top : still.top + still.height, still.left : still.left + still.width]
    picture = cv2.resize(part, None, fx=still.scale, fy=still.scale, interpolation=cv2.INTER_LANCZOS4)
    with FaceMesh() as mesh:
        points = mesh.find(picture)
    if points is None:
        raise RuntimeError(f"FaceMesh finds no face in the portrait {speaker}")  # the packages' pictures are fixed: a broken installation
    return Portrait(np.asarray(picture, np.uint8), points, shows_teeth=still.shows_teeth)


def _step(value: npt.NDArray[np.floating]) -> Field:
    """0 below 0, 1 above 1, smooth between."""
    inside = np.clip(value, 0, 1)
    return np.asarray(inside * inside * (3 - 2 * inside), np.float32)


def _downwards(amount: Field) -> Field:
    return np.stack((np.zeros_like(amount), amount), axis=-1).astype(np.float32)


def _curve(points: npt.NDArray[np.float64], columns: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A smooth line through points, by height at each column; columns outside get the ends' height."""
    from scipy.interpolate import PchipInterpolator

    ordered = points[np.argsort(points[:, 0])]
    apart = np.concatenate(([True], np.diff(ordered[:, 0]) > 0.5))  # near the corners of a mouth points lie above each other
    kept = ordered[apart]
    return np.asarray(PchipInterpolator(kept[:, 0], kept[:, 1])(np.clip(columns, kept[0, 0], kept[-1, 0])))


def _mixed(first: npt.NDArray[np.floating], second: npt.NDArray[np.floating], share: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """The colour `first` with the share (H, W) of `second`."""
    return np.asarray(first + share[..., None] * (second - first), np.float32)


def _laid_over(under: npt.NDArray[np.float32], over: npt.NDArray[np.float32], distance: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """`over` where its signed distance to its edge is positive, `under` elsewhere, with an edge EDGE_PX wide."""
    return _mixed(under, over, np.clip(distance / EDGE_PX + 0.5, 0, 1))
