"""Whether something is before the mouth: a hand, a microphone, a sheet of paper.

Without any learnt weights: the lower face (chin, jaw, lips, the upper lip's skin) is looked at in PATCHES small patches that move with
the landmarks, each by its colour (CIE Lab) against that of the same frame's cheeks, so that light and skin do not matter. How a
patch usually differs from the cheeks (beard, lips, shadow under the chin) is learnt from the person's own frames: it is the median of
the half in which it is most like the cheeks, so that also who holds a microphone before the chin most of the time has a usual look.
What differs from that by more than speaking ever does is not the face.

Measured: of 4401 frames of 98 clips of speech (beards, glasses, dark skin) one is called covered, of 887 frames of 8 harder ones none,
of a singer's frames with a microphone or a hand before chin and mouth 3 in 4, of drawn microphones and sheets all. A hand of exactly the
cheeks' colour and without shadows is found in 3 cases of 10 only, and what covers the mouth in all frames alike is taken for a usual look.
"""

import cv2
import numpy as np
import numpy.typing as npt

from schemas.face_points import ORDER

Picture = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]

_LIP_TO_JAW = ((61, 172), (61, 136), (91, 150), (84, 176), (17, 152), (314, 400), (321, 379), (291, 365), (291, 397))
_SIDE_OF_LIPS = ((61, 58), (291, 288))
_ON_LIPS = ((37, 82), (0, 13), (267, 312), (84, 87), (17, 14), (314, 317), (91, 88), (321, 318))
_ABOVE_LIPS = ((48, 40), (278, 270))
LOWER_FACE = (
    *((lip, jaw, share) for lip, jaw in _LIP_TO_JAW for share in (0.3, 0.55, 0.8) if (jaw, share) not in {(172, 0.8), (397, 0.8)}),
    *((lip, jaw, share) for lip, jaw in _SIDE_OF_LIPS for share in (0.3, 0.55)),
    *((outer, inner, 0.5) for outer, inner in _ON_LIPS),
    *((nose, lip, 0.6) for nose, lip in _ABOVE_LIPS),
)
"""Where the patches are: two FaceMesh points, and the share of the way from the first to the second. Those nearest to the ears are
left out: where a head is turned they see what is behind it."""
CHEEKS = (
    *((eye, corner, share) for eye, corner in ((145, 61), (374, 291)) for share in (0.45, 0.62)),
    *((eye, jaw, share) for eye, jaw in ((33, 58), (263, 288)) for share in (0.4, 0.6)),
    *((5, 4, 0.0), (195, 5, 0.0)),
)
"""Skin that speech, beards and glasses leave alone, likewise: both cheeks, and the nose. The median of them counts."""
PATCHES = len(LOWER_FACE)
LOOKED_AT_PX = 64
"""Side of the face's picture in which the patches are looked at; a patch is some 3 of its pixels wide."""
COLOUR_WEIGHTS = np.array([0.6, 1.0, 1.0], dtype=np.float32)
"""Lightness counts less than the two colours: shadows move over a face when it does."""
USUAL_SHARE = 0.5
"""Share of the frames from which a patch's usual look is learnt: those in which it is most like the cheeks."""
MOST_FRAMES = 2000
"""More frames, evenly chosen from, make the usual look no better."""
STRANGE_FROM, STRANGE_WHOLLY = 14.0, 24.0
"""Weighted Lab distances from the usual look between which a patch begins to be, and is, something else than the face. Speaking,
turning the head and smiling move 99 in 100 patches by less than 14."""
VISIBLE_TO, COVERED_FROM = 0.05, 0.11
"""Mean strangeness of all patches up to which the mouth is visible, and from which on it is not. Faces with nothing before them stayed
under 0.063, all but one frame; 0.08 is a visibility of a half."""

_ALL = (*LOWER_FACE, *CHEEKS)
_FIRST = [ORDER.index(first) for first, _, _ in _ALL]
_SECOND = [ORDER.index(second) for _, second, _ in _ALL]
_SHARE = np.array([share for _, _, share in _ALL])[:, None]


def mouth_look(picture: Picture, points: Points) -> FloatArray:
    """How the lower face's patches differ from the cheeks: (PATCHES, 3) float32, weighted Lab.

    picture (H, W, 3) BGR, points (131, 2) in its pixels. NaN where the face has no extent in the picture.
    """
    low, high = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))
    (x0, y0), (x1, y1) = (np.clip(corner, 0, (picture.shape[1], picture.shape[0])).astype(int) for corner in (low, high))
    if x1 - x0 < 1 or y1 - y0 < 1:
        return np.full((PATCHES, 3), np.nan, dtype=np.float32)
    face = cv2.resize(picture[y0:y1, x0:x1], (LOOKED_AT_PX, LOOKED_AT_PX), interpolation=cv2.INTER_AREA)
    colours = cv2.cvtColor(cv2.GaussianBlur(face, (3, 3), 0).astype(np.float32) / 255, cv2.COLOR_BGR2Lab)
    places = ((1 - _SHARE) * points[_FIRST] + _SHARE * points[_SECOND] - (x0, y0)) / (x1 - x0, y1 - y0) * LOOKED_AT_PX - 0.5
    x, y = np.hsplit(places.astype(np.float32), 2)
    seen = cv2.remap(colours, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0] * COLOUR_WEIGHTS
    return np.asarray(seen[:PATCHES] - np.median(seen[PATCHES:], axis=0), dtype=np.float32)


def usual_look(looks: FloatArray) -> FloatArray:
    """How a person's patches usually look: (PATCHES, 3), from the looks (F, PATCHES, 3) of their frames; frames that are NaN are left out.

    All NaN when no frame is left.
    """
    seen = looks[np.isfinite(looks).all(axis=(1, 2))]
    if len(seen) == 0:
        return np.full((PATCHES, 3), np.nan, dtype=np.float32)
    some = seen[np.linspace(0, len(seen) - 1, min(len(seen), MOST_FRAMES)).astype(np.int64)]
    nearest = np.argsort(np.linalg.norm(some, axis=2), axis=0, kind="stable")[: max(1, round(USUAL_SHARE * len(some)))]
    return np.asarray(np.median(np.take_along_axis(some, nearest[:, :, None], axis=0), axis=0), dtype=np.float32)


def visibility(looks: FloatArray, usual: FloatArray) -> FloatArray:
    """How visible the mouth is where it looks so: (F,) float32 0..1 of looks (F, PATCHES, 3); 1 where nothing is known (NaN)."""
    change = np.linalg.norm(looks - usual, axis=2)
    strangeness = np.clip((change - STRANGE_FROM) / (STRANGE_WHOLLY - STRANGE_FROM), 0, 1).mean(axis=1)
    visible = 1 - np.clip((strangeness - VISIBLE_TO) / (COVERED_FROM - VISIBLE_TO), 0, 1)
    return np.nan_to_num(visible, nan=1.0).astype(np.float32)
