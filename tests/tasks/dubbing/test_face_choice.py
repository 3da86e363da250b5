import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import MediaError
from tasks.audio import SAMPLE_RATE
from tasks.dubbing.appearance import Look
from tasks.dubbing.face_choice import FollowedFace, lips_follow, person_of
from tasks.faces.crop import Box
from tests.footage import loudness, speech_like_sound

LIGHT = np.random.default_rng(0).standard_normal((5, 144)).astype(np.float32)


def look(person: int) -> Look:
    """Looks of different persons have nothing to do with each other."""
    light = LIGHT[person] - LIGHT[person].mean()
    return Look(light / light.std(), np.zeros(288, dtype=np.float32))


def face(
    track: int, person: int | None, first: int, frames: int = 10, *, x: float = 0.0, px: float = 100.0, shot: int = 0, decided_until: int = 1000
) -> FollowedFace:
    box = Box(x, 0.0, x + px, px)
    followed = FollowedFace(track, shot, first, first, box, box, looks=[] if person is None else [look(person)])
    for frame in range(first, first + frames):
        followed.add(frame, box, decides=frame < decided_until)
    return followed


def chosen(faces: list[FollowedFace], choice: str = "largest", follows: dict[int, float] | None = None, pictured: int = 0) -> list[int]:
    return person_of(faces, choice, lambda one: (follows or {}).get(one.track, 0.0), lambda: look(pictured), "talk.mp4")


def test_the_largest_is_a_person_and_not_a_track() -> None:
    """Person 1 is the larger one in one shot, person 0 fills more of the video."""
    faces = [face(0, 0, 0), face(1, 0, 20, shot=1), face(2, 0, 40, shot=2), face(3, 1, 60, px=150, shot=3)]
    assert chosen(faces) == [0, 1, 2]


def test_whoever_else_fills_a_shot_is_left_out() -> None:
    assert chosen([face(0, 0, 0, 50), face(1, 1, 50, 20, shot=1), face(2, 0, 70, 50, shot=2)]) == [0, 2]


@pytest.mark.parametrize("choice", ["largest", "speaking", "left", "0"])
def test_the_beginning_decides_whatever_comes_later(choice: str) -> None:
    """The host greets alone; the guest is larger, stands left of him, speaks more, and fills the rest. The host is found again in the end."""

    def dubbed(frames: int) -> list[int]:
        seen = [
            face(0, 0, 0, 50, x=500, decided_until=60),
            face(1, 1, 55, 900, px=300, shot=1, decided_until=60),
            face(2, 0, 960, 40, shot=2, decided_until=60),
        ]
        return chosen([one for one in seen if one.first < frames], choice, follows={0: 0.9, 1: 0.9, 2: 0.9})

    assert dubbed(60) == [0]
    assert dubbed(1000) == [0, 2]


def test_nobody_is_two_faces_at_once() -> None:
    """A face on a screen behind looks like the speaker's."""
    assert chosen([face(0, 0, 0, 50, px=200), face(1, 0, 10, 5, x=400)]) == [0]


def test_a_face_found_again_in_its_place_is_the_persons_though_it_looks_different() -> None:
    turned_away = face(1, 1, 60, x=20.0)
    assert chosen([face(0, 0, 0, 50), turned_away]) == [0, 1]
    assert chosen([face(0, 0, 0, 50), face(1, 1, 60, x=500.0)]) == [0]
    assert chosen([face(0, 0, 0, 50), face(1, 1, 60, x=20.0, shot=1)]) == [0]


def test_faces_count_from_left_to_right_where_the_most_are_seen() -> None:
    faces = [face(0, 0, 0, 50), face(1, 0, 60, x=300, shot=1), face(2, 1, 60, x=10, shot=1), face(3, 2, 65, x=600, shot=1)]
    assert chosen(faces, "0") == chosen(faces, "left") == [2]
    assert chosen(faces, "1") == [0, 1]
    assert chosen(faces, "2") == chosen(faces, "right") == [3]
    with pytest.raises(MediaError, match=r"At most 3 faces are seen at once in talk.mp4 .*, so there is no face 3"):
        chosen(faces, "3")
    with pytest.raises(MediaError, match="At most one face is"):
        chosen(faces[:1], "1")


def test_the_speaking_one_is_who_speaks_for_longest_and_else_the_largest() -> None:
    faces = [face(0, 0, 0, 50, px=200), face(1, 1, 0, 50, x=400), face(2, 2, 0, 50, x=600)]
    assert chosen(faces, "speaking", {1: 0.5, 2: 0.3}) == [1]
    assert chosen(faces, "speaking", {1: 0.2, 2: 0.1}) == [0]


def test_a_picture_names_a_person_or_nobody() -> None:
    faces = [face(0, 0, 0, 50), face(1, 1, 60, shot=1)]
    assert chosen(faces, "her.png", pictured=1) == [1]
    with pytest.raises(MediaError, match=r"None of the faces in talk.mp4 looks like the one in her.png"):
        chosen(faces, "her.png", pictured=3)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(1, 20), st.integers(0, 3)), min_size=1, max_size=12))
def test_whatever_is_followed_no_frame_has_two_chosen_faces(tracks: list[tuple[int, int, int, int]]) -> None:
    faces = [face(track, person, first, frames, x=150.0 * place) for track, (person, first, frames, place) in enumerate(tracks)]
    taken = [followed for followed in faces if followed.track in chosen(faces)]
    shown = [frame for followed in taken for frame in range(followed.first, followed.last + 1)]
    assert shown
    assert len(shown) == len(set(shown))


@pytest.mark.parametrize("fps", [24.0, 25.0, 60.0])
def test_lips_that_move_with_the_sound_follow_it_at_any_rate(fps: float) -> None:
    sound = speech_like_sound(6.0, seed=0)
    time_s = 2.0 + np.arange(round(3 * fps)) / fps
    own, other = (loudness(time_s, seed).astype(np.float32) for seed in (0, 1))
    assert lips_follow(own, 2.0, fps, sound) > 0.8
    assert lips_follow(other, 2.0, fps, sound) < 0.6
    assert lips_follow(np.full(75, 0.1, np.float32), 2.0, fps, sound) == 0.0
    assert lips_follow(own[:10], 2.0, fps, sound) == 0.0
    assert lips_follow(own, 2.0, fps, sound[: 2 * SAMPLE_RATE]) == 0.0
