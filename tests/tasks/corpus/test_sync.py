"""The A/V offset of made-up talk: lips that open when a voice is loud, and a voice that comes too late or too early."""

from pathlib import Path

import numpy as np
import pytest

from tasks.corpus.sync import FRAME_SAMPLES, LARGEST_OFFSET_FRAMES, NOT_MEASURED, SHORTEST_FRAMES, SyncMeasure, lip_sync_offset


def talk(frames: int, late_frames: float = 0.0, seed: int = 0, unrest: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Lip openings (frames,) and a voice of the same length that comes so much later; unrest: of the landmarks, share of the box."""
    random = np.random.default_rng(seed)
    time_s = np.arange(-100, frames + 100) / 25  # syllables of changing length and loudness, on beyond both ends
    loudness = np.interp(time_s, np.cumsum(random.uniform(0.06, 0.3, 4000)) - 10, random.uniform(0, 1, 4000))
    opening = 0.05 + 0.1 * loudness[100 : 100 + frames] + unrest * random.standard_normal(frames)
    sample_s = np.arange(frames * FRAME_SAMPLES) / 16000 - late_frames / 25
    voice = sum(np.sin(2 * np.pi * 120 * harmonic * sample_s) / harmonic for harmonic in range(1, 15))
    return opening, (0.1 * voice * np.interp(sample_s, time_s, loudness)).astype(np.float32)


@pytest.mark.parametrize("late_frames", [-10, -8, -3, -1, 0, 1, 5, 8, 10])
def test_a_late_sound_is_positive_and_an_early_one_negative(late_frames: int) -> None:
    measure = lip_sync_offset(*talk(150, late_frames))
    assert measure.offset_frames == pytest.approx(late_frames, abs=0.5)
    assert measure.confidence is not None
    assert measure.confidence > 0.9


def test_offsets_between_frames() -> None:
    found = [lip_sync_offset(*talk(250, late)).offset_frames for late in (2.0, 2.25, 2.5, 2.75, 3.0)]
    assert found == sorted(found)  # type: ignore[type-var]
    assert found[2] == pytest.approx(2.5, abs=0.3)


def test_a_voice_that_is_somebody_elses_gives_no_confidence() -> None:
    confidences = [lip_sync_offset(talk(150, seed=seed)[0], talk(150, seed=seed + 100)[1]).confidence for seed in range(30)]
    assert sum(confidence >= 0.5 for confidence in confidences if confidence is not None) <= 2


def test_confidence_is_the_share_of_estimates_that_are_right() -> None:
    """Over talk of every quality: sure ones are nearly all right, and of those that say 0.5 to 0.8 more than half are."""
    found = [(late, lip_sync_offset(*talk(75, late, seed, unrest))) for seed in range(50) for unrest in (0.02, 0.05, 0.1) for late in (-6, 4)]
    assert share_right(found, 0.8, 1.0) > 0.95
    assert share_right(found, 0.5, 0.8) > 0.6
    assert share_right(found, 0.0, 0.3) < 0.6


def share_right(found: list[tuple[int, SyncMeasure]], least: float, most: float) -> float:
    right = [abs(m.offset_frames - late) <= 1.5 for late, m in found if m.confidence is not None and least <= m.confidence <= most]  # type: ignore[operator]
    assert len(right) >= 20
    return float(np.mean(right))


def test_neither_loudness_nor_the_size_of_a_mouth_matters() -> None:
    opening, voice = talk(100, 3)
    usual, quiet = lip_sync_offset(opening, voice), lip_sync_offset(0.3 * opening, voice / 8)
    assert quiet.offset_frames == pytest.approx(usual.offset_frames, abs=0.01)
    assert quiet.confidence == pytest.approx(usual.confidence, abs=0.01)


@pytest.mark.parametrize(
    ("opening", "voice"),
    [
        (talk(SHORTEST_FRAMES - 1)[0], talk(SHORTEST_FRAMES - 1)[1]),
        (np.full(100, 0.1), talk(100)[1]),
        (np.linspace(0.0, 0.5, 100), talk(100)[1]),
        (talk(100)[0], np.zeros(100 * FRAME_SAMPLES, dtype=np.float32)),
        (talk(100)[0], np.zeros(0, dtype=np.float32)),
    ],
    ids=["too short", "still lips", "a yawn", "silence", "no sound"],
)
def test_what_cannot_be_measured_is_not(opening: np.ndarray, voice: np.ndarray) -> None:
    measure = lip_sync_offset(opening, voice)
    assert measure == NOT_MEASURED or (measure.confidence or 0) < 0.1


def test_an_offset_beyond_the_search_is_not_believed() -> None:
    confidence = lip_sync_offset(*talk(100, LARGEST_OFFSET_FRAMES + 8)).confidence
    assert confidence is not None
    assert confidence < 0.5


def test_syncnets_example_has_the_published_offset(shared: Path) -> None:
    """Published: "AV offset: 3", in SyncNet's sign a sound that comes 3 frames before the picture."""
    from tasks.faces.landmarks import FaceMesh
    from tests.bench.av_offset import read_clip

    with FaceMesh() as mesh:
        opening, waveform = read_clip(shared / "data/corpus/c25_man_glasses_syncnet_example_224.avi", mesh)
    measure = lip_sync_offset(opening, waveform)
    assert measure.offset_frames == pytest.approx(-3, abs=0.5)
    assert measure.confidence is not None
    assert measure.confidence > 0.9
