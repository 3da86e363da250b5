"""Curves as SVG."""

import re

import pytest

from tasks.report.charts import HEIGHT, MOST_POINTS, WIDTH, Series, line_chart
from tasks.report.page import short_number


def places_of(chart: str) -> list[tuple[float, float]]:
    points = re.search(r'points="([^"]+)"', chart).group(1)
    return [tuple(map(float, point.split(","))) for point in points.split()]


def test_curve_lies_in_the_chart_and_falls() -> None:
    places = places_of(line_chart([Series("loss", "train", range(11), [10.0 - step for step in range(11)])]))
    assert len(places) == 11
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)
    assert [y for _, y in places] == sorted(y for _, y in places), "down the page"


def test_great_range_is_logarithmic() -> None:
    chart = line_chart([Series("loss", "train", [0, 1, 2], [1.0, 0.1, 0.01])])
    (_, first), (_, second), (_, third) = places_of(chart)
    assert "logarithmic" in chart
    assert second - first == pytest.approx(third - second, abs=0.2)


def test_long_curves_are_averaged() -> None:
    assert len(places_of(line_chart([Series("loss", "train", range(50_000), [1.0] * 50_000)]))) == MOST_POINTS


@pytest.mark.parametrize("values", [[0.5], [0.0, 0.0], [-3.0, -3.0], [1e-12, 2e-12], [float("inf"), 1.0]])
def test_odd_values_are_drawn(values: list[float]) -> None:
    assert "nan" not in line_chart([Series("loss", "val", range(len(values)), values)])


def tick_labels(chart: str) -> list[tuple[float, str]]:
    """Where the numbers beside the chart end, and what they say."""
    return [(float(x), said) for x, said in re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="end">([^s<]*)</text>', chart)]


def test_a_curve_of_noughts_is_read_against_nought() -> None:
    labels = [said for _, said in tick_labels(line_chart([Series("closures", "val", [0, 1], [0.0, 0.0])]))]
    assert labels[0] == "0"
    assert labels[-1] == "1"


@pytest.mark.parametrize("values", [[0.5, 0.52], [0.0, 0.1], [-0.2, 0.1]])
def test_the_axis_goes_below_nought_only_where_the_curve_does(values: list[float]) -> None:
    labels = [float(said) for _, said in tick_labels(line_chart([Series("loss", "val", [0, 1], values)]))]
    assert (min(labels) < 0) == (min(values) < 0)


@pytest.mark.parametrize("values", [[0.000103, 0.000108], [1_000.01, 1_000.09], [-0.000103, -0.000108], [1e-9, 3e-9]])
def test_no_number_beside_the_chart_is_cut_off(values: list[float]) -> None:
    labels = tick_labels(line_chart([Series("rate", "train", [0, 1], values)]))
    assert len(labels) > 1
    assert all(end - 7.5 * len(said) >= 0 for end, said in labels), labels


def test_without_numbers_it_says_so() -> None:
    assert "No numbers" in line_chart([Series("loss", "train", [1], [float("nan")])])


def test_names_are_escaped() -> None:
    assert "<b>" not in line_chart([Series("<b>", "train", [1, 2], [1, 2])])


def test_words_for_numbers() -> None:
    assert [short_number(value) for value in (610000, 0.0058663, 1234.56, 3.0)] == ["610,000", "0.005866", "1,234.6", "3"]
