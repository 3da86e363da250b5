"""The speech of a dub: how long it lasts, and the mel spectrogram that the networks hear.

Its sound is not held: the output's writer reads it again, piece by piece, or copies it as it is coded.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from schemas.errors import MediaError
from schemas.reasons import Reason
from schemas.settings import MelSettings
from tasks.audio import Waveform, mel_blocks, resampled
from tasks.dubbing.frame_arrays import array_of, let_go
from tasks.media.container import open_container
from tasks.media.probe import probe
from tasks.media.sound import Block, SoundReader


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
    waveform, duration_s = waveform_of(path)
    return Speech(path, duration_s, mel_of(waveform))


def waveform_of(path: Path) -> tuple[Waveform, Fraction]:
    """The waveform of `tasks.audio.read_waveform`, in a temporary file where it is long, and the sound's exact seconds at its own rate.

    The file is decoded once. MediaError as `read_speech`.
    """
    with open_container(path) as container:
        sound = SoundReader(path, container, "s16")
        samples = 0

        def counted() -> Iterator[Block]:
            nonlocal samples
            for block in sound.blocks():
                samples += len(block)
                yield block

        waveform = array_of(resampled(counted(), sound.rate), (), np.float32)
        return waveform, Fraction(samples, sound.rate)


def mel_of(waveform: Waveform) -> npt.NDArray[np.float32]:
    """The mel spectrogram (frames, 80) float32 in -4..4 of a 16 kHz waveform (n,), in a temporary file where it is long.

    What of the two is in temporary files is not left in memory.
    """
    return array_of(_mel_pieces(waveform), (MelSettings().bands,), np.float32)


def _mel_pieces(waveform: Waveform) -> Iterator[npt.NDArray[np.float32]]:
    for piece in mel_blocks(waveform):
        yield piece
        let_go(waveform)
