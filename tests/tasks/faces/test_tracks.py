import itertools
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.faces.tracks import FaceFrame, follow_all_faces, follow_faces, overlap
from tasks.media.decode import Frame

MAX_GAP = 5
PLACES = {"left": 0.0, "right": 500.0}
SHAPE = np.random.default_rng(0).random((131, 2)) * 100


def face_at(x: float) -> np.ndarray:
    return SHAPE + np.array([x, 0.0])


def frames_of(pattern: list[float | None]) -> Iterator[Frame]:
    """Frames whose picture holds the number of the frame: `finder` looks it up."""
    for index in range(len(pattern)):
        yield Frame(index=index, time_s=index / 25, picture=np.full((1, 1, 3), index, dtype=np.uint8))


def finder(pattern: list[float | None]):
    def find(picture: np.ndarray) -> np.ndarray | None:
        x = pattern[int(picture[0, 0, 0])]
        return None if x is None else face_at(x)

    return find


def follow(pattern: list[float | None], max_gap: int = MAX_GAP) -> list[FaceFrame]:
    return list(follow_faces(frames_of(pattern), finder(pattern), max_gap=max_gap))


def tracks(pattern: list[float | None], max_gap: int = MAX_GAP) -> list[int | None]:
    return [face.track for face in follow(pattern, max_gap)]


def test_one_face_throughout_is_one_track():
    faces = follow([0.0, 1.0, 2.0])
    assert [(face.index, face.time_s, face.detected, face.track) for face in faces] == [(0, 0.0, True, 0), (1, 0.04, True, 0), (2, 0.08, True, 0)]
    np.testing.assert_array_equal(faces[2].points, face_at(2.0))


def test_a_short_gap_is_bridged_on_a_straight_line():
    faces = follow([0.0, None, None, None, 8.0])
    assert [face.detected for face in faces] == [True, False, False, False, True]
    assert {face.track for face in faces} == {0}
    for face, x in zip(faces, (0, 2, 4, 6, 8), strict=True):
        np.testing.assert_allclose(face.points, face_at(x))


def test_a_gap_of_just_the_limit_is_bridged_and_one_frame_more_is_not():
    assert tracks([0.0, *[None] * 5, 0.0]) == [0] * 7
    faces = follow([0.0, *[None] * 6, 0.0])
    assert [face.track for face in faces] == [0, *[None] * 6, 1]
    assert [face.points is None for face in faces] == [False, *[True] * 6, False]


def test_without_gaps_allowed_each_miss_ends_the_track():
    assert tracks([0.0, None, 0.0, 0.0], max_gap=0) == [0, None, 1, 1]


def test_a_jump_begins_a_new_track():
    assert tracks([0.0, 0.0, 500.0, 500.0, 0.0]) == [0, 0, 1, 1, 2]


def test_a_gap_over_a_jump_is_not_bridged():
    assert tracks([0.0, None, None, 500.0]) == [0, None, None, 1]


def test_gaps_at_the_ends_stay_without_a_face():
    assert tracks([None, None, 0.0, None, None]) == [None, None, 0, None, None]
    assert tracks([None] * 9) == [None] * 9
    assert tracks([]) == []


def test_overlap_of_boxes():
    assert overlap(face_at(0), face_at(0)) == pytest.approx(1.0)
    assert overlap(face_at(0), face_at(500)) == 0.0
    width = float(np.ptp(SHAPE[:, 0]))
    assert overlap(face_at(0), face_at(width / 2)) == pytest.approx(1 / 3)
    assert overlap(np.zeros((131, 2)), np.zeros((131, 2))) == 0.0


patterns = st.lists(st.sampled_from([0.0, 3.0, 500.0, 503.0, None, None, None]), max_size=60)


@settings(deadline=None)
@given(patterns, st.integers(0, 7))
def test_whatever_is_found_every_frame_comes_out_once_and_in_order(pattern, max_gap):
    faces = follow(pattern, max_gap)
    assert [face.index for face in faces] == list(range(len(pattern)))
    assert [face.detected for face in faces] == [x is not None for x in pattern]
    assert all((face.points is None) == (face.track is None) for face in faces)
    order = [face.track for face in faces if face.track is not None]
    assert order == sorted(order)
    assert sorted(set(order)) == list(range(len(set(order))))


@settings(deadline=None)
@given(patterns, st.integers(0, 7))
def test_points_are_made_up_only_between_two_findings_of_one_track(pattern, max_gap):
    faces = follow(pattern, max_gap)
    for position, face in enumerate(faces):
        if face.detected or face.points is None:
            continue
        before = next(faces[i] for i in range(position, -1, -1) if faces[i].detected)
        after = next(other for other in faces[position:] if other.detected)
        assert before.track == face.track == after.track
        assert after.index - before.index - 1 <= max_gap
        share = (face.index - before.index) / (after.index - before.index)
        np.testing.assert_allclose(face.points, (1 - share) * before.points + share * after.points)


@settings(deadline=None)
@given(patterns, st.integers(0, 7))
def test_found_frames_share_a_track_just_when_they_are_near_in_time_and_place(pattern, max_gap):
    found = [face for face in follow(pattern, max_gap) if face.detected]
    for first, second in itertools.pairwise(found):
        near = second.index - first.index - 1 <= max_gap and overlap(first.points, second.points) >= 0.3
        assert (first.track == second.track) == near


@settings(deadline=None)
@given(patterns, st.integers(0, 7))
def test_no_more_pictures_are_held_than_promised(pattern, max_gap):
    """A consumer that drops each frame leaves at most max_gap + 1 pictures alive."""
    alive: set[int] = set()
    most = 0

    def watched() -> Iterator[Frame]:
        for frame in frames_of(pattern):
            alive.add(frame.index)
            weakref.finalize(frame.picture, alive.discard, frame.index)
            yield frame
            del frame

    find = finder(pattern)
    for _ in follow_faces(watched(), find, max_gap=max_gap):
        most = max(most, len(alive))
    assert most <= max_gap + 1


class ScriptedFinder:
    """Finds, in frame n, a face at each x of script[n]; keeps what it was told."""

    def __init__(self, script: list[tuple[float, ...]]) -> None:
        self.script, self.known, self.forgotten = script, [], []

    def find(self, picture: np.ndarray, known: list[np.ndarray]) -> list[np.ndarray]:
        index = int(picture[0, 0, 0])
        self.known.append([float(face[:, 0].min() - SHAPE[:, 0].min()) for face in known])
        return [face_at(x) for x in self.script[index]]

    def forget(self) -> None:
        self.forgotten.append(len(self.known))


def follow_all(script: list[tuple[float, ...]], cuts: frozenset[int] = frozenset(), max_gap: int = MAX_GAP) -> list[tuple[FaceFrame, ...]]:
    return list(follow_all_faces(frames_of(script), ScriptedFinder(script), lambda picture: int(picture[0, 0, 0]) in cuts, max_gap))


def tracks_of(frames: list[tuple[FaceFrame, ...]]) -> list[list[int | None]]:
    return [[face.track for face in faces] for faces in frames]


def test_two_faces_that_are_found_in_turn_are_two_tracks_without_gaps():
    """FaceMesh asked for one face gives now this one, now that one."""
    frames = follow_all([(0.0,), (500.0,), (1.0,), (501.0,), (2.0,), (502.0,)])
    assert tracks_of(frames) == [[0], [0, 1], [0, 1], [0, 1], [0, 1], [1]]
    assert [face.detected for face in frames[2]] == [True, False]
    np.testing.assert_allclose(frames[1][0].points, face_at(0.5))


def test_two_faces_found_in_any_order_keep_their_tracks():
    frames = follow_all([(0.0, 500.0), (501.0, 1.0), (2.0, 502.0)])
    assert tracks_of(frames) == [[0, 1]] * 3
    assert [round(float(faces[1].points[0, 0] - SHAPE[0, 0])) for faces in frames] == [500, 501, 502]


def test_a_face_goes_on_with_the_track_it_overlaps_most():
    frames = follow_all([(0.0, 40.0), (35.0,), (38.0, 5.0)])
    assert tracks_of(frames) == [[0, 1], [0, 1], [0, 1]]
    assert [face.detected for face in frames[1]] == [False, True]
    assert [float(face.points[0, 0] - SHAPE[0, 0]) for face in frames[2]] == pytest.approx([5.0, 38.0])


def test_one_tracks_gap_leaves_the_others_alone():
    frames = follow_all([(0.0, 500.0), (0.0,), (0.0, 500.0), *[(0.0,)] * 6, (0.0, 500.0)])
    assert tracks_of(frames) == [[0, 1], [0, 1], [0, 1], *[[0]] * 6, [0, 2]]
    assert [face.detected for face in frames[1]] == [True, False]


def test_tracks_never_cross_a_cut():
    script = [(0.0,), (0.0,), (0.0,), (), (0.0,), (0.0,)]
    frames = follow_all(script, cuts=frozenset({1, 4}))
    assert tracks_of(frames) == [[0], [1], [1], [], [2], [2]]
    assert [face.scene_start for faces in frames for face in faces] == [0, 1, 1, 4, 4]


def test_the_finder_is_told_of_cuts_and_of_the_faces_it_knows():
    script = [(0.0,), (), (7.0,), (9.0,)]
    finding = ScriptedFinder(script)
    list(follow_all_faces(frames_of(script), finding, lambda picture: int(picture[0, 0, 0]) == 3, MAX_GAP))
    assert finding.known == [[], [0.0], [0.0], []]
    assert finding.forgotten == [0, 3]


def test_footage_without_frames_has_no_faces():
    assert follow_all([]) == []


@settings(deadline=None)
@given(patterns, st.integers(0, 7))
def test_of_one_face_that_does_not_jump_both_ways_tell_the_same(pattern, max_gap):
    pattern = [None if x is None else x % 500 for x in pattern]
    alone = follow(pattern, max_gap)
    together = follow_all([() if x is None else (x,) for x in pattern], max_gap=max_gap)
    assert len(together) == len(alone)
    for faces, face in zip(together, alone, strict=True):
        assert [(one.index, one.track, one.detected) for one in faces] == ([] if face.points is None else [(face.index, face.track, face.detected)])
        for one in faces:
            np.testing.assert_array_equal(one.points, face.points)


scripts = st.lists(st.lists(st.sampled_from([0.0, 3.0, 250.0, 500.0, 503.0]), max_size=3, unique=True).map(tuple), max_size=50)


@settings(deadline=None)
@given(scripts, st.integers(0, 7), st.frozensets(st.integers(0, 49), max_size=4))
def test_all_found_faces_come_out_once_and_tracks_have_no_holes(script, max_gap, cuts):
    frames = follow_all(script, cuts, max_gap)
    assert [sum(face.detected for face in faces) for faces in frames] == [len(found) for found in script]
    seen: dict[int, list[FaceFrame]] = {}
    for index, faces in enumerate(frames):
        assert all(face.index == index for face in faces)
        assert len({face.track for face in faces}) == len(faces)
        for face in faces:
            seen.setdefault(face.track, []).append(face)
    assert sorted(seen) == list(range(len(seen)))
    for followed in seen.values():
        assert [face.index for face in followed] == list(range(followed[0].index, followed[0].index + len(followed)))
        assert followed[0].detected
        assert followed[-1].detected
        assert not any(followed[0].index < cut <= followed[-1].index for cut in cuts)
        gaps = [len(list(run)) for detected, run in itertools.groupby(followed, key=lambda face: face.detected) if not detected]
        assert max(gaps, default=0) <= max_gap


@settings(deadline=None)
@given(scripts, st.integers(0, 7))
def test_following_many_holds_no_more_pictures_than_promised(script, max_gap):
    alive: set[int] = set()
    most = 0

    def watched() -> Iterator[Frame]:
        for frame in frames_of(script):
            alive.add(frame.index)
            weakref.finalize(frame.picture, alive.discard, frame.index)
            yield frame
            del frame

    for _ in follow_all_faces(watched(), ScriptedFinder(script), lambda picture: False, max_gap):
        most = max(most, len(alive))
    assert most <= max_gap + 1
