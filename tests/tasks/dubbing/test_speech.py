"""What is heard of a speech: its exact length and its mel spectrogram, without holding its sound."""

import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile

from schemas.errors import MediaError
from schemas.reasons import Reason
from tasks.audio import mel_spectrogram, read_sound, read_waveform
from tasks.dubbing.speech import read_speech
from tests.footage import make_speech, make_talking_clip


@pytest.mark.parametrize(("rate", "samples"), [(44100, 50001), (16000, 7), (48000, 48000)])
def test_its_length_is_exact(tmp_path: Path, rate: int, samples: int) -> None:
    soundfile.write(tmp_path / "s.wav", np.zeros((samples, 2)), rate)
    assert read_speech(tmp_path / "s.wav").duration_s == Fraction(samples, rate)


def test_it_may_be_the_sound_of_a_video(tmp_path: Path) -> None:
    clip = make_talking_clip(tmp_path / "clip.mp4", seconds=0.5)
    speech = read_speech(clip)
    sound = read_sound(clip)
    assert speech.duration_s == Fraction(len(sound.samples), sound.sample_rate)
    assert np.array_equal(speech.mel, mel_spectrogram(read_waveform(clip)))


def test_its_sound_is_not_held(tmp_path: Path) -> None:
    """Six minutes of stereo at 48 kHz are 138 MB as samples."""
    soundfile.write(tmp_path / "s.flac", np.zeros((360 * 48000, 2), np.int16), 48000)
    tracemalloc.start()
    try:
        assert read_speech(tmp_path / "s.flac").duration_s == 360
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


def test_without_sound_it_is_no_speech(tmp_path: Path) -> None:
    mute = make_talking_clip(tmp_path / "mute.mp4", seconds=0.2, sound=False)
    with pytest.raises(MediaError) as caught:
        read_speech(mute)
    assert caught.value.reason is Reason.NO_AUDIO
    with pytest.raises(MediaError):
        read_speech(make_speech(tmp_path / "s.wav").with_name("none.wav"))
