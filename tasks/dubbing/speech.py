"""The speech of a dub: its sound as it will be heard, and the mel spectrogram that the networks hear."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from schemas.errors import MediaError
from schemas.reasons import Reason
from tasks.audio import mel_spectrogram, read_sound, read_waveform
from tasks.media.encode import Sound
from tasks.media.probe import probe


@dataclass(frozen=True)
class Speech:
    """A speech: sound at its own rate and channels; mel (frames, 80) float32, 80 frames a second."""

    sound: Sound
    mel: npt.NDArray[np.float32]

    @property
    def duration_s(self) -> Fraction:
        """Exact seconds of sound."""
        return Fraction(len(self.sound.samples), self.sound.sample_rate)


def read_speech(path: Path) -> Speech:
    """Reads a sound file, or the sound of a video. MediaError when it is missing, no media, or has no sound."""
    info = probe(path)
    if not info.has_audio:
        raise MediaError(Reason.NO_AUDIO, f"There is no sound in {path.name}; give a file with speech.")
    return Speech(read_sound(path), mel_spectrogram(read_waveform(path)))
