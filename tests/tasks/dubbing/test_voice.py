"""Where somebody speaks, in sounds whose speech is known; and the mouth that comes to rest there where nobody does."""

import json
from pathlib import Path

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from schemas.face_points import CONTENT_INDICES, CONTENT_POSITIONS, LOWER_LIP, POSE_POSITIONS, UPPER_LIP
from tasks.audio import SAMPLE_RATE, mel_spectrogram, read_waveform
from tasks.dubbing.voice import INNER_LIPS, at_rest, closed_content, speaking, spoken_share
from tasks.sample.speech import Voice, speak
from tests.footage import speech_like_sound

RNG = np.random.default_rng(5)
ASTRONAUT = Path(__file__).parents[1] / "faces/astronaut_points.json"
LIPS = range(17, 57)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * SAMPLE_RATE), dtype=np.float32)


def noise(samples: int, level: float) -> np.ndarray:
    return (level * RNG.standard_normal(samples)).astype(np.float32)


def buzz(seconds: float) -> np.ndarray:
    """A vowel-like sound that gets louder and softer, loud at both ends."""
    time_s = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tones = sum(np.sin(2 * np.pi * 130 * harmonic * time_s) / harmonic for harmonic in range(1, 25))
    return (0.1 * tones * (0.7 + 0.3 * np.cos(2 * np.pi * 4 * time_s))).astype(np.float32)


def breath(seconds: float) -> np.ndarray:
    """Hissing noise, soft, above the voice's bands."""
    hiss = np.diff(noise(round(seconds * SAMPLE_RATE) + 1, 0.004))
    return (hiss * np.hanning(len(hiss))).astype(np.float32)


def stretches(mask: np.ndarray) -> list[tuple[float, float]]:
    """Where a mask of mel frames is true, in seconds."""
    edges = np.flatnonzero(np.diff(mask.astype(int), prepend=0, append=0)) / 80
    return list(zip(edges[::2], edges[1::2], strict=True))


def heard(*parts: np.ndarray, room: float = 0.0) -> list[tuple[float, float]]:
    waveform = np.concatenate(parts)
    return stretches(speaking(mel_spectrogram(waveform + noise(len(waveform), room))))


@pytest.mark.parametrize("room", [0.0, 0.0005, 0.01])
def test_a_sound_between_silences_is_heard_where_it_is(room: float) -> None:
    found = heard(silence(0.8), buzz(1.0), silence(0.7), buzz(0.6), silence(0.5), room=room)
    assert np.array(found) == pytest.approx(np.array([(0.8, 1.8), (2.5, 3.1)]), abs=0.06)


def test_a_short_pause_is_part_of_the_word_and_a_longer_one_is_none() -> None:
    assert len(heard(silence(0.5), buzz(0.5), silence(0.2), buzz(0.5), silence(0.5))) == 1
    assert len(heard(silence(0.5), buzz(0.5), silence(0.45), buzz(0.5), silence(0.5))) == 2


@pytest.mark.parametrize("level", [0.0, 0.001, 0.1])
def test_steady_noise_and_silence_are_no_speech(level: float) -> None:
    assert heard(noise(5 * SAMPLE_RATE, level)) == []


def test_a_breath_before_a_sentence_and_a_click_are_no_speech() -> None:
    click = np.pad(np.full(40, 0.3, dtype=np.float32), 8000)
    found = heard(click, breath(0.4), silence(0.1), buzz(1.0), silence(0.6), click, silence(0.6), room=0.0002)
    begin_s = len(click) / SAMPLE_RATE + 0.5
    assert len(found) == 1
    assert begin_s - 0.2 < found[0][0] < begin_s + 0.03  # of what is before the voice at most a consonant's length
    assert found[0][1] == pytest.approx(begin_s + 1.0, abs=0.06)


@pytest.mark.parametrize("text", ["Please bring my blue umbrella.", "Both of them remember the summer by the sea."])
@pytest.mark.parametrize("noise_level", [0.0, 0.003])
def test_a_spoken_sentence_is_one_stretch_from_its_first_sound_to_its_last(text: str, noise_level: float) -> None:
    spoken = speak(text, "en", Voice())
    sentence = soxr.resample(spoken.samples, spoken.sample_rate, SAMPLE_RATE)
    loud = np.flatnonzero(np.abs(sentence) > 0.02) / SAMPLE_RATE
    found = heard(silence(0.6), sentence, silence(0.9), room=noise_level)
    assert len(found) == 1
    assert found[0] == pytest.approx((0.6 + loud[0], 0.6 + loud[-1]), abs=0.15)


def test_a_room_that_becomes_noisy_after_minutes_gets_a_floor_of_its_own() -> None:
    talk = np.concatenate([buzz(1.0), silence(1.0)])
    quiet, loud = np.tile(talk, 30), np.tile(talk, 30)
    waveform = np.concatenate([quiet + noise(len(quiet), 0.0002), loud + noise(len(loud), 0.02)])
    assert len(stretches(speaking(mel_spectrogram(waveform)))) == 60


def test_the_lips_begin_to_open_two_frames_before_the_sound_and_close_after_it() -> None:
    share = spoken_share(mel_spectrogram(np.concatenate([silence(1.0), buzz(1.0), silence(1.0)])), 75)
    assert share[:22].max() == 0
    assert 0.1 < share[23] < 0.5 < share[24] < 1  # the sound begins with step 25
    assert share[25:50].min() > 0.95  # and ends with step 49
    assert 0.5 < share[51] < share[50] < 1
    assert share[54:].max() == 0
    assert np.abs(np.diff(share)).max() < 0.65
    assert share.dtype == np.float32


def test_a_pause_within_a_word_does_not_move_the_mouth_at_all() -> None:
    share = spoken_share(mel_spectrogram(np.concatenate([buzz(1.0), silence(0.2), buzz(1.0)])), 55)
    assert share[2:53].min() == 1


def test_the_share_lasts_as_many_steps_as_asked_for_whatever_the_sound() -> None:
    assert spoken_share(np.empty((0, 80), dtype=np.float32), 3).tolist() == [0, 0, 0]
    share = spoken_share(mel_spectrogram(np.concatenate([silence(0.5), buzz(0.5)])), 40)
    assert share[20] == 1
    assert share[30:].tolist() == [0] * 10  # beyond the sound nobody speaks


@given(arrays.arrays(np.float32, st.tuples(st.integers(0, 200), st.just(80)), elements=st.floats(-4, 4, width=32)), st.integers(0, 60))
def test_any_sound_gives_shares(mel: np.ndarray, steps: int) -> None:
    share = spoken_share(mel, steps)
    assert share.shape == (steps,)
    assert ((share >= 0) & (share <= 1)).all()


def person() -> tuple[np.ndarray, np.ndarray]:
    """Pose (2, 74) and content (2, 57) of the astronaut, in shares of a square box; her lips are parted a little."""
    points = np.array(json.loads(ASTRONAUT.read_text()))
    shares = ((points - points.min(axis=0)) / np.ptp(points, axis=0).max()).T.astype(np.float32)
    return shares[:, list(POSE_POSITIONS)], shares[:, list(CONTENT_POSITIONS)]


def opened(content: np.ndarray, by: float) -> np.ndarray:
    """The lower lip's inner and outer middles and the chin moved down."""
    moved = content.copy()
    moved[1, [LOWER_LIP, INNER_LIPS[1], CONTENT_INDICES.index(152)]] += by
    return moved


def moved_head(face: np.ndarray, turn_deg: float, enlarged: float, shift: tuple[float, float]) -> np.ndarray:
    turn = np.deg2rad(turn_deg)
    matrix = enlarged * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return (matrix @ (face - 0.5) + 0.5 + np.array(shift)[:, None]).astype(np.float32)


@pytest.fixture
def talk() -> tuple[np.ndarray, np.ndarray]:
    """A hundred frames: pose (100, 2, 74) of a head that sways, and content (100, 2, 57) of a mouth that opens and closes."""
    pose, content = person()
    faces = [
        (moved_head(pose, *motion), moved_head(opened(content, 0.05 * (1 - np.cos(frame / 3))), *motion))
        for frame in range(100)
        for motion in [(4 * np.sin(frame / 9), 1 + 0.03 * np.sin(frame / 7), (0.02 * np.sin(frame / 5), 0.01))]
    ]
    return np.stack([face[0] for face in faces]), np.stack([face[1] for face in faces])


ALL = np.ones(100, dtype=bool)


def test_the_mouth_rests_closed_and_goes_with_the_head(talk: tuple[np.ndarray, np.ndarray]) -> None:
    pose, content = talk
    closed = closed_content(pose, content, ALL, ALL)
    resting = at_rest(content, pose, np.zeros(100, dtype=np.float32), closed)
    _, closed_face = person()
    truth = np.stack([moved_head(closed_face, 4 * np.sin(f / 9), 1 + 0.03 * np.sin(f / 7), (0.02 * np.sin(f / 5), 0.01)) for f in range(100)])
    np.testing.assert_allclose(resting, truth, atol=0.003)
    assert np.ptp(resting[:, 0, UPPER_LIP]) > 0.03  # the head's motion stays


def test_the_mouth_is_untouched_where_somebody_speaks_and_glides_between(talk: tuple[np.ndarray, np.ndarray]) -> None:
    pose, content = talk
    spoken = np.interp(np.arange(100), [30, 33, 60, 63], [1, 0, 0, 1]).astype(np.float32)
    content[10] = opened(content[10], -0.01)  # a bilabial within speech: lips pressed more than at rest
    quiet = at_rest(content, pose, spoken, closed_content(pose, content, ALL, ALL))
    assert np.array_equal(quiet[spoken == 1], content[spoken == 1])
    opening = np.linalg.norm(quiet[:, :, UPPER_LIP] - quiet[:, :, LOWER_LIP], axis=1)
    assert np.ptp(opening[33:61]) < 0.011  # the head comes nearer by 6 %
    assert np.ptp(opening[:31]) > 0.08
    step = np.linalg.norm(np.diff(quiet[:, :, LIPS], axis=0), axis=1).max(axis=1)
    assert step[28:36].max() < 0.06  # no jump where the mouth leaves the speech


def test_frames_without_a_face_and_guessed_ones_make_no_closed_mouth(talk: tuple[np.ndarray, np.ndarray]) -> None:
    pose, content = talk
    truth = closed_content(pose, content, ALL, ALL)
    seen, detected = ALL.copy(), ALL.copy()
    seen[5:15] = False
    content[5:15] = np.nan
    guessed = [40, 41, 42, 43, 44, 45]
    content[guessed, :, INNER_LIPS[1]] = content[guessed, :, INNER_LIPS[0]]
    content[guessed] += 0.1
    detected[guessed] = False
    np.testing.assert_allclose(closed_content(pose, content, seen, detected), truth, atol=0.2)  # centimetres
    all_guessed = closed_content(pose, content, seen, ~ALL)
    assert np.abs(all_guessed - truth).max() > 1
    np.testing.assert_array_equal(all_guessed, closed_content(pose, content, seen, ALL))
    with pytest.raises(ValueError, match="no frame has a face"):
        closed_content(pose, content, ~ALL, ALL)


@pytest.mark.parametrize("name", ["c28_grid_bbaf2n_360x288.mpg", "c31_grid_lbbc2a_360x288.mpg", "c33_grid_pwij3p_360x288.mpg", "c35_grid_sbwe5n_360x288.mpg"])
def test_a_grid_sentence_begins_and_ends_in_silence(shared: Path, name: str) -> None:
    found = stretches(speaking(mel_spectrogram(read_waveform(shared / "data/corpus" / name))))
    assert len(found) == 1
    (begin_s, end_s) = found[0]
    assert 0.4 < begin_s < 1.1
    assert 1.9 < end_s < 2.5


def test_the_silent_ends_and_the_silent_track_of_real_files_are_heard(shared: Path) -> None:
    padded = stretches(speaking(mel_spectrogram(read_waveform(shared / "data/audio/a08_en_silence_padding.wav"))))
    assert np.array(padded) == pytest.approx(np.array([(2.1, 3.75)]), abs=0.1)
    assert not speaking(mel_spectrogram(read_waveform(shared / "data/hard/x10_silent_audio_track.mp4"))).any()


def test_the_speech_that_other_tests_make_is_heard_as_speech() -> None:
    assert speaking(mel_spectrogram(speech_like_sound(2.0))).mean() > 0.8
