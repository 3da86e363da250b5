"""Whether a mouth still says what the source said: under another's speech its opening must not follow the source's lips."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Series = npt.NDArray[np.floating]

LEAST_SPREAD = 1e-6
"""Standard deviation below which a series stands still and goes along with nothing."""
LARGEST_CORRELATION = 0.9999
"""Fisher's z of 1 has no end."""
NUMBERS_OF_FISHER = 3
"""The variance of Fisher's z over n numbers is 1 / (n - 3)."""


def correlation(one: Series, other: Series) -> float:
    """Pearson's r of two series (T,), -1..1; 0 where one of them stands still."""
    one, other = (np.asarray(series, np.float64) for series in (one, other))
    if len(one) == 0 or min(one.std(), other.std()) < LEAST_SPREAD:
        return 0.0
    one, other = one - one.mean(), other - other.mean()
    return float(np.clip(one @ other / np.sqrt((one @ one) * (other @ other)), -1, 1))


def leak(predicted: Series, source: Series, heard: Sequence[Series] = ()) -> float:
    """How far the predicted lip opening (T,) follows that of the source video under another's speech: r, -1..1; aim at |r| < 0.1.

    heard: what is known of the lips that belong to the speech, such as their opening in the speaker's own video; what these explain is
    taken out of both series before (partial correlation). That matters where clips share a rhythm: two real GRID clips, which all
    begin and end in silence, go along with r = 0.52 +- 0.16 although neither knows of the other; clips of free speech with 0.0 +- 0.2.
    NaN where a number is none.
    """
    if not all(np.isfinite(series).all() for series in (predicted, source, *heard)):
        return float("nan")
    return correlation(_unexplained(predicted, heard), _unexplained(source, heard))


def average_correlation(correlations: Sequence[float], lengths: Sequence[int]) -> float | None:
    """The average of correlations over series of so many numbers by Fisher's z, longer ones counting more; None where all are too short."""
    weights = np.maximum(np.asarray(lengths, np.float64) - NUMBERS_OF_FISHER, 0)
    if weights.sum() == 0:
        return None
    z = np.arctanh(np.clip(correlations, -LARGEST_CORRELATION, LARGEST_CORRELATION))
    return float(np.tanh(np.average(z, weights=weights)))


def _unexplained(series: Series, by: Sequence[Series]) -> npt.NDArray[np.float64]:
    """What a straight line over the others leaves of a series."""
    terms = np.stack([np.ones(len(series)), *by], axis=1).astype(np.float64)
    weights, *_ = np.linalg.lstsq(terms, series.astype(np.float64), rcond=None)
    left: npt.NDArray[np.float64] = series - terms @ weights
    return left
