"""What was measured of the clips, as histograms with a snapshot's thresholds in them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from markupsafe import Markup

from schemas.settings import SnapshotSettings
from tasks.report.histograms import Bins, Threshold, histogram

FloatArray = npt.NDArray[np.float64]
COLUMNS = (
    "frames",
    "duration_s",
    "face_px",
    "sharpness",
    "brightness",
    "yaw_extent_deg",
    "pitch_low_deg",
    "pitch_high_deg",
    "detected_share",
    "lip_activity",
    "loudness_db",
    "silence_share",
    "av_offset_frames",
    "av_confidence",
)
"""The columns of `clips` that the histograms are made of."""
FPS = 25
NO_BREAK = "\N{NO-BREAK SPACE}"
OUTLIERS = 0.002
"""Share of the clips at an open end of a scale that is drawn in its last bar: a single outlier would flatten all others."""
BINS = 40
OFFSET_LIMIT_FRAMES = 15


@dataclass(frozen=True)
class MeasureFigure:
    """A histogram of one measure over the clips."""

    name: str
    explanation: str
    chart: Markup
    median: str
    unmeasured: int


@dataclass(frozen=True)
class _Measure:
    """How a measure is shown. Ends that are None follow the clips."""

    name: str
    unit: str
    explanation: str
    low: float | None = None
    high: float | None = None
    bins: int = BINS


MEASURES = {
    "duration_s": _Measure("clip length", "s", "how long a clip lasts", low=0),
    "face_px": _Measure("face size", "px", "shorter side of the face box in the source, median over the clip", low=0),
    "sharpness": _Measure("sharpness", "", "variance of the Laplacian of the grey face: the higher, the crisper", low=0),
    "brightness": _Measure("brightness", "", "mean grey level of the faces: 0 is black, 255 white", 0, 255),
    "yaw_extent_deg": _Measure("head turned aside", "°", "how far the head turns left or right: 95 % of the frames are below", low=0),
    "pitch_deg": _Measure("head tilted", "°", "the furthest that the head looks up (+) or down (−), the outermost 5 % of the frames left out"),
    "detected_share": _Measure("face found", "%", "share of the frames in which the face was found; in the others it is interpolated", high=100),
    "lip_activity": _Measure("lip activity", "% of the box", "how much the opening of the lips varies", low=0),
    "loudness_db": _Measure("loudness", "dB", "mean level of the sound, in dB under the loudest that a file can hold"),
    "silence_share": _Measure("silence", "%", "share of the sound that is more than 40 dB under full scale", 0, 100),
    "av_offset_frames": _Measure(
        "sound against picture",
        "frames",
        "by how many frames the sound comes after the lips, of the clips in which that was measured with confidence",
        -OFFSET_LIMIT_FRAMES - 0.5,
        OFFSET_LIMIT_FRAMES + 0.5,
        2 * OFFSET_LIMIT_FRAMES + 1,
    ),
}
"""The histograms, in the order of the page."""


def measure_figures(clips: pa.Table, settings: SnapshotSettings) -> list[MeasureFigure]:
    """A histogram of each measure over rows of `clips` (COLUMNS), with the thresholds of the settings. None without clips."""
    if not len(clips):
        return []
    return [_figure(measure, _values(clips, name, settings), _thresholds(name, settings), len(clips)) for name, measure in MEASURES.items()]


def column(clips: pa.Table, name: str) -> FloatArray:
    """(n,) a column of numbers; NaN where it was not measured."""
    return np.asarray(clips[name].cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def with_unit(value: float, unit: str) -> str:
    """A measure as a person writes it: "3.25 s", "−2.9 frames", "12.9°"; nothing breaks the line between number and unit."""
    number = f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{number}{'' if unit in ('', '°') else NO_BREAK}{unit}".replace("-", "−")


def _figure(measure: _Measure, values: FloatArray, thresholds: list[Threshold], clips: int) -> MeasureFigure:
    finite = values[np.isfinite(values)]
    chart = histogram(_bins(measure, finite, thresholds), measure.unit, thresholds) if len(finite) else Markup('<p class="absent">Not measured.</p>')
    median = with_unit(float(np.median(finite)), measure.unit) if len(finite) else ""
    return MeasureFigure(measure.name, measure.explanation, chart, median, clips - len(finite))


def _values(clips: pa.Table, name: str, settings: SnapshotSettings) -> FloatArray:
    """(n,) what a histogram counts, in the unit that it shows."""
    if name == "pitch_deg":
        low, high = column(clips, "pitch_low_deg"), column(clips, "pitch_high_deg")
        return np.where(np.abs(low) > np.abs(high), low, high)
    if name == "av_offset_frames":
        is_confident = column(clips, "av_confidence") >= settings.min_offset_confidence
        return np.where(is_confident, column(clips, name), np.nan)
    return column(clips, name) * (100 if "%" in MEASURES[name].unit else 1)


def _thresholds(name: str, settings: SnapshotSettings) -> list[Threshold]:
    return {
        "duration_s": [Threshold(settings.min_frames / FPS, is_lowest=True), Threshold(settings.max_duration_s, is_lowest=False)],
        "face_px": [Threshold(settings.min_face_px, is_lowest=True)],
        "yaw_extent_deg": [Threshold(settings.max_yaw_deg, is_lowest=False)],
        "detected_share": [Threshold(100 * settings.min_detected_share, is_lowest=True)],
        "av_offset_frames": [Threshold(-settings.max_offset_frames, is_lowest=True), Threshold(settings.max_offset_frames, is_lowest=False)],
    }.get(name, [])


def _bins(measure: _Measure, values: FloatArray, thresholds: list[Threshold]) -> Bins:
    """Counts over the scale, which shows all thresholds; what lies beyond its ends is in the first and last bar."""
    marks = [threshold.value for threshold in thresholds]
    seen_low, seen_high = (float(end) for end in np.quantile(values, (OUTLIERS, 1 - OUTLIERS)))
    low = min([seen_low, *marks]) if measure.low is None else measure.low
    high = max([seen_high, *marks]) if measure.high is None else measure.high
    if high - low < 1e-6:
        low, high = low - 1, high + 1
    elif measure.bins == BINS:
        room = 0.03 * (high - low)
        low, high = low if measure.low is not None else low - room, high if measure.high is not None else high + room
    edges = np.linspace(low, high, measure.bins + 1)
    counts, _ = np.histogram(np.clip(values, low, high), edges)
    return Bins(edges, counts)
