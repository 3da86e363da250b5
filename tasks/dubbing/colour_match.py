"""Matching the colours of a generated face to its surroundings, along the seam where the two meet.

On the seam both pictures show the same skin, so what differs there is the generated face's colour. That difference is described
by a field of few numbers a channel (FIELD), fitted robustly to thousands of pixels: no single pixel, and nothing that the mouth
does, moves it, so it needs no memory of the frames before and yet does not flicker.
"""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

NOISE_LEVELS = 6.0
"""How far two pictures of the same skin differ from pixel to pixel, in grey levels: the fit's idea of a usual residual."""
OUTLIER_LEVELS = 12.0
"""A pixel that a fit misses by so much weighs half in the next one: hair, a moved shadow, the rim of the glasses."""
FITS = 2
"""More change nothing that is seen."""
INDEPENDENT_PIXELS = 60.0
"""What the seam's pixels count together: neighbours say nearly the same, so they are no thousands of witnesses."""
FIELD_LEVELS = np.array([30.0, 12.0, 12.0, 12.0])
"""How large the field's numbers usually are, in grey levels: constant, across, downwards, and its curve downwards. The rest of what
is found is doubted (a ridge). Downwards it may bend: the upper half of the face was seen by the renderer, the lower one was not."""
MOST_LEVELS = 32.0
"""Farthest that the colours are moved at any place: what differs more is no matter of colour."""
HALF_GAIN_LEVEL = 67.0
"""Brightness of the skin at which the constant part is half gain and half offset. Of bright skin it is mostly gain, so that a dark
mouth stays dark; of dark skin mostly offset, where a gain would blow up teeth and eyes."""
FIT_SIZE = 64
"""Side of the pictures that are compared: finer grain says nothing of colour, and need not lie on the same spot in both."""
LEAST_SEAM = 5.0
"""Weight of the seam, in pixels of that size, under which nothing is matched: too little is seen."""


def match_colour(face: FloatArray, surroundings: Picture, seam: FloatArray) -> FloatArray:
    """The face (h, w, 3), 0..255, with the colours that the surroundings have on the seam.

    surroundings (H, W, 3) and seam (n, m), weights 0..1, show the same place as the face, at any size. Values that come back may
    leave 0..255 a little; they are not rounded.
    """
    weights = _reduced(seam)
    if float(weights.sum()) < LEAST_SEAM:
        return face
    rows, columns = np.nonzero(weights > 0)
    on_seam, skin = weights[rows, columns].astype(np.float64), _reduced(face)[rows, columns].astype(np.float64)
    terms = _terms(_coordinates(FIT_SIZE)[rows], _coordinates(FIT_SIZE)[columns])
    field = _fit(terms, _reduced(surroundings)[rows, columns] - skin, on_seam)
    mean_term, mean_skin = np.average(terms, axis=0, weights=on_seam), np.average(skin, axis=0, weights=on_seam)
    return _applied(face, field, mean_term @ field, mean_skin)


def _reduced(picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return cv2.resize(picture, (FIT_SIZE, FIT_SIZE), interpolation=cv2.INTER_AREA)


def _coordinates(length: int) -> npt.NDArray[np.float64]:
    """-1 to 1 over the picture."""
    return np.linspace(-1.0, 1.0, length)


def _terms(y: npt.NDArray[np.float64], x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What the field is made of, (n, 4)."""
    return np.stack([np.ones_like(x), x, y, y * y], axis=1)


def _fit(terms: npt.NDArray[np.float64], difference: npt.NDArray[Any], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The field (4, 3) that explains the difference (n, 3). It begins at the medians; pixels that it misses count less in the next fit."""
    explained: npt.NDArray[Any] = np.median(difference, axis=0)
    for _ in range(FITS):
        missed = np.abs(difference - explained).max(axis=1)
        field = _ridge(terms, difference, weights / (1 + (missed / OUTLIER_LEVELS) ** 2))
        explained = np.einsum("ni,ic->nc", terms, field)
    return field


def _ridge(terms: npt.NDArray[np.float64], difference: npt.NDArray[Any], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    weighted = terms * (weights * INDEPENDENT_PIXELS / weights.sum())[:, None]
    doubt = np.diag((NOISE_LEVELS / FIELD_LEVELS) ** 2)
    # einsum and not @: for so few numbers a second thread of a matrix library costs milliseconds where cores are busy.
    return np.linalg.solve(np.einsum("ni,nj->ij", weighted, terms) + doubt, np.einsum("ni,nc->ic", weighted, difference))


def _applied(face: FloatArray, field: npt.NDArray[np.float64], mean_difference: npt.NDArray[np.float64], mean_skin: npt.NDArray[np.float64]) -> FloatArray:
    """The face with the field added; the mean difference becomes a gain to the share that the skin's brightness calls for."""
    limited = np.clip(mean_difference, -MOST_LEVELS, MOST_LEVELS)
    as_gain = limited * mean_skin**2 / (mean_skin**2 + HALF_GAIN_LEVEL**2)
    y, x = _coordinates(face.shape[0])[:, None, None], _coordinates(face.shape[1])[None, :, None]
    downwards, across = (field[0] + field[2] * y + field[3] * y * y).astype(np.float32), (field[1] * x).astype(np.float32)
    added = np.clip(downwards + across, -MOST_LEVELS, MOST_LEVELS)
    gain = 1 + as_gain / np.maximum(mean_skin, 1.0)
    return np.asarray(face * gain.astype(np.float32) + (added - as_gain.astype(np.float32)), dtype=np.float32)
