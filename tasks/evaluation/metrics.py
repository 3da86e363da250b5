"""The metrics of `dubmill evaluate`: what each one is, and how the rows of many clips become one figure. NumPy alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from schemas.settings import EvaluateSettings, MetricName
from tasks.evaluation.closures import Closures
from tasks.evaluation.leak import average_correlation
from tasks.evaluation.metric_meanings import HIGHER, LOWER, NOUGHT, ONE

FloatArray = npt.NDArray[np.float64]
Columns = Mapping[str, FloatArray]
"""Columns of `schemas.tables.EVALUATED_CLIPS` of one side, a number a clip; NaN where it is null."""
Pool = Callable[[Columns], float | None]

AS_REAL = "as near to the real video's figure as can be"
"""The way in which a figure gets better that is no goal by itself."""


@dataclass(frozen=True)
class Metric:
    """One metric. exact: what the real video against itself has by definition; None where it is measured of the real one too."""

    definition: str
    better: str
    pool: Pool | None
    """None: of FID, which is no figure of clips."""
    exact: float | None = None
    needs: str = "same"
    """Which speech the generated video must have for it: same, other or any."""
    weights: str | None = None
    """The setting that names the weights which it is measured with."""
    package: str | None = None
    """Whose version counts besides dubmill's own."""
    nothing: str = "In no pair that was compared is a face found in both videos, or the two never say the same."
    """Why it is absent where it could be measured and no clip has a figure."""


def mean_of(column: str) -> Pool:
    """The mean over the clips that have a figure."""

    def pool(columns: Columns) -> float | None:
        values = columns[column][np.isfinite(columns[column])]
        return float(values.mean()) if len(values) else None

    return pool


def root_of_ratio(over: str, under: str, over_frames: str | None = None, under_frames: str | None = None) -> Pool:
    """Root of the ratio of two sums over clips, each first divided by its frames where these are named: ratios of spreads."""

    def pool(columns: Columns) -> float | None:
        sums = [np.nansum(columns[name]) for name in (over, under)]
        frames = [np.nansum(columns[name]) if name else 1.0 for name in (over_frames, under_frames)]
        if not (sums[1] > 0 and min(frames) > 0):
            return None
        return float(np.sqrt(sums[0] / frames[0] / (sums[1] / frames[1])))

    return pool


def ratio_of(over: str, under: str) -> Pool:
    """The ratio of two sums over the clips that have both."""

    def pool(columns: Columns) -> float | None:
        there = np.isfinite(columns[over]) & np.isfinite(columns[under])
        total = columns[under][there].sum()
        return float(columns[over][there].sum() / total) if total > 0 else None

    return pool


def _closures(columns: Columns) -> Closures:
    names = ("closed_frames", "right_closed_frames", "real_closures", "met_closures")
    return Closures(*(int(np.nansum(columns[name])) for name in names))


def _closure_precision(columns: Columns) -> float | None:
    closures = _closures(columns)
    return closures.precision if closures.real_moments else None


def _closure_recall(columns: Columns) -> float | None:
    return _closures(columns).recall


def _leak(columns: Columns) -> float | None:
    there = np.isfinite(columns["leak"])
    return average_correlation(columns["leak"][there].tolist(), columns["leak_frames"][there].astype(int).tolist()) if there.any() else None


def _mean_size(columns: Columns) -> float | None:
    values = np.abs(columns["sync_offset"][np.isfinite(columns["sync_offset"])])
    return float(values.mean()) if len(values) else None


_FACE = "of the face, cut from both videos at the real face's box and brought to the crop's size"
_BOX = "in shares of the real face's box (x by its width, y by its height), mean over frames; a face that is not found counts as 0.25"

METRICS: dict[MetricName, Metric] = {
    "psnr": Metric(f"peak signal-to-noise ratio in dB {_FACE}, mean over pictures, then clips; equal pictures have 100", HIGHER, mean_of("psnr"), 100.0),
    "ssim": Metric(f"structural similarity {_FACE}: Wang et al. 2004, Gaussian window, mean over colours, pictures, then clips", HIGHER, mean_of("ssim"), 1.0),
    "lpips": Metric(f"LPIPS 0.1 with AlexNet {_FACE}, mean over pictures, then clips", LOWER, mean_of("lpips"), 0.0, weights="lpips_weights", package="lpips"),
    "fid": Metric(
        f"Fréchet distance of pytorch-fid's Inception features (2048) {_FACE}, in RGB, pooled over all pictures of all clips; under 10 000 pictures "
        "it ranks what was measured on the very same pictures, and compares with nothing else",
        LOWER,
        None,
        0.0,
        weights="fid_weights",
        package="pytorch-fid",
    ),
    "lmd": Metric(f"distance of FaceMesh's 131 points as found in both videos, {_BOX}", LOWER, mean_of("lmd"), 0.0, package="mediapipe"),
    "lip_lmd": Metric(f"the same of the 40 points of the lips, {_BOX}", LOWER, mean_of("lip_lmd"), 0.0, package="mediapipe"),
    "csim": Metric(
        "cosine of the face embeddings of both faces, aligned by the real face's eyes, nose and mouth, mean over pictures, then clips",
        HIGHER,
        mean_of("csim"),
        1.0,
        weights="identity_weights",
        package="opencv-python",
    ),
    "articulation": Metric(
        "spread of the lip opening within clips, over that of the real lips: under 1 the mouth mumbles, over 1 it overdoes it",
        ONE,
        root_of_ratio("opening_squares", "real_opening_squares"),
        1.0,
        nothing="The real mouths do not move in the pairs that say the same.",
    ),
    "closure_precision": Metric(
        "share of the frames with closed lips in which the real lips are closed within two frames, over all clips",
        HIGHER,
        _closure_precision,
        1.0,
        nothing="The real lips never close in the pairs that say the same.",
    ),
    "closure_recall": Metric(
        "share of the moments at which the real lips close that are met within two frames, over all clips",
        HIGHER,
        _closure_recall,
        1.0,
        nothing="The real lips never close in the pairs that say the same.",
    ),
    "leak": Metric(
        "correlation of the lip opening with that of the dubbed video's own lips under another's speech, what the speech's own speaker does taken out "
        "where that is known; beside it, of the real: that of the speech's own speaker, who knows nothing of them; aim below 0.1 either way",
        NOUGHT,
        _leak,
        needs="other",
        nothing="Every pair says the same: what the source's mouth leaks shows only under another's speech.",
    ),
    "silence_motion": Metric(
        "spread of the lip opening where nobody speaks, over that of the real lips where somebody does",
        AS_REAL,
        root_of_ratio("silence_squares", "real_speech_squares", "silence_frames", "real_speech_frames"),
        needs="any",
        nothing="In no pair there is a third of a second of silence and of speech.",
    ),
    "silence_opening": Metric(
        "how far the inner lips are apart where nobody speaks, in widths of the mouth, mean over frames, then clips",
        AS_REAL,
        mean_of("silence_opening"),
        needs="any",
        nothing="In no pair there is a third of a second of silence and of speech.",
    ),
    "jitter": Metric(
        "mean length of the second difference from frame to frame of the places of mouth and jaw on the head, in mm of a face of usual size",
        AS_REAL,
        mean_of("jitter"),
        needs="any",
    ),
    "mouth_sharpness": Metric(
        "variance of the Laplacian inside the open mouth, over that of the real one at the same place: under 1 it is blurred, over 1 it is noise",
        ONE,
        ratio_of("mouth_detail", "real_mouth_detail"),
        1.0,
        nothing="In the real pictures no mouth is open wide enough to show anything inside.",
    ),
    "seam": Metric(
        "change of grey across the border of the blend, which landmarks tell, over the mean change within the face, mean over pictures, then clips",
        AS_REAL,
        mean_of("seam"),
        needs="any",
    ),
    "sync_confidence": Metric(
        "LSE-C: SyncNet's median over shifts of the mean distance of lips and sound, less the least of them, mean over clips",
        HIGHER,
        mean_of("sync_confidence"),
        needs="any",
        weights="sync_weights",
        nothing="No video has sound and is long enough for SyncNet.",
    ),
    "sync_distance": Metric(
        "LSE-D: SyncNet's mean distance of lips and sound at the nearest shift, mean over clips; scorers of this kind put generated video above real one",
        LOWER,
        mean_of("sync_distance"),
        needs="any",
        weights="sync_weights",
        nothing="No video has sound and is long enough for SyncNet.",
    ),
    "sync_offset": Metric(
        "how many frames the sound lies before or after the picture by SyncNet, mean of the clips' absolute values",
        NOUGHT,
        _mean_size,
        needs="any",
        weights="sync_weights",
        nothing="No video has sound and is long enough for SyncNet.",
    ),
    "lip_speech_correlation": Metric(
        "best correlation of lip opening and loudness over shifts of three frames; needs no weights, and tells of many clips rather than of one",
        AS_REAL,
        mean_of("lip_speech_correlation"),
        needs="any",
        nothing="No video has a second of sound and a face.",
    ),
}
"""By name, in the order in which they are told."""

EXACT = {name: METRICS[name].exact for name in ("psnr", "ssim", "lpips", "lmd", "lip_lmd", "csim")}
"""What the row of a real video says where it would be compared with itself."""


def wanted_metrics(settings: EvaluateSettings) -> frozenset[MetricName]:
    """The metrics that settings name; all where they name none."""
    return frozenset(settings.metrics or get_args(MetricName))
