"""What a result row says of a dub, as figures."""

import json

import pytest

from tasks.review.figures import row_figures

PASSED = [{"start_s": 2.0, "end_s": 10.0, "reason": "not-spoken"}, {"start_s": 0.0, "end_s": 0.5, "reason": "covered"}]


def test_the_source_is_no_fault_where_nobody_is_to_speak() -> None:
    row = {"confidence": [0.5, 1.0], "source_shown_s": 8.5, "duration_s": 10.0, "source_shown": json.dumps(PASSED)}
    assert row_figures(row) == {"confidence": 0.75, "least_confidence": 0.5, "source_shown_share": pytest.approx(0.25)}
    assert row_figures(row | {"source_shown": None})["source_shown_share"] == pytest.approx(0.85)  # an older dubmill's


def test_what_is_not_said_is_no_figure() -> None:
    assert row_figures({"confidence": None, "source_shown_s": None, "duration_s": None, "source_shown": None}) == {}
