from dataclasses import dataclass, replace

import numpy as np
import pytest

from schemas.face_points import LOWER_LIP, UPPER_LIP
from tasks.dubbing.confidence import SOURCE_SHOWN, SOURCE_TRUST, Evidence, evidence, per_second, worst_moments

FPS = 25.0


@dataclass(frozen=True)
class Known:
    """What a template knows of three seconds of a face that is seen well, and whose lips open by 0.02 to 0.12."""

    tracks: np.ndarray
    shots: np.ndarray
    yaw_deg: np.ndarray
    face_px: np.ndarray
    visibility: np.ndarray
    detected: np.ndarray
    boxes: np.ndarray
    content: np.ndarray


def known(frames: int = 75, **changes: np.ndarray) -> Known:
    whole, ones = np.zeros(frames, np.int32), np.ones(frames, np.float32)
    content = np.full((frames, 2, 57), 0.5, np.float32)
    content[:, 1, LOWER_LIP] = content[:, 1, UPPER_LIP] + 0.07 + 0.05 * np.sin(np.arange(frames))
    boxes = np.tile([100.0, 100.0, 300.0, 340.0], (frames, 1)) + 3 * np.sin(np.arange(frames) / 15)[:, None]
    return replace(Known(whole, whole, 0 * ones, 200 * ones, ones, ones.astype(bool), boxes, content), **changes)


def with_values(usual: float, where: slice, value: float, frames: int = 75) -> np.ndarray:
    values = np.full(frames, usual, np.float32)
    values[where] = value
    return values


def judged(template: Known, share: float | np.ndarray = 1.0, opening: float | np.ndarray = 0.07) -> Evidence:
    frames = len(template.tracks)
    return evidence(template, np.arange(frames), np.broadcast_to(share, frames).astype(np.float32), np.broadcast_to(opening, frames).astype(np.float32), FPS)


def test_a_face_seen_well_is_sure_and_nothing_is_listed() -> None:
    assert per_second(judged(known()), FPS) == (1.0, 1.0, 1.0)
    assert worst_moments(judged(known()), FPS) == ()


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (known(yaw_deg=with_values(0, slice(30, 45), -45)), "the head is turned away"),
        (known(face_px=with_values(200, slice(30, 45), 45)), "the face is small"),
        (known(visibility=with_values(1, slice(30, 45), 0.2)), "something is before the mouth"),
        (known(detected=with_values(1, slice(30, 45), 0).astype(bool)), "the face was not found and its place is guessed"),
        (known(boxes=known().boxes + np.where(np.arange(75) % 2 * (np.arange(75) // 25 == 1), 8, 0)[:, None]), "the face moves abruptly"),
    ],
)
def test_the_second_in_which_something_is_wrong_is_listed_with_what_it_is(template: Known, why: str) -> None:
    result = judged(template)
    confidence = per_second(result, FPS)
    assert confidence[1] < 0.75
    assert min(confidence[0], confidence[2]) > 0.9
    assert [(moment.second, moment.why) for moment in worst_moments(result, FPS)] == [(1, why)]


def test_a_mouth_as_this_person_never_makes_it_is_doubted() -> None:
    wide = judged(known(), opening=with_values(0.07, slice(50, 75), 0.25))
    assert per_second(wide, FPS)[2] < 0.5
    assert worst_moments(wide, FPS)[0].why == "the new mouth does what this person's never does"
    assert per_second(judged(known(), opening=0.125), FPS)[0] == 1.0  # a little beyond is speech


def test_of_a_still_picture_nothing_is_known_of_what_its_mouth_does() -> None:
    still = known(content=np.repeat(known().content[:1], 75, axis=0))
    assert per_second(judged(still, opening=0.25), FPS) == (1.0, 1.0, 1.0)


def test_where_the_source_is_shown_nothing_generated_can_look_wrong() -> None:
    turned = known(yaw_deg=np.full(75, 80, np.float32), tracks=np.zeros(75, np.int32))
    result = judged(turned, share=0.0)
    assert per_second(result, FPS) == (SOURCE_TRUST,) * 3
    assert {moment.why for moment in worst_moments(result, FPS)} == {SOURCE_SHOWN}


def test_a_frame_without_a_face_is_no_number_and_harms_nobody() -> None:
    nothing = known(yaw_deg=with_values(0, slice(30, 45), np.nan), content=np.where((np.arange(75) // 15 == 2)[:, None, None], np.nan, known().content))
    result = judged(nothing, share=with_values(1, slice(30, 45), 0), opening=with_values(0.07, slice(30, 45), np.nan))
    assert per_second(result, FPS) == (1.0, SOURCE_TRUST, 1.0)


def test_a_cut_is_no_jump_of_the_face() -> None:
    boxes, second_half = known().boxes.copy(), np.arange(75) >= 40
    boxes[second_half] += 200
    assert per_second(judged(known(boxes=boxes, shots=second_half.astype(np.int32))), FPS) == (1.0, 1.0, 1.0)
    assert per_second(judged(known(boxes=boxes)), FPS)[1] < 1.0


@pytest.mark.parametrize("fps", [50.0, 60.0])
def test_boxes_on_whole_pixels_do_not_jump_at_high_rates(fps: float) -> None:
    """A face of 170 pixels that sways slowly, as slowly at every rate: its box moves a pixel now and then."""
    frames = int(3 * fps)
    sway = np.round([0, 0, 170, 200] + 6 * np.sin(np.arange(frames) / fps * 3)[:, None] * [1, 0.3, 1.2, 0.5])
    template = known(frames, boxes=sway)
    calm = evidence(template, np.arange(frames), np.ones(frames, np.float32), np.full(frames, 0.07, np.float32), fps)
    assert min(per_second(calm, fps)) > 0.9
    thrown = known(frames, boxes=sway + np.where(np.arange(frames) // round(fps / 25) % 2, 8, 0)[:, None])
    assert max(per_second(evidence(thrown, np.arange(frames), np.ones(frames, np.float32), np.full(frames, 0.07, np.float32), fps), fps)) < 0.75


def test_where_nobody_is_to_speak_nothing_is_unsure() -> None:
    share = with_values(0, slice(25, 50), 1)
    apart = replace(judged(known(), share=share), source_trust=1 - (1 - SOURCE_TRUST) * share)
    assert per_second(judged(known(), share=share), FPS) == (SOURCE_TRUST, 1.0, SOURCE_TRUST)
    assert per_second(apart, FPS) == (1.0, 1.0, 1.0)
    assert worst_moments(apart, FPS) == ()


def test_a_quarter_of_a_bad_second_is_seen_and_a_single_frame_hardly() -> None:
    quarter = judged(known(visibility=with_values(1, slice(30, 36), 0)))
    single = judged(known(visibility=with_values(1, slice(30, 31), 0)))
    assert per_second(quarter, FPS)[1] < 0.3
    assert per_second(single, FPS)[1] > 0.8


def test_the_worst_come_first_and_a_part_of_a_second_counts_as_one() -> None:
    visibility = np.concatenate([np.full(25, 0.5), np.full(25, 0.1), np.full(10, 0.3)]).astype(np.float32)
    result = judged(known(60, visibility=visibility))
    assert [moment.second for moment in worst_moments(result, FPS)] == [1, 2, 0]
    assert [moment.second for moment in worst_moments(result, FPS, most=1)] == [1]
    assert len(per_second(result, FPS)) == 3


def test_output_frames_are_judged_by_the_source_frames_they_show() -> None:
    template = known(yaw_deg=with_values(0, slice(0, 25), 45))
    backwards = evidence(template, np.arange(75)[::-1], np.ones(75, np.float32), np.full(75, 0.07, np.float32), FPS)
    assert per_second(backwards, FPS)[2] < 0.5
    assert per_second(backwards, FPS)[0] == 1.0


def test_nothing_has_no_seconds() -> None:
    nothing = Evidence(np.zeros(0, np.float32), {"the face is small": np.zeros(0, np.float32)})
    assert per_second(nothing, FPS) == ()
    assert worst_moments(nothing, FPS) == ()
