"""Lips and speech: by their motion alone, and by SyncNet, for which a stand-in says what it was shown."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.corpus.syncnet import LARGEST_OFFSET_FRAMES
from tasks.evaluation.lip_sync import filled, lip_speech_correlation, syncnet_scores
from tasks.evaluation.seen_video import see_video
from tasks.faces.landmarks import FaceMesh
from tests.footage import loudness, make_talking_clip, speech_like_sound


def opening(seconds: float, seed: int) -> np.ndarray:
    return loudness((np.arange(round(seconds * 25)) + 0.5) / 25, seed)


def test_lips_that_move_with_the_sound_correlate_and_others_do_not() -> None:
    sound = speech_like_sound(4.0, seed=0)
    assert lip_speech_correlation(opening(4.0, 0), sound) > 0.8
    unlike = np.random.default_rng(0).uniform(0, 1, 100)
    assert abs(lip_speech_correlation(unlike, sound)) < 0.4
    assert lip_speech_correlation(np.full(100, 0.3), sound) == pytest.approx(0.0, abs=1e-9)


def test_a_lost_face_takes_its_neighbours_opening() -> None:
    lips = opening(4.0, 0)
    gappy = lips.copy()
    gappy[50:52] = np.nan
    sound = speech_like_sound(4.0, seed=0)
    assert lip_speech_correlation(gappy, sound) == pytest.approx(lip_speech_correlation(lips, sound), abs=0.1)


@pytest.mark.parametrize(("frames", "sound"), [(20, speech_like_sound(0.8)), (50, np.zeros(32000, np.float32)), (50, np.zeros(0, np.float32))])
def test_too_little_is_not_measured(frames: int, sound: np.ndarray) -> None:
    assert lip_speech_correlation(np.linspace(0, 1, frames), sound) is None


def test_gaps_are_filled_on_a_straight_line() -> None:
    assert filled(np.array([[np.nan], [1.0], [np.nan], [3.0]]))[:, 0].tolist() == [1.0, 1.0, 2.0, 3.0]
    assert np.isnan(filled(np.full((3, 2), np.nan))).all()


class LateBy:
    """A network that embeds every window by its number, so that sound and picture belong together at a known shift."""

    def __init__(self, frames: int, late: int) -> None:
        self.places = torch.eye(frames + 2 * LARGEST_OFFSET_FRAMES) * 10
        self.late, self.shown = late, 0

    def embed_faces(self, pictures: torch.Tensor) -> torch.Tensor:
        assert pictures.shape[1:] == (3, 224, 224)
        windows = len(pictures) - 4
        first = self.shown + LARGEST_OFFSET_FRAMES
        self.shown += windows
        return self.places[first : first + windows]

    def embed_sounds(self, mfcc: torch.Tensor) -> torch.Tensor:
        first = LARGEST_OFFSET_FRAMES - self.late
        return self.places[first : first + len(mfcc)]


def test_syncnets_figures_are_of_the_nearest_shift(tmp_path: Path) -> None:
    clip = make_talking_clip(tmp_path / "clip.mp4", seconds=1.6)
    with FaceMesh() as mesh:
        seen = see_video(clip, 60, mesh)
    scores = syncnet_scores(seen, LateBy(40, late=3))  # type: ignore[arg-type]
    assert scores is not None
    assert (scores.offset_frames, round(scores.distance, 3)) == (3.0, 0.0)
    assert scores.confidence == pytest.approx(10 * 2**0.5, rel=1e-3)
    assert syncnet_scores(seen.first(30), LateBy(40, late=0)) is None  # type: ignore[arg-type]
