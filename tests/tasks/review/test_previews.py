"""The source is played beside a dub as the dub plays it."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tasks.dubbing.footage import footage_of
from tasks.dubbing.timeline import played_frames
from tasks.media.decode import read_frames
from tasks.media.probe import probe
from tasks.review.previews import Look, played_pictures
from tests.footage import make_talking_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_talking_clip(tmp_path_factory.mktemp("footage") / "clip.mp4", seconds=0.4)


@pytest.mark.parametrize("loop", ["forth-and-back", "cut"])
@pytest.mark.parametrize("frames", [6, 10, 25])
def test_frame_by_frame_it_is_what_the_dub_was_made_over(clip: Path, loop: str, frames: int) -> None:
    source = [frame.picture for frame in read_frames(clip, 25)]
    shown = list(played_pictures(footage_of(clip, probe(clip), "source"), frames, loop))
    expected = played_frames(frames, len(source), loop)
    assert len(source) == 10
    assert len(shown) == frames
    assert all(np.array_equal(picture, source[number]) for picture, number in zip(shown, expected, strict=True))


def test_a_still_picture_stands_still(tmp_path: Path) -> None:
    picture = np.full((64, 48, 3), 90, np.uint8)
    cv2.imwrite(str(tmp_path / "face.png"), picture)
    shown = list(played_pictures(footage_of(tmp_path / "face.png", probe(tmp_path / "face.png"), "source"), 4, "cut"))
    assert [np.array_equal(one, picture) for one in shown] == [True] * 4


def test_what_is_higher_is_made_smaller_with_even_sides_and_nothing_is_made_larger(clip: Path) -> None:
    info = probe(clip)
    assert Look.of(info, 145, 23).height == 144
    assert Look.of(info, 2000, 23).height == info.height
    assert Look.of(info, 101, 23).width % 2 == 0
