"""Two videos are compared only when they show one head at one place and time."""

from pathlib import Path

import numpy as np
import pytest

from tasks.dubbing.covered import PATCHES
from tasks.evaluation.alignment import align, faces_overlap, head_shift, say_the_same
from tasks.evaluation.seen_video import SeenVideo

SIZE = (240, 320)


def head(frames: int, seed: int = 0, sway_px: float = 6.0) -> np.ndarray:
    """(T, 131, 2): a face 80 pixels wide that sways, nods and blinks as a head does, without any period."""
    random = np.random.default_rng(seed)
    face = np.random.default_rng(7).uniform(100, 180, (131, 2))
    walk = np.cumsum(random.standard_normal((frames + 20, 2)), axis=0)
    smooth = np.stack([np.convolve(column, np.hanning(9) / np.hanning(9).sum(), "same") for column in walk.T], axis=1)[10 : frames + 10]
    return face + sway_px * (smooth / smooth.std())[:, None]


def video(points: np.ndarray, size: tuple[int, int] = SIZE) -> SeenVideo:
    return SeenVideo(Path("made.mp4"), size, points, np.zeros((len(points), PATCHES, 3), np.float32), np.zeros(0, np.float32))


@pytest.mark.parametrize("shift", [-9, -1, 0, 1, 5, 20])
def test_a_shift_in_time_is_found_to_the_frame(shift: int) -> None:
    long = head(140)
    assert head_shift(long[30 - shift : 130 - shift], long[30:130]) == shift


def test_trembling_landmarks_and_lost_faces_do_not_hide_a_shift() -> None:
    long = head(140)
    trembling = long[25:125] + 0.3 * np.random.default_rng(1).standard_normal((100, 131, 2))
    trembling[40:45] = np.nan
    assert head_shift(trembling, long[30:130]) == 5


def test_a_head_that_does_not_move_tells_no_shift_and_is_no_fault() -> None:
    still = np.repeat(head(1)[:1], 60, axis=0)
    trembling = [still + 0.2 * np.random.default_rng(seed).standard_normal(still.shape) for seed in (1, 2)]
    assert head_shift(*trembling) is None
    alignment = align(video(trembling[0]), video(trembling[1]))
    assert (alignment.fault, alignment.shift_frames) == ("", None)


def test_another_head_at_the_same_place_tells_no_shift() -> None:
    assert head_shift(head(100, seed=1), head(100, seed=2)) is None


def test_a_pair_in_step_and_in_place_has_no_fault() -> None:
    alignment = align(video(head(60)), video(head(60)))
    assert (alignment.fault, alignment.shift_frames, alignment.overlap) == ("", 0, 1.0)


def test_each_fault_is_said_in_one_sentence() -> None:
    long = head(80)
    assert "5 frames after the real one" in align(video(long[:60]), video(long[5:65])).fault
    assert "5 frames before the real one" in align(video(long[5:65]), video(long[:60])).fault
    assert "60 frames at 25 a second, the real one 58" in align(video(long[:60]), video(long[:58])).fault
    assert align(video(long[:60]), video(long[:58]), length_difference_frames=2).fault == ""
    assert "640 x 480 pixels, the real one 320 x 240" in align(video(long, (480, 640)), video(long)).fault
    assert "overlap by" in align(video(long + np.array([40, 0])), video(long)).fault


def test_the_overlap_is_that_of_the_boxes_where_the_heads_belong_together() -> None:
    long = head(60)
    wide = float(np.ptp(long[0, :, 0]))
    moved = faces_overlap(long + np.array([0.5 * wide, 0]), long, SIZE)
    assert moved == pytest.approx(1 / 3, abs=0.03)
    assert faces_overlap(np.full_like(long, np.nan), long, SIZE) is None


def test_the_same_speech_is_known_again_and_another_is_not() -> None:
    random = np.random.default_rng(0)
    one, other = (random.standard_normal((200, 80)).astype(np.float32) for _ in range(2))
    assert say_the_same(one, one + 0.3 * random.standard_normal((200, 80)).astype(np.float32))
    assert not say_the_same(one, other)
    assert say_the_same(one, np.empty((0, 80), np.float32))
