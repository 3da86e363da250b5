"""Line charts as SVG, for curves over steps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 10, 30
"""Margins for the ticks' numbers, in the chart's own units; the left one grows with them."""
DIGIT_WIDTH = 7.7
"""Room for a digit of a tick's number, in the chart's own units: no font of 12 is wider."""
TICK_GAP = 6
"""Between a tick's number and its line."""
MOST_POINTS = 240
"""Points a curve; longer ones are averaged in pieces."""
LOGARITHMIC_FROM = 20.0
"""A curve that falls or rises by more than this factor is drawn on a logarithmic scale."""


@dataclass(frozen=True)
class Series:
    """A curve: its name, its look ("train" a thin line, "val" a strong line with dots), and its points in order of x."""

    name: str
    look: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Axis:
    """Maps values to places between two ends of the chart."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where a value is, in the chart's own units."""
        low, high, at = (math.log10(number) for number in (self.low, self.high, value)) if self.logarithmic else (self.low, self.high, value)
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values within the axis, a handful of them."""
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
            return _thinned([tick for tick in found if self.low <= tick <= self.high], 6)
        step = _round_step((self.high - self.low) / 5)  # of two numbers at least a reader can tell the scale
        first = math.ceil(self.low / step - 1e-9)
        return [tick * step for tick in range(first, math.floor(self.high / step + 1e-9) + 1)]


def line_chart(series: Sequence[Series], x_name: str = "step") -> Markup:
    """An SVG chart of the curves with a legend; points that are no numbers are left out. A sentence when there are none."""
    curves = [_averaged(_finite(one)) for one in series]
    curves = [one for one in curves if len(one.x)]
    if not curves:
        return Markup('<p class="absent">No numbers to draw.</p>')
    x_axis, y_axis = _axes(curves)
    parts = [_grid(x_axis, y_axis, x_name), *(_curve(one, x_axis, y_axis) for one in curves)]
    legend = Markup("").join(Markup('<span class="key {}">{}</span>').format(one.look, one.name) for one in curves)
    label = escape(" and ".join(one.name for one in curves))
    return Markup('<div class="chart"><svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg><div class="legend">{}{}</div></div>').format(
        WIDTH, HEIGHT, label, Markup("").join(parts), legend, " · logarithmic scale" if y_axis.logarithmic else ""
    )


def _finite(series: Series) -> Series:
    points = [(x, y) for x, y in zip(series.x, series.y, strict=True) if math.isfinite(x) and math.isfinite(y)]
    return Series(series.name, series.look, [x for x, _ in points], [y for _, y in points])


def _averaged(series: Series) -> Series:
    """At most MOST_POINTS points; the first one stays as it is."""
    if len(series.x) <= MOST_POINTS:
        return series
    x = [float(np.mean(piece)) for piece in np.array_split(np.asarray(series.x[1:]), MOST_POINTS - 1)]
    y = [float(np.mean(piece)) for piece in np.array_split(np.asarray(series.y[1:]), MOST_POINTS - 1)]
    return Series(series.name, series.look, [series.x[0], *x], [series.y[0], *y])


def _axes(curves: Sequence[Series]) -> tuple[Axis, Axis]:
    x = [value for one in curves for value in one.x]
    y = [value for one in curves for value in one.y]
    logarithmic = min(y) > 0 and max(y) / min(y) > LOGARITHMIC_FROM
    low, high = (min(y) / 1.15, max(y) * 1.15) if logarithmic else _linear_ends(min(y), max(y))
    y_axis = Axis(low, high, HEIGHT - BOTTOM, TOP, logarithmic)
    x_axis = Axis(min(x), max(x) if max(x) > min(x) else min(x) + 1, _left_margin(y_axis), WIDTH - RIGHT)
    return x_axis, y_axis


def _linear_ends(lowest: float, highest: float) -> tuple[float, float]:
    """The ends of a linear axis, with some room; one of values that are never below nought does not go below it either."""
    if lowest == highest == 0:
        return 0.0, 1.0
    room = 0.06 * (highest - lowest) or 0.1 * abs(highest)
    falls_far = 0 <= lowest < 0.5 * highest  # it is read against nought
    return 0.0 if falls_far or 0 <= lowest < room else lowest - room, highest + room


def _left_margin(y_axis: Axis) -> float:
    """Wide enough for the longest number beside the axis."""
    return max(LEFT, TICK_GAP + DIGIT_WIDTH * max((len(_tick(tick)) for tick in y_axis.ticks()), default=0))


def _grid(x_axis: Axis, y_axis: Axis, x_name: str) -> Markup:
    parts = [
        Markup('<line class="grid" x1="{:.1f}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>').format(x_axis.start, WIDTH - RIGHT, y=y_axis.place(tick))
        for tick in y_axis.ticks()
    ]
    parts += [
        Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="end">{}</text>').format(x_axis.start - TICK_GAP, y_axis.place(tick) + 4, _tick(tick))
        for tick in y_axis.ticks()
    ]
    parts += [
        Markup('<text x="{:.1f}" y="{}" text-anchor="{}">{}</text>').format(x, HEIGHT - 12, anchor, text) for x, anchor, text in _x_labels(x_axis, x_name)
    ]
    return Markup("").join(parts)


def _x_labels(x_axis: Axis, x_name: str) -> list[tuple[float, str, str]]:
    """Places, anchors and texts under the chart; the last one carries the axis' name."""
    ticks = [tick for tick in x_axis.ticks() if float(tick).is_integer()]
    labels = [(x_axis.place(tick), "middle", f"{int(tick):,}") for tick in ticks if x_axis.place(tick) < WIDTH - RIGHT - 60]
    return [*labels, (WIDTH - RIGHT, "end", f"{x_name} {int(x_axis.high):,}")]


def _curve(series: Series, x_axis: Axis, y_axis: Axis) -> Markup:
    places = [(x_axis.place(x), y_axis.place(y)) for x, y in zip(series.x, series.y, strict=True)]
    line = Markup('<polyline class="{}" points="{}"/>').format(series.look, " ".join(f"{x:.1f},{y:.1f}" for x, y in places))
    if series.look != "val" or len(places) > 40:
        return line
    dots = (Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(series.look, x, y) for x, y in places)
    return line + Markup("").join(dots)


def _round_step(raw: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= raw * (1 - 1e-9))


def _thinned(ticks: list[float], most: int) -> list[float]:
    return ticks[:: math.ceil(len(ticks) / most)] if ticks else ticks


def _tick(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:.0e}".replace("e-0", "e-") if abs(value) < 1e-4 else f"{value:,.6g}"
