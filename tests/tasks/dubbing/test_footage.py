from pathlib import Path

import numpy as np
import pytest

from tasks.dubbing.footage import footage_of
from tasks.dubbing.timeline import played_frames
from tasks.media import decode
from tasks.media.decode import read_frames
from tasks.media.probe import probe
from tests.tasks.media.moving_pictures import number_of, steady, without_length, write_pictures


@pytest.mark.parametrize(("source", "frames"), [(25, 60), (7, 20), (2, 5), (1, 3)])
def test_pictures_are_played_in_the_order_of_the_timeline(clip: Path, source: int, frames: int) -> None:
    pictures = [frame.picture for frame in read_frames(clip, 25)]
    played = list(footage_of(clip, probe(clip), "source").played(source, frames))
    assert len(played) == frames
    for shown, index in zip(played, played_frames(frames, source), strict=True):
        assert np.array_equal(shown, pictures[index])


def test_a_video_of_unsaid_length_is_played_back_from_where_it_turned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = without_length(write_pictures(tmp_path / "v.mp4", steady(40, 25)), tmp_path / "v.mkv")
    monkeypatch.setattr(decode, "PIECE_FRAMES", 8)
    played = footage_of(path, probe(path), "source").played(40, 100)
    assert [number_of(picture) for picture in played] == played_frames(100, 40).tolist()


@pytest.mark.parametrize(("source", "frames"), [(25, 60), (7, 7), (7, 20), (2, 5), (1, 3), (25, 4)])
def test_with_a_cut_pictures_begin_again(clip: Path, source: int, frames: int) -> None:
    pictures = [frame.picture for frame in read_frames(clip, 25)]
    played = list(footage_of(clip, probe(clip), "source").played(source, frames, "cut"))
    assert len(played) == frames
    for index, shown in enumerate(played):
        assert np.array_equal(shown, pictures[index % source])
