from fractions import Fraction

import numpy as np
import pytest

from tasks.dubbing.timeline import Run, face_runs, frames_of_speech, interpolate, played_frames

NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize(
    ("fps", "speech_s", "frames"),
    [
        (Fraction(25), Fraction(2), 50),
        (Fraction(25), Fraction(44100 * 3 + 1000, 44100), 76),  # 75.57 frames
        (NTSC, Fraction(10), 300),  # 299.7
        (Fraction(24000, 1001), Fraction(48000 * 5, 48000), 120),  # 119.88
        (Fraction(50), Fraction(1, 1000), 0),
    ],
)
def test_the_output_has_the_frames_that_the_speech_lasts(fps: Fraction, speech_s: Fraction, frames: int) -> None:
    assert frames_of_speech(fps, speech_s) == frames == round(fps * speech_s)


@pytest.mark.parametrize(
    ("source", "expected"),
    [(1, [0, 0, 0, 0, 0, 0, 0]), (2, [0, 1, 0, 1, 0, 1, 0]), (4, [0, 1, 2, 3, 2, 1, 0]), (9, [0, 1, 2, 3, 4, 5, 6])],
)
def test_a_short_video_is_played_forth_and_back(source: int, expected: list[int]) -> None:
    assert played_frames(7, source).tolist() == expected


def test_runs_end_where_the_face_or_the_track_does() -> None:
    tracks = np.array([-1, 0, 0, 0, 1, 1, -1, -1, 1], dtype=np.int32)
    played = np.arange(9)
    assert [(run.first, run.last) for run in face_runs(tracks, played, Fraction(25))] == [(1, 3), (4, 5), (8, 8)]
    assert face_runs(tracks[:1], played[:1], Fraction(25)) == []
    assert face_runs(tracks[:0], played[:0], Fraction(25)) == []


def test_with_a_cut_the_video_begins_again_and_the_run_ends_there() -> None:
    played = played_frames(8, 3, "cut")
    assert played.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert [(run.first, run.last) for run in face_runs(np.zeros(8, dtype=np.int32), played, Fraction(25))] == [(0, 2), (3, 5), (6, 7)]


def test_rows_that_are_chosen_are_interpolated_in_their_order() -> None:
    values = np.array([[0.0], [10.0], [20.0]])
    assert interpolate(values, np.array([0.0, 0.5, 2.0]), np.array([2, 1, 0])).ravel().tolist() == [20.0, 15.0, 0.0]


def test_at_25_frames_a_second_steps_are_frames() -> None:
    run = Run(10, 19, Fraction(25))
    assert run.steps == range(10, 20)
    assert run.frame_positions(np.array(run.steps)).tolist() == list(range(10))
    assert run.step_windows(15).tolist() == [13, 14, 15, 16, 17]
    assert run.step_windows(10).tolist() == [10, 10, 10, 11, 12]
    assert run.step_windows(19).tolist() == [17, 18, 19, 19, 19]


@pytest.mark.parametrize("fps", [NTSC, Fraction(24), Fraction(50), Fraction(15), Fraction(120)])
@pytest.mark.parametrize(("first", "last"), [(0, 0), (7, 7), (3, 60)])
def test_at_other_rates_steps_span_every_frame_of_the_run(fps: Fraction, first: int, last: int) -> None:
    run = Run(first, last, fps)
    assert Fraction(run.steps.start, 25) <= first / fps
    assert Fraction(run.steps[-1], 25) >= last / fps
    for frame in (first, last):
        window = run.step_windows(frame)
        assert window[2] == pytest.approx(float(frame * 25 / fps))
        assert run.steps.start - 1e-9 <= window.min() <= window.max() <= run.steps[-1] + 1e-9
    positions = run.frame_positions(np.array(run.steps))
    assert positions.min() >= 0
    assert positions.max() <= last - first


def test_values_between_frames_lie_on_the_line_between_them() -> None:
    values = np.arange(8, dtype=np.float32).reshape(4, 2) * 10
    assert interpolate(values, np.array([0.0, 0.25, 3.0])).tolist() == [[0, 10], [5, 15], [60, 70]]
