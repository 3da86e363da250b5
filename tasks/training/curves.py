"""The curves of a training run as one SVG file that needs nothing else: a small chart for each measure."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from tasks.evaluation.metric_meanings import NO_MEASURES

CHART_WIDTH, CHART_HEIGHT = 300, 170
CHARTS_A_ROW = 3
LEFT, RIGHT, TOP, BOTTOM = 8, 8, 40, 22
"""Margins around a chart's lines, for its name and numbers."""
MOST_POINTS = 300
"""Points a line: as many as the chart has pixels."""
COLOURS = {"train": "#9aa5b1", "val": "#2463a8"}
"""As on the pages of `dubmill report training`."""
WIDTHS = {"train": 1.3, "val": 2.4}
"""Of the lines."""

Points = list[tuple[float, float]]
Row = Mapping[str, float | str]


def curves_svg(rows: Sequence[Row]) -> str:
    """A chart for each measure, those of the validation split first; empty where there is nothing to draw.

    rows: those of metrics.jsonl, {"step", "split", "<name>": number ...}, in order of their steps.
    """
    names = _names(rows)
    if not names:
        return ""
    charts = [_chart(name, {split: _points(rows, split, name) for split in COLOURS}, index) for index, name in enumerate(names)]
    width, height = CHART_WIDTH * min(CHARTS_A_ROW, len(names)), CHART_HEIGHT * math.ceil(len(names) / CHARTS_A_ROW)
    style = f'font-family="sans-serif" font-size="11" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {style}><rect width="100%" height="100%" fill="#fff"/>{"".join(charts)}</svg>\n'


def _names(rows: Sequence[Row]) -> list[str]:
    in_order = sorted(rows, key=lambda row: row["split"] != "val")
    return [name for name in dict.fromkeys(name for row in in_order for name in row if name not in NO_MEASURES) if any(_points(rows, s, name) for s in COLOURS)]


def _points(rows: Sequence[Row], split: str, name: str) -> Points:
    found = [(float(row["step"]), float(row[name])) for row in rows if row["split"] == split and name in row]
    numbers = [point for point in found if math.isfinite(point[1])]
    if len(numbers) <= MOST_POINTS:
        return numbers
    return [numbers[index * (len(numbers) - 1) // (MOST_POINTS - 1)] for index in range(MOST_POINTS)]  # the last one, which is named, among them


def _chart(name: str, lines: Mapping[str, Points], index: int) -> str:
    points = [point for line in lines.values() for point in line]
    steps, values = [step for step, _ in points], [value for _, value in points]
    low, high = min(values), max(values)
    drawn = "".join(_line([_place(point, max(steps), low, high) for point in line], split) for split, line in lines.items() if line)
    last = (lines["val"] or lines["train"])[-1][1]
    texts = [
        f'<text x="{LEFT}" y="16" font-weight="bold">{escape(name)}</text>',
        f'<text x="{CHART_WIDTH - RIGHT}" y="16" text-anchor="end">{last:.4g} in the end</text>',
        f'<text x="{LEFT}" y="{TOP - 8}" fill="#667">{low:.4g} to {high:.4g}</text>',
        f'<text x="{CHART_WIDTH - RIGHT}" y="{CHART_HEIGHT - 6}" fill="#667" text-anchor="end">step {max(steps):.0f}</text>',
    ]
    row, column = divmod(index, CHARTS_A_ROW)
    return f'<g transform="translate({column * CHART_WIDTH},{row * CHART_HEIGHT})">{"".join(texts)}{drawn}</g>'


def _place(point: tuple[float, float], last_step: float, low: float, high: float) -> tuple[float, float]:
    """Where a step and its value are in a chart."""
    across = point[0] / last_step if last_step else 0.0
    up = (point[1] - low) / (high - low) if high > low else 0.5
    return LEFT + across * (CHART_WIDTH - LEFT - RIGHT), CHART_HEIGHT - BOTTOM - up * (CHART_HEIGHT - TOP - BOTTOM)


def _line(places: Points, split: str) -> str:
    colour = COLOURS[split]
    if len(places) == 1:
        [(x, y)] = places
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
    return f'<polyline fill="none" stroke="{colour}" stroke-width="{WIDTHS[split]}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>'
