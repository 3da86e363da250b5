"""Histograms as SVG, with thresholds marked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from tasks.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH, Axis

TOP = 26
"""Room above the bars for the thresholds' numbers."""
GAP = 0.8
"""Between bars, in the chart's own units."""
LOWEST_BAR = 1.5
"""Height of the bar of a single clip among thousands: it must be seen."""
SIGN_WIDTH = 7
"""About the width of a letter of a chart's text."""
LABEL_WIDTH = 40
"""Room that a threshold's number needs on its side."""


@dataclass(frozen=True)
class Bins:
    """How many values lie between each pair of neighbouring edges."""

    edges: npt.NDArray[np.float64]
    """(n + 1,) rising."""
    counts: npt.NDArray[np.int64]
    """(n,)"""


@dataclass(frozen=True)
class Threshold:
    """A value that tells what is taken from what is left out: from it on upwards is taken, or up to it."""

    value: float
    is_lowest: bool

    def takes(self, value: float) -> bool:
        """Whether something with that value is taken."""
        return value >= self.value if self.is_lowest else value <= self.value


def histogram(bins: Bins, unit: str, thresholds: Sequence[Threshold] = ()) -> Markup:
    """An SVG chart of the counts; bars of what the thresholds leave out have a look of their own."""
    x_axis = Axis(float(bins.edges[0]), float(bins.edges[-1]), LEFT, WIDTH - RIGHT)
    y_axis = Axis(0.0, float(max(bins.counts.max(), 1)), HEIGHT - BOTTOM, TOP)
    parts = [_grid(y_axis), *_bars(bins, x_axis, y_axis, thresholds), _ticks(x_axis, unit), *(_mark(one, x_axis) for one in thresholds)]
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="histogram of {} clips">{}</svg>').format(
        WIDTH, HEIGHT, int(bins.counts.sum()), Markup("").join(parts)
    )


def _grid(y_axis: Axis) -> Markup:
    ticks = [tick for tick in y_axis.ticks() if float(tick).is_integer()]
    lines = [
        Markup('<line class="grid" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/><text x="{}" y="{text_y:.1f}" text-anchor="end">{}</text>').format(
            LEFT, WIDTH - RIGHT, LEFT - 6, f"{int(tick):,}", y=y_axis.place(tick), text_y=y_axis.place(tick) + 4
        )
        for tick in ticks
    ]
    return Markup("").join([*lines, Markup('<text x="{}" y="12" text-anchor="end">clips</text>').format(LEFT - 6)])


def _bars(bins: Bins, x_axis: Axis, y_axis: Axis, thresholds: Sequence[Threshold]) -> list[Markup]:
    bars = []
    for start, end, count in zip(bins.edges[:-1], bins.edges[1:], bins.counts, strict=True):
        if not count:
            continue
        is_taken = all(threshold.takes(float(start + end) / 2) for threshold in thresholds)
        left, right = x_axis.place(float(start)), x_axis.place(float(end))
        height = max(y_axis.start - y_axis.place(float(count)), LOWEST_BAR)
        bars.append(
            Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
                "taken" if is_taken else "left", left + GAP / 2, y_axis.start - height, max(right - left - GAP, 0.5), height
            )
        )
    return bars


def _ticks(x_axis: Axis, unit: str) -> Markup:
    """Round values under the bars, the last one with the unit."""
    *ticks, last = x_axis.ticks()
    base = Markup('<line class="base" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(LEFT, WIDTH - RIGHT, y=HEIGHT - BOTTOM)
    with_unit = f"{_number(last)} {unit}".strip()
    overhang = x_axis.place(last) + SIGN_WIDTH * len(with_unit) / 2 - (WIDTH - RIGHT)
    end = Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(x_axis.place(last) - max(overhang, 0), HEIGHT - 12, with_unit)
    texts = (Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(x_axis.place(tick), HEIGHT - 12, _number(tick)) for tick in ticks)
    return Markup("").join([base, *texts, end])


def _number(value: float) -> str:
    return f"{value:,.4g}".replace("-", "−")


def _mark(threshold: Threshold, x_axis: Axis) -> Markup:
    """A line where the threshold is, with its number on the side of what is taken, unless there is no room."""
    x = x_axis.place(threshold.value)
    if not LEFT - 1 <= x <= WIDTH - RIGHT + 1:
        return Markup("")
    is_right = threshold.is_lowest if LEFT + LABEL_WIDTH < x < WIDTH - RIGHT - LABEL_WIDTH else x < WIDTH / 2
    return Markup(
        '<line class="threshold" x1="{x:.1f}" x2="{x:.1f}" y1="{}" y2="{}"/><text class="threshold" x="{:.1f}" y="12" text-anchor="{}">{}</text>'
    ).format(4, HEIGHT - BOTTOM, x + (4 if is_right else -4), "start" if is_right else "end", _number(threshold.value), x=x)
