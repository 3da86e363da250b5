"""What speeches of some minutes take of memory: `python -m tests.tasks.dubbing.memory_of_a_speech FOLDER MINUTES...` says their peaks, in MB, as JSON.

All that a part of a dub does before and after its pictures, over landmarks that are random: reading, resting, generating, judging.
"""

import json
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import soundfile

from tasks.audio import SAMPLE_RATE
from tasks.dubbing import frame_arrays
from tasks.dubbing.confidence import evidence
from tasks.dubbing.findings import SpeechFacts
from tasks.dubbing.frame_arrays import array_of, let_go
from tasks.dubbing.reference_choice import References
from tasks.dubbing.speech import read_speech, waveform_of
from tasks.dubbing.spoken import SpokenVideo
from tasks.dubbing.template import Template
from tasks.mel_windows import mel_windows, window_starts

FPS = 25
MINUTE = 60 * FPS
HELD_BYTES = 2**20
"""Less than usual, so that minutes show what hours do; more than the mouth of one minute."""


class Mumbler:
    """Stands for the landmark generator: reads the head's landmarks and the sound as that does."""

    def speak(self, pose: np.ndarray, steps: range, mel: np.ndarray, *_: np.ndarray) -> np.ndarray:
        """The upper face for a mouth, moved by the sound."""
        loudness = mel_windows(mel, window_starts(np.array(steps))).mean(axis=(1, 2, 3))
        return (pose[:, :, :57] + loudness[:, None, None]).astype(np.float32)


def peak_mb(work: Callable[[], object]) -> tuple[object, float]:
    """What some work gives, and the most memory that this process had meanwhile."""
    Path("/proc/self/clear_refs").write_text("5")
    given = work()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return given, int(status["VmHWM"].split()[0]) / 1000


def sound(path: Path, minutes: int) -> Path:
    """Noise that comes and goes."""
    rng = np.random.default_rng(0)
    minute = 0.1 * rng.standard_normal(60 * SAMPLE_RATE) * np.repeat(rng.random(120), SAMPLE_RATE // 2)
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1) as file:
        for _ in range(minutes):
            file.write(minute)
    return path


def template(minutes: int) -> Template:
    """A face with a cut each minute."""
    rng = np.random.default_rng(1)
    frames, face = minutes * MINUTE, rng.random((1, 2, 131))
    pieces = ((face + 0.01 * rng.standard_normal((MINUTE, 2, 131))).astype(np.float32) for _ in range(minutes))
    landmarks = array_of(pieces, (2, 131), np.float32)
    let_go(landmarks)
    pictures = np.zeros((1, 16, 16, 3), dtype=np.uint8)
    references = References(landmarks[:5, :, :74].copy(), landmarks[:5, :, 74:].copy(), faces=pictures, sketches=pictures)
    tracks = np.arange(frames, dtype=np.int32) // MINUTE
    ones, boxes = np.ones(frames, dtype=np.float32), np.tile([0.0, 0.0, 64.0, 64.0], (frames, 1))
    return Template(landmarks[:, :, :74], landmarks[:, :, 74:], boxes, tracks, references, tracks, 0 * ones, 64 * ones, ones > 0, ones)


def peaks_mb(minutes: int, folder: Path) -> dict[str, float]:
    """Of each stage."""
    path, seen = sound(folder / f"{minutes}.wav", minutes), template(minutes)
    speech, reading = peak_mb(lambda: read_speech(path))
    played = np.arange(minutes * MINUTE)
    spoken, speaking = peak_mb(lambda: SpokenVideo(seen, speech.mel, Fraction(FPS), played, Mumbler()))
    spoken.let_go()
    openings = np.zeros(len(played), dtype=np.float32)
    _, judging = peak_mb(lambda: evidence(seen, played, openings + 1, openings, FPS))
    _, checking = peak_mb(lambda: SpeechFacts.of(waveform_of(path)[0]))
    return {"read": reading, "spoken": speaking, "judged": judging, "checked": checking}


if __name__ == "__main__":
    frame_arrays.HELD_BYTES = HELD_BYTES
    where = Path(sys.argv[1])
    peaks_mb(1, where)  # what is imported and computed once
    print(json.dumps([peaks_mb(int(minutes), where) for minutes in sys.argv[2:]]))
