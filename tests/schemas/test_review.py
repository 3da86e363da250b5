"""The format of review material: keys that are safe names, and settings that a reviewer may change."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, ValidationError

from schemas.errors import SettingsError
from schemas.jobs import DubJob
from schemas.review import PLAIN_KEY, REDO_SETTINGS, ReviewMetric, ReviewMoment, VerdictSubject, check_redo, item_key, leads_away
from schemas.settings import LOCATION, DubSettings


@given(st.lists(st.text(min_size=1, max_size=150), unique=True, max_size=20))
def test_every_job_has_a_key_of_its_own_that_is_a_safe_name(job_ids: list[str]) -> None:
    job_ids = [job_id for job_id in job_ids if job_id.isprintable()]
    keys = [item_key(job_id) for job_id in job_ids]
    assert len(set(keys)) == len(keys)
    assert all(PLAIN_KEY.fullmatch(key.removeprefix("~")) and not key.startswith(".") for key in keys)


def test_plain_job_ids_are_their_own_keys() -> None:
    assert item_key("monday-001.a_b") == "monday-001.a_b"
    assert {item_key(job_id)[0] for job_id in ("..", "a/b", "~x", "名", ".x", "x" * 101)} == {"~"}


def test_reviewers_change_how_a_dub_looks_and_name_no_place() -> None:
    assert not any(DubSettings.model_fields[name].json_schema_extra == LOCATION for name in REDO_SETTINGS)
    assert check_redo({"references": "10", "rest_in_silence": False, "fps": 25, "face": 1}, {}) == {
        "references": 10, "rest_in_silence": False, "fps": "25", "face": "1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"patch": "/p"}, "A reviewer cannot set patch"),
        ({"references": 0}, "references"),
        ({"face": "/pictures/anna.png"}, "A face is named by"),
        ({"gone_at_yaw_deg": 20}, "begins to fade"),
    ],
)
def test_settings_that_a_redo_cannot_have_are_refused(given: dict[str, object], fault: str) -> None:
    with pytest.raises(SettingsError, match=fault):
        check_redo(given, {})


WIDE = {"fade_from_yaw_deg": 55.0, "gone_at_yaw_deg": 80.0, "face": "/pictures/anna.png"}
LATE = {"fade_from_yaw_deg": 60.0, "gone_at_yaw_deg": 80.0}
CROSSED = {"fade_from_yaw_deg": 60.0, "gone_at_yaw_deg": 55.0}


@pytest.mark.parametrize(
    ("made_with", "given"),
    [(WIDE, {"fade_from_yaw_deg": 60.0}), (LATE, {"gone_at_yaw_deg": 60.0}), (CROSSED, {"references": 10}), ({}, {"gone_at_yaw_deg": 35.0})],
)
def test_an_angle_that_is_not_given_anew_is_the_dubs_own(made_with: dict[str, JsonValue], given: dict[str, object]) -> None:
    assert check_redo(given, made_with) == given


@pytest.mark.parametrize(
    ("made_with", "given"), [(LATE, {"gone_at_yaw_deg": 55.0}), (WIDE, {"fade_from_yaw_deg": 81.0}), (LATE, CROSSED), ({}, {"fade_from_yaw_deg": 60.0})]
)
def test_a_dub_is_not_gone_before_it_begins_to_fade(made_with: dict[str, JsonValue], given: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="begins to fade"):
        check_redo(given, made_with)


def test_a_metric_has_a_value_or_says_why_not() -> None:
    for wrong in ({"value": None}, {"value": 1.0, "reason": "no weights"}):
        with pytest.raises(ValidationError, match="either a value or the reason"):
            ReviewMetric.model_validate(wrong)
    with pytest.raises(ValidationError, match="ends after it starts"):
        ReviewMoment(start_s=2, end_s=2, reason="x", confidence=0.5)


@pytest.mark.parametrize(
    ("out", "name"),
    [("a.mp4", "a.mp4"), ("deep/a.mp4", "deep/a.mp4"), ("s3://bucket/a.mp4", "job-1.mp4"), ("/abs/a.mp4", "job-1.mp4"), ("../a.mp4", "job-1.mp4")],
)
def test_a_released_dub_is_called_as_in_its_list_or_after_its_job(out: str, name: str) -> None:
    subject = VerdictSubject(dub="/d.mp4", version="", job=DubJob(job_id="job-1", video="v", speech="s", out=out))
    assert subject.name == name
    assert not leads_away(subject.name)
