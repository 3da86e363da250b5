import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tasks.training.boards import animated_gif, open_boards
from tasks.training.validation import Preview


def read_boards(out: Path) -> EventAccumulator:
    boards = EventAccumulator(str(out / "state" / "tensorboard"))
    boards.Reload()
    return boards


def moving_preview() -> Preview:
    frames = np.zeros((10, 16, 48, 3), np.uint8)
    for frame in range(10):
        frames[frame, :, 4 * frame : 4 * frame + 4] = (255, 0, 0)  # blue
    return Preview(frames, "b0", "clip", 0)


def test_curves_pictures_and_previews(tmp_path: Path) -> None:
    boards = open_boards(str(tmp_path), 0)
    boards.add_scalars("val", {"l1": 0.5, "leak": 0.1}, 5)
    boards.add_picture(np.full((8, 12, 3), (255, 0, 0), np.uint8), 5)
    boards.add_preview(moving_preview(), 5)
    boards.close()
    seen = read_boards(tmp_path)
    assert [(point.step, point.value) for point in seen.Scalars("val/l1")] == [(5, 0.5)]
    picture = Image.open(io.BytesIO(seen.Images("picture")[0].encoded_image_string))
    assert (picture.size, picture.getpixel((3, 3))) == ((12, 8), (0, 0, 255)), "blue stays blue"
    assert Image.open(io.BytesIO(seen.Images("preview")[0].encoded_image_string)).n_frames == 10


def test_a_preview_plays_at_its_own_pace() -> None:
    gif = Image.open(io.BytesIO(animated_gif(moving_preview())))
    assert gif.info["duration"] == 40
    assert gif.size == (48, 16)
    gif.seek(7)
    shown = np.asarray(gif.convert("RGB")).astype(int)
    assert np.abs(shown - moving_preview().frames[7][..., ::-1]).max() < 8


def test_a_resumed_run_hides_the_points_it_makes_again(tmp_path: Path) -> None:
    for next_step, steps, value in ((0, (1, 2, 3), 1.0), (3, (3, 4), 2.0)):
        boards = open_boards(str(tmp_path), next_step)
        for step in steps:
            boards.add_scalars("train", {"l1": value}, step)
        boards.close()
    assert [(point.step, point.value) for point in read_boards(tmp_path).Scalars("train/l1")] == [(1, 1), (2, 1), (3, 2), (4, 2)]


def test_buckets_and_machines_without_tensorboard_have_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for boards in (open_boards("s3://bucket/run", 0), open_boards(str(tmp_path), 0)):
        boards.add_scalars("val", {"l1": 0.5}, 5)
        boards.add_preview(moving_preview(), 5)
        boards.close()
    assert list(tmp_path.iterdir()) == []
