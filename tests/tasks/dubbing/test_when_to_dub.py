from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.settings import DubSettings
from tasks.dubbing.timeline import NO_TRACK
from tasks.dubbing.when_to_dub import DUBBED, REASONS, Shown, shown, stretches

FPS = 25.0
SETTINGS = DubSettings(landmark_generator="l", renderer="r")


@dataclass(frozen=True)
class Seen:
    """What a template knows; a face that nothing speaks against unless said otherwise."""

    tracks: np.ndarray
    shots: np.ndarray
    yaw_deg: np.ndarray
    face_px: np.ndarray
    visibility: np.ndarray


def seen(frames: int = 50, **changes: np.ndarray) -> Seen:
    ones = np.ones(frames, np.float32)
    return replace(Seen(np.zeros(frames, np.int32), np.zeros(frames, np.int32), 0 * ones, 200 * ones, ones), **changes)


def with_values(frames: int, usual: float, where: slice, value: float) -> np.ndarray:
    values = np.full(frames, usual, np.float32)
    values[where] = value
    return values


def reason_at(result: Shown, frame: int) -> str:
    return REASONS[result.reasons[frame]] if result.reasons[frame] != DUBBED else "dubbed"


def test_a_face_seen_well_is_dubbed_throughout() -> None:
    result = shown(seen(), SETTINGS, FPS)
    assert (result.share == 1).all()
    assert (result.reasons == DUBBED).all()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tracks": with_values(50, 0, slice(20, 30), NO_TRACK).astype(np.int32)}, "no-face"),
        ({"yaw_deg": with_values(50, 0, slice(20, 30), -60)}, "turned-away"),
        ({"face_px": with_values(50, 200, slice(20, 30), 30)}, "too-small"),
        ({"visibility": with_values(50, 1, slice(20, 30), 0.1)}, "covered"),
    ],
)
def test_the_source_shows_with_a_fade_that_begins_before(changes: dict[str, np.ndarray], reason: str) -> None:
    result = shown(seen(**changes), SETTINGS, FPS)
    assert (result.share[20:30] == 0).all()
    assert (np.diff(result.share[15:21]) < 0).all()  # five frames are 0.2 s
    assert (np.diff(result.share[29:35]) > 0).all()
    assert (result.share[:15] == 1).all()
    assert (result.share[35:] == 1).all()
    assert {reason_at(result, frame) for frame in range(16, 34)} == {reason}


def test_the_fade_is_as_long_at_any_frame_rate() -> None:
    result = shown(seen(100, face_px=with_values(100, 200, slice(60, 100), 30)), SETTINGS, 60.0)
    assert int((result.share[:60] < 1).sum()) == 11  # and the twelfth is whole


def test_a_head_that_turns_slowly_fades_slowly() -> None:
    yaw = np.linspace(30, 55, 101, dtype=np.float32)
    share = shown(seen(101, yaw_deg=yaw), SETTINGS, FPS).share
    assert (share[yaw <= 35] == 1).all()
    assert (share[yaw >= 50] == 0).all()
    assert share[np.argmin(np.abs(yaw - 42.5))] == pytest.approx(0.5, abs=0.05)
    assert (np.diff(share) <= 0).all()


def test_nothing_fades_over_a_cut() -> None:
    shots = (np.arange(50) >= 25).astype(np.int32)
    result = shown(seen(shots=shots, tracks=with_values(50, 0, slice(25, 50), NO_TRACK).astype(np.int32)), SETTINGS, FPS)
    assert (result.share[:25] == 1).all()
    assert (result.share[25:] == 0).all()


def test_a_flash_of_a_good_face_between_bad_ones_stays_bad() -> None:
    tracks = np.full(50, NO_TRACK, np.int32)
    tracks[20:22] = 0  # 0.08 s
    assert shown(seen(tracks=tracks), SETTINGS, FPS).share.max() == 0
    tracks[20:26] = 0
    assert shown(seen(tracks=tracks), SETTINGS, FPS).share[20:26].max() > 0.3


def test_sizes_around_the_limit_do_not_flicker() -> None:
    px = 40 + np.where(np.arange(50) % 8 < 4, 1.0, -1.0).astype(np.float32)
    result = shown(seen(face_px=px), SETTINGS, FPS)
    assert result.share.max() == 0
    assert (shown(seen(face_px=np.full(50, 41, np.float32)), SETTINGS, FPS).share == 1).all()


def test_a_single_doubtful_frame_covers_no_mouth() -> None:
    result = shown(seen(visibility=with_values(50, 1, slice(20, 21), 0)), SETTINGS, FPS)
    assert (result.share == 1).all()


def test_covered_mouths_are_dubbed_where_the_settings_say_so() -> None:
    covered = seen(visibility=np.zeros(50, np.float32))
    assert (shown(covered, SETTINGS.replaced(keep_covered=False), FPS).share == 1).all()


def test_a_limit_without_a_fade_is_a_limit() -> None:
    hard = SETTINGS.replaced(fade_from_yaw_deg=40.0, gone_at_yaw_deg=40.0)
    assert (shown(seen(yaw_deg=np.full(50, 39, np.float32)), hard, FPS).share == 1).all()
    assert (shown(seen(yaw_deg=np.full(50, 41, np.float32)), hard, FPS).share == 0).all()


def test_stretches_say_when_and_why() -> None:
    no_face, turned = REASONS.index("no-face"), REASONS.index("turned-away")
    reasons = [DUBBED] * 25 + [no_face] * 10 + [turned] * 15 + [DUBBED] * 25
    assert [(each.start_s, each.end_s, each.reason) for each in stretches(reasons, FPS)] == [(1.0, 1.4, "no-face"), (1.4, 2.0, "turned-away")]
    assert stretches([], FPS) == ()
    assert stretches([DUBBED] * 5, FPS) == ()


@given(st.lists(st.tuples(st.sampled_from([NO_TRACK, 0]), st.integers(0, 1), st.floats(0, 90), st.floats(20, 80)), min_size=1, max_size=80))
def test_whatever_happens_shares_change_by_a_fades_step_and_reasons_go_with_them(frames: list[tuple[int, int, float, float]]) -> None:
    tracks, cuts, yaw, px = (np.array(column) for column in zip(*frames, strict=True))
    template = seen(len(frames), tracks=tracks.astype(np.int32), shots=np.cumsum(cuts).astype(np.int32), yaw_deg=yaw, face_px=px)
    result = shown(template, SETTINGS, FPS)
    assert ((result.share >= 0) & (result.share <= 1)).all()
    within_shot = np.diff(template.shots) == 0
    assert (np.abs(np.diff(result.share))[within_shot] <= 1.5 / 5 + 1e-5).all()  # the steepest place of a smooth fade over 5 frames
    assert ((result.reasons == DUBBED) == (result.share == 1)).all()
    assert (result.share[tracks == NO_TRACK] == 0).all()
