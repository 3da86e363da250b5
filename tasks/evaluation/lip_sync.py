"""Whether lips and speech go together: by SyncNet where its weights are given, and by their motion alone."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from models.syncnet import SyncNet
from tasks.corpus.speaking import best_correlation, loudness_a_frame
from tasks.corpus.syncnet import SHORTEST_FRAMES, SyncScores, crop_square, embedded_faces, embedded_sounds, squares_around, sync_scores
from tasks.evaluation.seen_video import SeenVideo, first_frames

Picture = npt.NDArray[np.uint8]
DoubleArray = npt.NDArray[np.float64]

NOISE_UNDER_LOUDEST_DB = 30.0
"""Under the loudest: what is quieter counts as silence, since breath and room move no lips."""
FEWEST_FRAMES = 25
"""Below a second anything correlates by chance."""


def lip_speech_correlation(inner_opening: npt.NDArray[np.floating], waveform: npt.NDArray[np.float32]) -> float | None:
    """Best correlation of lip opening (T,) and loudness (dB) of its 40 ms of sound over shifts of up to 3 frames, -1..1.

    NaN in frames without a face, which take their neighbours' value. None for less than a second, without sound or without a face.
    """
    opening = filled(np.asarray(inner_opening, np.float64)[:, None])[:, 0]
    if len(opening) < FEWEST_FRAMES or not np.isfinite(opening).all() or not np.any(waveform):
        return None
    loudness = loudness_a_frame(waveform, 0, len(opening))
    floor = loudness.max() * 10 ** (-NOISE_UNDER_LOUDEST_DB / 20)
    return best_correlation(opening, 20 * np.log10(np.maximum(loudness, floor)))


def syncnet_scores(seen: SeenVideo, network: SyncNet) -> SyncScores | None:
    """SyncNet's offset, distance (LSE-D) and confidence (LSE-C) of a video; None where it is too short, has no sound or no face.

    The crops are `tasks.corpus.syncnet`'s, from FaceMesh's landmarks in place of the authors' face detector.
    """
    if len(seen.points) < SHORTEST_FRAMES or not len(seen.waveform) or not seen.found.any():
        return None
    bounds = filled(np.concatenate([seen.points.min(axis=1), seen.points.max(axis=1)], axis=1))
    with torch.inference_mode():
        return sync_scores(embedded_faces(network, _crops(seen, squares_around(bounds))), embedded_sounds(network, seen.waveform))


def _crops(seen: SeenVideo, squares: DoubleArray) -> Iterator[Picture]:
    pictures = first_frames(seen.path, len(squares) / 25)
    for frame, (x, y, side) in zip(pictures, squares, strict=False):
        yield crop_square(frame.picture, x, y, side)


def filled(values: DoubleArray) -> DoubleArray:
    """Rows (T, n) with those that are NaN taken from the nearest on a straight line between their neighbours; all NaN where all are."""
    there = np.flatnonzero(np.isfinite(values).all(axis=1))
    if not len(there):
        return np.full_like(values, np.nan)
    return np.stack([np.interp(np.arange(len(values)), there, column[there]) for column in values.T], axis=1)
