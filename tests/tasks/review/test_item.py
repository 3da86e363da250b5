"""Moments and stretches as the review room tells of them."""

import json

from tasks.review.item import moments, passages

SECONDS = [{"second": 4, "confidence": 0.5, "why": "b"}, {"second": 1, "confidence": 0.3, "why": "a"}, {"second": 2, "confidence": 0.2, "why": "a"}]


def test_neighbouring_seconds_of_one_reason_are_one_stretch_as_sure_as_the_least_of_them() -> None:
    told = [(one.start_s, one.end_s, one.reason, one.confidence) for one in moments({"worst": json.dumps(SECONDS)}, 4.5)]
    assert told == [(1, 3, "a", 0.2), (4, 4.5, "b", 0.5)]


def test_a_second_beyond_the_end_is_left_out_and_rows_of_an_older_dubmill_have_none() -> None:
    assert [one.end_s for one in moments({"worst": json.dumps(SECONDS)}, 4.0)] == [3]
    assert list(moments({"worst": None}, 4.0)) == passages({"source_shown": None}) == []


def test_stretches_that_show_the_source_keep_their_reason() -> None:
    row = {"source_shown": json.dumps([{"start_s": 0.5, "end_s": 1.25, "reason": "covered"}])}
    assert [(one.start_s, one.end_s, one.reason) for one in passages(row)] == [(0.5, 1.25, "covered")]
