from pathlib import Path

import numpy as np
import pytest

from tasks.dubbing.footage import footage_of
from tasks.dubbing.timeline import played_frames
from tasks.media.decode import read_frames
from tasks.media.probe import probe


@pytest.mark.parametrize(("source", "frames"), [(25, 60), (7, 20), (2, 5), (1, 3)])
def test_pictures_are_played_in_the_order_of_the_timeline(clip: Path, source: int, frames: int) -> None:
    pictures = [frame.picture for frame in read_frames(clip, 25)]
    played = list(footage_of(clip, probe(clip), "source").played(source, frames))
    assert len(played) == frames
    for shown, index in zip(played, played_frames(frames, source), strict=True):
        assert np.array_equal(shown, pictures[index])


@pytest.mark.parametrize(("source", "frames"), [(25, 60), (7, 7), (7, 20), (2, 5), (1, 3), (25, 4)])
def test_with_a_cut_pictures_begin_again(clip: Path, source: int, frames: int) -> None:
    pictures = [frame.picture for frame in read_frames(clip, 25)]
    played = list(footage_of(clip, probe(clip), "source").played(source, frames, "cut"))
    assert len(played) == frames
    for index, shown in enumerate(played):
        assert np.array_equal(shown, pictures[index % source])
