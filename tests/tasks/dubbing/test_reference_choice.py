from collections.abc import Iterable

import numpy as np

from tasks.dubbing.reference_choice import Candidate, Candidates, choose_references, fit_ones, fit_to_copy


def candidate(opening: float, track: int = 0, frame: int = 0) -> Candidate:
    pose, content = np.full((2, 74), opening, np.float32), np.full((2, 57), 0.5, np.float32)
    return Candidate(frame, pose, content, opening, (100, 80), np.full((16, 16, 3), 1, np.uint8), track)


def test_references_are_even_steps_of_the_lip_openings() -> None:
    shuffled = np.random.default_rng(0).permutation(100)
    references = choose_references([candidate(float(opening)) for opening in shuffled], landmarks=5, pictures=4, size=16)
    assert references.pose[:, 0, 0].tolist() == [0, 24, 49, 74, 99]
    assert references.faces.shape == references.sketches.shape == (4, 16, 16, 3)


def test_one_frame_serves_as_every_landmark_reference_and_as_one_picture() -> None:
    references = choose_references([candidate(0.1)], landmarks=15, pictures=25, size=16)
    assert len(references.pose) == len(references.content) == 15
    assert len(references.faces) == 1


def test_candidates_stay_few_and_evenly_spread() -> None:
    candidates = Candidates(most=10)
    for index in range(1000):
        candidates.offer(index, lambda index=index: candidate(float(index), frame=index))
    kept = [one.lip_opening for one in candidates.of([0])]
    assert 5 <= len(kept) <= 10
    assert len(set(np.diff(kept))) == 1
    assert kept[-1] > 800


def offered(seen: dict[int, Iterable[int]], most: int) -> Candidates:
    """Candidates of tracks that are seen in these frames."""
    candidates = Candidates(most)
    for frame, track in sorted((frame, track) for track, frames in seen.items() for frame in frames):
        candidates.offer(frame, lambda frame=frame, track=track: candidate(float(frame), track, frame))
    assert sum(len(candidates.of([track])) for track in seen) <= most
    return candidates


def test_of_two_faces_in_each_frame_both_keep_their_share() -> None:
    candidates = offered({0: range(500), 1: range(500)}, most=20)
    shares = [len(candidates.of([track])) for track in (0, 1)]
    assert min(shares) >= 5
    assert max(shares) <= 2 * min(shares)
    frames = [one.frame for one in candidates.of([1, 0])]
    assert frames == sorted(frames)
    assert candidates.of([7]) == []


def test_a_guest_of_30_seconds_in_an_hour_has_as_many_to_choose_from_as_the_host() -> None:
    candidates = offered({0: range(90_000), 1: range(50_001, 50_751)}, most=1000)
    host, guest = ([one.frame for one in candidates.of([track])] for track in (0, 1))
    assert min(len(host), len(guest)) >= 300
    for frames, last in ((host, 89_999), (guest, 50_750)):
        (stride,) = set(np.diff(frames))
        assert last - frames[-1] < stride


def test_of_many_short_shots_none_is_without_a_candidate() -> None:
    candidates = offered({shot: range(shot * 30 + 7, shot * 30 + 37) for shot in range(90)}, most=100)
    assert all(candidates.of([shot]) for shot in range(90))


def test_of_more_tracks_than_there_is_room_for_the_longest_seen_have_one() -> None:
    lengths = {track: 3 + track * 7 % 50 for track in range(50)}
    firsts = np.cumsum([0, *lengths.values()])
    candidates = offered({track: range(firsts[track], firsts[track + 1]) for track in range(50)}, most=10)
    assert {track for track in lengths if candidates.of([track])} == set(sorted(lengths, key=lengths.__getitem__)[-10:])


def test_a_face_that_comes_and_goes_in_step_keeps_what_it_was_seen_by() -> None:
    candidates = offered({0: range(1, 2000, 64), 1: range(2000)}, most=10)
    assert len(candidates.of([0])) >= 1
    assert len(candidates.of([1])) >= 3


def test_faces_with_something_before_the_mouth_or_turned_away_are_not_copied_from() -> None:
    visibility = np.array([1, 1, 0.2, 1, 1, 1, 1, 1], np.float32)
    yaw_deg = np.array([0, -60, 0, 10, 20, 30, np.nan, 70], np.float32)
    fit = fit_to_copy(visibility, yaw_deg)
    assert fit.tolist() == [True, False, False, True, True, True, True, False]
    of_all = [candidate(0.1, frame=frame) for frame in range(8)]
    assert [one.frame for one in fit_ones(of_all, fit)] == [0, 3, 4, 5, 6]


def test_where_too_few_faces_are_fit_all_are_copied_from() -> None:
    of_all = [candidate(0.1, frame=frame) for frame in range(8)]
    assert fit_ones(of_all, np.arange(8) < 4) == of_all
