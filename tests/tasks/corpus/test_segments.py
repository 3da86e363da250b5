"""Where followed faces are cut. Faces are given as tracks by frame; `cut_face` is left as it is, on a grey picture."""

from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from schemas.errors import MediaError
from schemas.reasons import Reason
from schemas.settings import FormatSettings
from tasks.corpus.segments import windows
from tasks.faces.tracks import FaceFrame

POINTS = np.random.default_rng(0).uniform(5, 25, (131, 2))
GREY = np.full((30, 30, 3), 90, dtype=np.uint8)


def faces(tracks: Iterable[tuple[int, ...]], scenes: tuple[int, ...] = (0,)) -> Iterator[tuple[FaceFrame, ...]]:
    for index, present in enumerate(tracks):
        start = max(scene for scene in scenes if scene <= index)
        yield tuple(FaceFrame(index, index / 25, GREY, POINTS, detected=True, track=track, scene_start=start) for track in present)


def cut(frames: Iterable[tuple[FaceFrame, ...]], segment_s: float = 1.0) -> list[list[tuple[int, int, int, int]]]:
    """(track, number, start, frames) of the segments of each window."""
    found = windows(frames, FormatSettings(segment_s=segment_s))
    return [[(segment.track, segment.number, segment.start_frame, len(segment.frames)) for segment in window] for window in found]


def test_one_face_throughout_is_cut_at_each_segments_length() -> None:
    assert cut(faces([(0,)] * 60)) == [[(0, 0, 0, 25)], [(0, 1, 25, 25)], [(0, 2, 50, 10)]]


def test_a_face_that_comes_late_is_cut_where_the_others_are() -> None:
    frames = [(0,)] * 10 + [(0, 1)] * 30
    assert cut(faces(frames)) == [[(0, 0, 0, 25), (1, 0, 10, 15)], [(0, 1, 25, 15), (1, 1, 25, 15)]]


def test_windows_begin_anew_with_each_scene() -> None:
    frames = [(0,)] * 30 + [(1,)] * 30
    assert cut(faces(frames, scenes=(0, 30))) == [[(0, 0, 0, 25)], [(0, 1, 25, 5)], [(1, 0, 30, 25)], [(1, 1, 55, 5)]]


def test_frames_without_a_face_end_a_segment_and_count_for_the_window() -> None:
    frames = [(0,)] * 5 + [()] * 3 + [(1,)] * 5 + [()] * 15 + [(2,)] * 5
    assert cut(faces(frames)) == [[(0, 0, 0, 5), (1, 0, 8, 5)], [(2, 0, 28, 5)]]


def test_a_face_outside_the_picture_for_a_moment_has_two_segments_of_one_track() -> None:
    frames = [FaceFrame(index, 0.0, GREY, POINTS + (100.0 if index == 4 else 0.0), detected=True, track=0) for index in range(10)]
    assert cut((frame,) for frame in frames) == [[(0, 0, 0, 4), (0, 1, 5, 5)]]


def test_what_comes_before_damage_is_given_before_it_is_told() -> None:
    def damaged() -> Iterator[tuple[FaceFrame, ...]]:
        yield from faces([(0, 1)] * 7)
        raise MediaError(Reason.DAMAGED, "noise")

    found = windows(damaged(), FormatSettings())
    assert [len(segment.frames) for segment in next(found)] == [7, 7]
    with pytest.raises(MediaError, match="noise"):
        next(found)


def test_no_frames_no_windows() -> None:
    assert cut(faces([])) == []
    assert cut(faces([()] * 30)) == []
