"""Who is taken for the speaker, from made-up segments: squares that stand in for faces, and lips that open by a formula."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.audio import SAMPLE_RATE
from tasks.corpus.faces import CutFrame
from tasks.corpus.segments import Segment
from tasks.corpus.speaking import chosen, lips_follow, loudness_a_frame
from tasks.faces.crop import Box

FRAMES = 100
LOUDNESS = np.clip(np.sin(np.arange(FRAMES) / 2.5), 0, 1)
WAVEFORM = (np.repeat(LOUDNESS, 640) * np.sin(2 * np.pi * 200 * np.arange(FRAMES * 640) / SAMPLE_RATE)).astype(np.float32)
SILENT = np.zeros(FRAMES)
UNLIKE = np.sin(np.arange(FRAMES) / 1.1) ** 2


def segment(track: int, face_px: float, lips: np.ndarray = SILENT, start: int = 0) -> Segment:
    nothing = np.zeros((2, 1), dtype=np.float32)
    measures = {"detected": True, "picture": b"", "sharpness": 0.0, "brightness": 0.0}
    frames = tuple(CutFrame(Box(0, 0, face_px, face_px), nothing, nothing, 0.1 + 0.05 * lip, **measures) for lip in lips[start:])
    return Segment(track, 0, start, frames)


def test_all_keeps_each_face() -> None:
    assert chosen([segment(0, 50), segment(1, 90)], "all", WAVEFORM) == [True, True]


def test_the_largest_face_is_kept() -> None:
    assert chosen([segment(0, 50), segment(1, 90)], "largest", WAVEFORM) == [False, True]


def test_a_large_face_that_is_hardly_there_counts_less_than_one_that_stays() -> None:
    assert chosen([segment(0, 60), segment(1, 90, start=80)], "largest", WAVEFORM) == [True, False]


def test_of_faces_alike_the_first_track_is_kept() -> None:
    assert chosen([segment(0, 50), segment(1, 50)], "largest", WAVEFORM) == [True, False]


def test_lips_that_move_with_the_sound_win_over_size() -> None:
    faces = [segment(0, 90, UNLIKE), segment(1, 50, LOUDNESS)]
    assert chosen(faces, "moving-lips", WAVEFORM) == [False, True]
    assert chosen(faces, "largest", WAVEFORM) == [True, False]


@pytest.mark.parametrize("waveform", [WAVEFORM, np.zeros(FRAMES * 640, dtype=np.float32), np.zeros(0, dtype=np.float32)])
def test_where_no_lips_move_with_the_sound_the_largest_wins(waveform: np.ndarray) -> None:
    assert chosen([segment(0, 50, UNLIKE), segment(1, 90)], "moving-lips", waveform) == [False, True]


def test_faces_that_follow_each_other_are_both_kept() -> None:
    first = Segment(0, 0, 0, segment(0, 50).frames[:40])
    second = Segment(1, 0, 40, segment(1, 90).frames[:60])
    third = Segment(2, 0, 39, segment(2, 20).frames[:10])
    assert chosen([first, third, second], "largest", WAVEFORM) == [True, False, True]


def test_one_face_alone_is_kept_whatever_it_does() -> None:
    assert chosen([segment(0, 50)], "moving-lips", np.zeros(0, dtype=np.float32)) == [True]
    assert chosen([], "largest", WAVEFORM) == []


def test_loudness_is_that_of_each_frames_sound() -> None:
    assert lips_follow(segment(0, 50, LOUDNESS), WAVEFORM) > 0.99
    assert lips_follow(segment(0, 50, -LOUDNESS), WAVEFORM) < 0.1
    assert lips_follow(segment(0, 50, LOUDNESS, start=30), WAVEFORM) > 0.99
    np.testing.assert_allclose(loudness_a_frame(WAVEFORM, 90, 20), [*LOUDNESS[90:] / np.sqrt(2), *[0] * 10], atol=0.02)


@pytest.mark.parametrize(("shift", "follows"), [(-3, True), (3, True), (-6, False), (6, False)])
def test_lips_and_sound_need_not_be_quite_in_step(shift: int, follows: bool) -> None:
    assert (lips_follow(segment(0, 50, np.roll(LOUDNESS, shift)), WAVEFORM) > 0.9) == follows


def test_lips_tell_nothing_in_less_than_a_second() -> None:
    brief = [Segment(0, 0, 0, segment(0, 50, LOUDNESS).frames[:24]), Segment(1, 0, 0, segment(1, 90, UNLIKE).frames[:24])]
    assert chosen(brief, "moving-lips", WAVEFORM) == [False, True]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 40), st.integers(10, 99)), max_size=8))
def test_whoever_is_chosen_no_moment_has_two_and_none_that_had_one_is_empty(pieces: list[tuple[int, int, int]]) -> None:
    faces = [Segment(track, 0, start, segment(track, px).frames[:count]) for track, (start, count, px) in enumerate(pieces)]
    kept = [face for face, keep in zip(faces, chosen(faces, "largest", WAVEFORM), strict=True) if keep]
    moments = [frame for face in kept for frame in range(face.start_frame, face.start_frame + len(face.frames))]
    assert len(moments) == len(set(moments))
    for face in faces:
        assert face in kept or set(range(face.start_frame, face.start_frame + len(face.frames))) & set(moments)
