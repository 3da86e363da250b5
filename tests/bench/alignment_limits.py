"""How far the figures by which `dubmill evaluate` finds two videos in step lie from their limits, on real clips.

    python -m tests.bench.alignment_limits [FOLDER] [--clips 12] [--seconds 6]

FOLDER holds talking-head clips (default: ../shared/data/corpus beside the checkout). Each clip is set beside itself, coded anew at a poor quality
(pictures half as large and enlarged again, x264 CRF 35, AAC; noise in the sound), and beside all others. Prints a row a figure: what the like have, what the
unlike have, and the limit between them.
"""

import argparse
import itertools
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from tasks.audio import SAMPLE_RATE, mel_spectrogram
from tasks.evaluation.alignment import LEAST_LIKENESS, LEAST_OVERLAP, SAME_SPEECH, best_likeness, faces_overlap, speech_likeness
from tasks.evaluation.seen_video import SeenVideo, see_video
from tasks.faces.landmarks import FaceMesh
from tasks.media.decode import read_frames
from tasks.media.encode import Sound, VideoWriter
from tests.manipulations import FPS, sound_of

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "corpus"
POOR_CRF = 35
NOISE_DB = 10.0
"""Of the speech over the noise that is put into it."""


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=6.0)
    options = parser.parse_args()
    sources = sorted(options.folder.glob("*.mp4"))[: options.clips]
    if len(sources) < 2:
        sys.exit(f"Skipped: {options.folder} holds no two clips.")
    with tempfile.TemporaryDirectory(prefix="dubmill-") as folder, FaceMesh() as mesh:
        seen = [both(source, Path(folder) / source.name, options.seconds, mesh) for source in sources]
    print_table(seen, options.seconds)


def both(source: Path, poor: Path, seconds: float, mesh: FaceMesh) -> tuple[SeenVideo, SeenVideo]:
    """The beginning of a clip, and the same coded anew."""
    frames = round(seconds * FPS)
    pictures = [frame.picture for frame in read_frames(source, FPS, 0, frames)]
    height, width = (length // 2 * 2 for length in pictures[0].shape[:2])
    sound = noisy(sound_of(source, frames))
    with VideoWriter(str(poor), width, height, Fraction(FPS), Sound(sound[:, None], SAMPLE_RATE), crf=POOR_CRF) as writer:
        for picture in pictures:
            small = cv2.resize(picture, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
            writer.write(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))
    print(source.stem, file=sys.stderr, flush=True)
    return see_video(source, seconds, mesh), see_video(poor, seconds, mesh)


def noisy(sound: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The sound with white noise in it."""
    noise = np.random.default_rng(0).standard_normal(len(sound)) * sound.std() * 10 ** (-NOISE_DB / 20)
    return (sound + noise).astype(np.float32)


def print_table(seen: list[tuple[SeenVideo, SeenVideo]], seconds: float) -> None:
    """A row a figure: lowest and median of the like, median and highest of the unlike, the limit."""
    others = list(itertools.permutations(range(len(seen)), 2))
    heads = [best_likeness(poor.points, real.points) for real, poor in seen]
    strange_heads = [best_likeness(seen[one][1].points, seen[other][0].points) for one, other in others]
    overlaps = [overlap for real, poor in seen if (overlap := faces_overlap(poor.points, real.points, real.size)) is not None]
    mels = [(mel_spectrogram(real.waveform), mel_spectrogram(poor.waveform)) for real, poor in seen]
    sounds = [speech_likeness(poor, real) for real, poor in mels]
    strange_sounds = [speech_likeness(mels[one][1], mels[other][0]) for one, other in others]
    print(f"{len(seen)} clips of {seconds:g} s, {len(others)} pairs of two.\n")
    print("| figure | of a clip and itself coded anew: lowest, median | of two clips: median, highest | limit |\n| --- | --- | --- | --- |")
    print(f"| motion of the heads | {lowest(heads)} | {highest(strange_heads)} | {LEAST_LIKENESS} |")
    print(f"| overlap of the faces | {lowest(overlaps)} | | {LEAST_OVERLAP} |")
    print(f"| spectrograms | {lowest(sounds)} | {highest(strange_sounds)} | {SAME_SPEECH} |")


def lowest(figures: list[float]) -> str:
    """Lowest and median."""
    return f"{min(figures):.2f}, {np.median(figures):.2f}"


def highest(figures: list[float]) -> str:
    """Median and highest."""
    return f"{np.median(figures):.2f}, {max(figures):.2f}"


if __name__ == "__main__":
    main()
