"""The speech of a dub: how long it lasts, and the mel spectrogram that the networks hear.

Its sound is not held: the output's writer reads it again, piece by piece, or copies it as it is coded.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from schemas.errors import MediaError
from schemas.reasons import Reason
from schemas.settings import MelSettings
from tasks.audio import mel_blocks, waveform_blocks
from tasks.dubbing.frame_arrays import array_of
from tasks.media.container import open_container
from tasks.media.probe import probe
from tasks.media.sound import SoundReader


@dataclass(frozen=True)
class Speech:
    """A speech: its file; its exact length in seconds; mel (frames, 80) float32, 80 frames a second, in a temporary file where it is long."""

    path: Path
    duration_s: Fraction
    mel: npt.NDArray[np.float32]


def read_speech(path: Path) -> Speech:
    """Reads a sound file, or the sound of a video. MediaError when it is missing, no media, or has no sound."""
    info = probe(path)
    if not info.has_audio:
        raise MediaError(Reason.NO_AUDIO, f"There is no sound in {path.name}; give a file with speech.")
    waveform = array_of(waveform_blocks(path), (), np.float32)
    return Speech(path, sound_duration_s(path), array_of(mel_blocks(waveform), (MelSettings().bands,), np.float32))


def sound_duration_s(path: Path) -> Fraction:
    """Exact seconds of a file's sound, its samples one after the other; only a block of them is held. MediaError as `read_speech`."""
    with open_container(path) as container:
        reader = SoundReader(path, container, "flt")
        return Fraction(sum(len(block) for block in reader.blocks()), reader.rate)
