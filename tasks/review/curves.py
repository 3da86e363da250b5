"""What the review room draws under a dub: how loud it is, and how far the mouths are open."""

import numpy as np
import numpy.typing as npt

from schemas.review import PEAKS_PER_S
from tasks.audio import SAMPLE_RATE, Waveform
from tasks.evaluation import lips
from tasks.evaluation.seen_video import SeenVideo

SAMPLES_A_PEAK = SAMPLE_RATE // PEAKS_PER_S
DIGITS = 4
"""A curve is a few dozen pixels high."""


def peaks(waveform: Waveform) -> tuple[float, ...]:
    """The loudest sample of each 1/PEAKS_PER_S s of a sound (n,) at 16 kHz, 0..1; the last piece may be shorter."""
    whole = np.pad(np.abs(waveform), (0, -len(waveform) % SAMPLES_A_PEAK)).reshape(-1, SAMPLES_A_PEAK)
    return _rounded(np.minimum(whole.max(axis=1), 1.0)) if len(whole) else ()


def openings(seen: SeenVideo) -> tuple[float | None, ...]:
    """How far the lips are apart in each 1/OPENINGS_PER_S s, in shares of the height of the face's points; None without a face."""
    heights = np.ptp(seen.points[:, :, 1], axis=1)
    apart = lips.inner_opening(seen.content) / np.where(heights > 0, heights, np.nan)
    return tuple(round(float(value), DIGITS) if np.isfinite(value) else None for value in apart)


def _rounded(values: npt.NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(round(float(value), DIGITS) for value in values)
