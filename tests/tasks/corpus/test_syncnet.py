"""How SyncNet is fed and read. Its own network is tested beside its model; here a stand-in says what it saw."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from schemas.settings import CropSettings
from tasks.corpus import syncnet
from tasks.corpus.sync import NOT_MEASURED
from tasks.corpus.syncnet import HALF_SURE_DISTANCE, LARGEST_OFFSET_FRAMES, SHORTEST_FRAMES, SyncNetMeter, crop_square, crop_squares, mfcc, offset_of
from tasks.faces.crop import face_box, relative_points, split_points
from tests.footage import make_talking_clip, speech_like_sound


@pytest.mark.parametrize("late_frames", [-15, -3, 0, 4, 15])
def test_embeddings_of_a_known_shift_give_that_offset(late_frames: int) -> None:
    """The sound of frame n + late_frames goes with the picture of frame n: it comes so much later."""
    both = torch.randn(200, 64, generator=torch.Generator().manual_seed(0))
    faces, sounds = both[20:120], both[20 - late_frames : 120 - late_frames]
    measure = offset_of(faces, sounds + 0.2 * torch.randn(100, 64))
    assert measure.offset_frames == late_frames
    assert measure.confidence is not None
    assert measure.confidence > 0.5


def test_confidence_is_half_where_users_of_syncnet_begin_to_believe_it() -> None:
    """Embeddings on a line: every shift but the right one is HALF_SURE_DISTANCE further away than that."""
    steps = torch.arange(60.0)
    faces, sounds = torch.stack([steps * 0, steps * 0], 1), torch.stack([steps * 0, steps * 0], 1)
    assert offset_of(faces, sounds).confidence == pytest.approx(0.0, abs=1e-4)
    alone = torch.eye(60) * (HALF_SURE_DISTANCE / 2**0.5)
    assert offset_of(alone, alone).confidence == pytest.approx(0.5, abs=1e-3)


def test_too_few_pairs_are_not_measured() -> None:
    assert offset_of(torch.randn(LARGEST_OFFSET_FRAMES, 8), torch.randn(99, 8)) == NOT_MEASURED
    clip = SimpleNamespace(segment=SimpleNamespace(frames=(None,) * (SHORTEST_FRAMES - 1)))
    assert SyncNetMeter(network=None).measure(clip, 25) == NOT_MEASURED  # type: ignore[arg-type]


def test_coefficients_are_those_of_python_speech_features() -> None:
    """Figures of python_speech_features 0.6, mfcc(samples, 16000)[3], of a 16-bit tone of 440 Hz."""
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(1600) / 16000)).astype(np.int16)
    theirs = [19.0658, 26.0436, 9.4287, -7.5603, -21.8733, -29.2005, -25.8766, -15.2295, -0.1337, 12.4211, 20.0187, 19.0957, 12.2644]
    assert mfcc((tone / 32768).astype(np.float32))[:, 3] == pytest.approx(theirs, abs=1e-3)


@pytest.mark.parametrize(("samples", "columns"), [(0, 1), (300, 1), (400, 1), (401, 2), (16000, 99), (640 * 25, 99)])
def test_coefficients_come_a_hundred_times_a_second(samples: int, columns: int) -> None:
    coefficients = mfcc(np.zeros(samples, dtype=np.float32))
    assert coefficients.shape == (13, columns)
    assert np.isfinite(coefficients).all()


def test_a_crop_shows_the_square_and_grey_outside_the_picture() -> None:
    picture = np.zeros((100, 200, 3), dtype=np.uint8)
    picture[:, 100:] = 250
    crop = crop_square(picture, x=100, y=50, side=60)
    assert crop.shape == (224, 224, 3)
    assert (crop[:, :108] == 0).all()
    assert (crop[:, 116:] == 250).all()
    assert (crop_square(picture, x=0, y=0, side=56)[:100] == 110).all()


def test_a_jump_of_the_box_moves_no_crop() -> None:
    points = np.random.default_rng(0).uniform(100, 200, (131, 2))
    steady, jumped = cut_frame(points), cut_frame(points + 40)
    squares = crop_squares((steady,) * 10 + (jumped,) + (steady,) * 10)
    assert np.ptp(squares, axis=0) == pytest.approx([0, 0, 0], abs=1e-3)
    middle, longer = (points.min(0) + points.max(0)) / 2, np.ptp(points, axis=0).max()
    assert squares[0] == pytest.approx([middle[0], middle[1] + 0.13 * longer, 1.71 * longer], abs=0.01)


def test_a_clip_is_read_again_from_its_own_frames_on(tmp_path: Path) -> None:
    """A stand-in embeds a face by its mean grey and a sound by its number: it must see one face a frame of the clip."""
    seen: list[torch.Tensor] = []
    network = SimpleNamespace(
        embed_faces=lambda pictures: seen.append(pictures) or torch.arange(len(pictures) - 4.0)[:, None],
        embed_sounds=lambda pieces: torch.arange(float(len(pieces)))[:, None],
    )
    meter = SyncNetMeter(network)  # type: ignore[arg-type]
    path = make_talking_clip(tmp_path / "clip.mp4", seconds=1.8, size=(128, 128))
    clip = made_clip(path, start_frame=5, frames=40)
    measure = meter.measure(clip, 25)  # type: ignore[arg-type]
    windows = [len(pictures) - 4 for pictures in seen]
    assert sum(windows) == 40 - 4
    assert seen[0].shape[1:] == (3, 224, 224)
    assert float(seen[0].max()) > 1  # not 0..1
    assert measure.offset_frames is not None
    first = crop_square(next(syncnet.read_frames(clip.path, 25, 5)).picture, *crop_squares(clip.segment.frames)[0])
    assert torch.equal(seen[0][0], torch.from_numpy(first).permute(2, 0, 1).float())


def test_a_source_that_went_away_is_not_measured(tmp_path: Path) -> None:
    gone = made_clip(tmp_path / "gone.mp4", start_frame=0, frames=40)
    assert SyncNetMeter(SimpleNamespace()).measure(gone, 25) == NOT_MEASURED  # type: ignore[arg-type]


def cut_frame(points: np.ndarray) -> SimpleNamespace:
    """What a crop is computed from, of a face in a picture of 400 x 400."""
    crop = CropSettings()
    box = face_box(points, (400, 400), crop)
    pose, content = split_points(relative_points(points, box, crop))
    return SimpleNamespace(box=box, pose=pose, content=content)


def made_clip(path: Path, start_frame: int, frames: int) -> SimpleNamespace:
    """Frames of a file as a clip."""
    face = cut_frame(np.random.default_rng(0).uniform(30, 90, (131, 2)))
    segment = SimpleNamespace(frames=(face,) * frames, start_frame=start_frame)
    return SimpleNamespace(clip_id="0-s0t0", path=path, segment=segment, waveform=speech_like_sound(frames / 25))
