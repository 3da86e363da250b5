"""Rows of clips to figures: each metric over all clips with its interval, and by condition and speaker."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.jobs import Estimate, GroupFigure
from schemas.settings import MetricName
from schemas.tables import EVALUATED_CLIPS
from tasks.evaluation.metrics import METRICS, Columns, Metric

FloatArray = npt.NDArray[np.float64]
Row = Mapping[str, Any]

INTERVAL_PERCENT = (2.5, 97.5)
"""Ends of the interval of 95 %."""
YAW_BOUNDS_DEG = (15.0, 30.0)
FACE_BOUNDS_PX = (100.0, 200.0)
"""Of the face box's shorter side: the networks make 128 pixels."""
COVERED_FROM = 0.05
"""Share of frames from which on a clip counts as covered."""
MEASURED_CONDITIONS: dict[str, tuple[str, tuple[float, ...], str]] = {
    "yaw": ("yaw_deg", YAW_BOUNDS_DEG, "degrees"),
    "face size": ("face_px", FACE_BOUNDS_PX, "pixels"),
    "occlusion": ("covered_share", (COVERED_FROM,), ""),
}
"""Column, bounds of the groups and unit."""
_NUMBERS = [column.name for column in EVALUATED_CLIPS if pa.types.is_floating(column.type) or pa.types.is_integer(column.type)]


def columns_of(rows: Sequence[Row]) -> dict[str, FloatArray]:
    """The numbers of rows by column, NaN where a row has none."""
    return {name: np.array([np.nan if row.get(name) is None else row[name] for row in rows], np.float64) for name in _NUMBERS}


def rows_for(metric: Metric, rows: Iterable[Row], side: str) -> list[Row]:
    """The compared rows of one side that a metric is of."""
    return [row for row in rows if row["side"] == side and row["status"] == "compared" and metric.needs in ("any", row["speech"])]


def estimate(name: MetricName, rows: Sequence[Row], side: str, resamples: int, seed: int) -> Estimate | None:
    """A metric over the clips of one side, with its interval by bootstrap; None where nothing was measured.

    Of the real video against itself: what is known by definition, where the generated one was measured. Clips are drawn with the same
    random numbers for every metric and side.
    """
    metric = METRICS[name]
    if metric.pool is None:
        return None
    columns = columns_of(rows_for(metric, rows, "generated" if metric.exact is not None else side))
    value = metric.pool(columns)
    if value is None:
        return None
    clips = _clips_that_tell(metric, columns)
    if side == "real" and metric.exact is not None:
        return Estimate(value=metric.exact, clips=clips, exact=True)
    low, high = _interval(metric, columns, resamples, seed) if clips > 1 else (None, None)
    return Estimate(value=value, low=low, high=high, clips=clips)


def _clips_that_tell(metric: Metric, columns: Columns) -> int:
    """How many clips have a figure of their own."""
    pool = metric.pool
    if pool is None:
        return 0
    return sum(pool(_taken(columns, np.array([clip]))) is not None for clip in range(len(next(iter(columns.values())))))


def _interval(metric: Metric, columns: Columns, resamples: int, seed: int) -> tuple[float | None, float | None]:
    clips = len(next(iter(columns.values())))
    if metric.pool is None:
        return None, None
    random = np.random.default_rng(seed)
    drawn = (metric.pool(_taken(columns, random.integers(0, clips, clips))) for _ in range(resamples))
    values = [value for value in drawn if value is not None]
    if not values:
        return None, None
    low, high = np.percentile(values, INTERVAL_PERCENT)
    return float(low), float(high)


def _taken(columns: Columns, clips: npt.NDArray[np.int64]) -> Columns:
    return {name: values[clips] for name, values in columns.items()}


def group_figures(rows: Sequence[Row], wanted: Iterable[MetricName]) -> list[GroupFigure]:
    """Metrics by condition and by speaker; a condition that is the same for all clips, or not known, is left out. FID is of no group."""
    names = [name for name in wanted if METRICS[name].pool is not None]
    found = []
    for condition in ("yaw", "face size", "occlusion", "language", "speaker"):
        groups: dict[str, list[Row]] = {}
        for row in rows:
            if row["status"] == "compared" and (group := group_of(row, condition)) is not None:
                groups.setdefault(group, []).append(row)
        if len(groups) > 1:
            found += [_group(condition, group, groups[group], names) for group in sorted(groups, key=lambda group: _place(condition, group, groups[group]))]
    return found


def _place(condition: str, group: str, rows: list[Row]) -> tuple[float, str]:
    """Where a group comes among the others: small figures first, names in their order."""
    column = MEASURED_CONDITIONS.get(condition)
    return (float(np.mean([row[column[0]] for row in rows])) if column else 0.0, group)


def _group(condition: str, group: str, rows: list[Row], names: Sequence[MetricName]) -> GroupFigure:
    figures = {side: {name: value for name in names if (value := _pooled(name, rows, side)) is not None} for side in ("generated", "real")}
    return GroupFigure(condition=condition, group=group, clips=len({row["name"] for row in rows}), **figures)


def _pooled(name: MetricName, rows: list[Row], side: str) -> float | None:
    metric = METRICS[name]
    if metric.pool is None or (metric.exact is not None and side == "real"):
        return None
    return metric.pool(columns_of(rows_for(metric, rows, side)))


def group_of(row: Row, condition: str) -> str | None:
    """The group of a clip; None where its column is empty."""
    if condition in ("language", "speaker"):
        return row.get(condition) or None
    column, bounds, unit = MEASURED_CONDITIONS[condition]
    value = row.get(column)
    if value is None:
        return None
    if condition == "occlusion":
        return "mouth covered at times" if value >= COVERED_FROM else "mouth free"
    over, under = max((bound for bound in bounds if value >= bound), default=None), min((bound for bound in bounds if value < bound), default=None)
    if over is None:
        return f"under {under:g} {unit}"
    return f"{over:g} {unit} and more" if under is None else f"{over:g} to {under:g} {unit}"
