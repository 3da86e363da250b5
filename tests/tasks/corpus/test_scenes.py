import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from tasks.corpus.scenes import cut_finder, reduced
from tasks.media.decode import read_frames
from tests.footage import portrait, talking_picture


def scene(hue: int, frames: int, size: tuple[int, int] = (160, 120)) -> list[np.ndarray]:
    """A drawing of its own colours with a spot that moves through it."""
    rng = np.random.default_rng(hue)
    back = cv2.resize(rng.integers(0, 255, (4, 6, 3), dtype=np.uint8), size, interpolation=cv2.INTER_CUBIC)
    return [cv2.circle(back.copy(), (20 + 4 * index, 60), 12, (255, 255, 255), -1) for index in range(frames)]


def cuts(pictures: list[np.ndarray], threshold: float | None = 27.0) -> list[int]:
    is_cut = cut_finder(threshold)
    return [index for index, picture in enumerate(pictures) if is_cut(picture)]


def test_each_change_of_scene_is_a_cut_where_the_new_scene_begins() -> None:
    assert cuts(scene(1, 20) + scene(2, 7) + scene(3, 20)) == [20, 27]


def test_cuts_that_follow_each_other_are_all_found_at_once() -> None:
    """A shortest scene would merge them, or report them late."""
    assert cuts(scene(1, 5) + scene(2, 1) + scene(3, 2) + scene(1, 5)) == [5, 6, 8]


def test_what_moves_is_no_cut() -> None:
    head = portrait((256, 256))
    assert cuts([talking_picture(head, np.sin(index) ** 2, 8 * np.sin(index)) for index in range(40)]) == []


def test_the_first_picture_is_no_cut_and_a_new_finder_remembers_nothing() -> None:
    for number in (1, 2):
        assert cuts(scene(number, 1)) == []


def test_a_higher_threshold_lets_smaller_changes_pass() -> None:
    pictures = scene(1, 5) + scene(2, 5)
    assert cuts(pictures, threshold=250.0) == []
    assert cuts(pictures, threshold=None) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (2160, 3840), (1920, 1080), (77, 33)])
def test_pictures_of_any_shape_are_reduced_alike(shape: tuple[int, int]) -> None:
    small = reduced(np.full((*shape, 3), 90, dtype=np.uint8))
    assert max(small.shape[:2]) == 64
    assert (small == 90).all()


def test_it_costs_less_than_half_a_millisecond_a_frame_at_1080p() -> None:
    pictures = scene(1, 30, size=(1920, 1080))
    is_cut = cut_finder(27.0)
    spent_s = []
    for picture in pictures:
        begin_s = time.thread_time()
        is_cut(picture)
        spent_s.append(time.thread_time() - begin_s)
    assert sorted(spent_s)[len(spent_s) // 4] < 0.0005


def test_the_three_cuts_of_real_footage(shared: Path) -> None:
    frames = read_frames(shared / "data/hard/x06_scene_cuts_multi.mp4", 25, threads=1)
    assert cuts([cv2.resize(frame.picture, (320, 180), interpolation=cv2.INTER_AREA) for frame in frames]) == [17, 68, 176]


def test_a_long_take_has_none(shared: Path) -> None:
    assert cuts([frame.picture for frame in read_frames(shared / "data/corpus/c19_woman_speech_512_5s.mp4", 25, threads=1)]) == []
