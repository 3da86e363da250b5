"""How far fingerprints of the same and of other clips are apart: `python -m tests.bench.fingerprints [--footage ../shared/data] [--clips 24]`.

Takes three seconds of each clip, codes them again in five ways (a coarse picture, other containers, half the size, less loud) and
prints how many bits differ between a clip and its copies, between clips of other people, and between clips of one studio (GRID).
"""

import argparse
import itertools
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np

from schemas.settings import CropSettings
from tasks.audio import mel_spectrogram, read_waveform
from tasks.corpus.fingerprints import SAME_FACE_BITS, SAME_SOUND_BITS, audio_hash, face_hashes, hamming, hashed_frames
from tasks.faces.crop import crop_face, face_box
from tasks.faces.landmarks import FaceMesh
from tasks.media.decode import read_frames
from tasks.media.probe import probe

FOOTAGE = Path(__file__).parents[3] / "shared" / "data"
ORIGINAL = ("-vf", "scale='min(480,iw)':-2", "-c:v", "libx264", "-crf", "10", "-preset", "superfast", "-c:a", "flac")
CODINGS = {
    "H.264 crf 23, AAC 64k": ("-c:v", "libx264", "-crf", "23", "-preset", "superfast", "-c:a", "aac", "-b:a", "64k"),
    "H.264 crf 33, AAC 32k mono": ("-c:v", "libx264", "-crf", "33", "-preset", "superfast", "-c:a", "aac", "-b:a", "32k", "-ac", "1"),
    "MPEG-4 q 6, MP3 64k": ("-c:v", "mpeg4", "-q:v", "6", "-c:a", "libmp3lame", "-b:a", "64k"),
    "half the size, Opus 32k": ("-vf", "scale=trunc(iw/4)*2:-2", "-c:v", "libx264", "-crf", "26", "-c:a", "libopus", "-b:a", "32k"),
    "crf 20, 6 dB less loud": ("-c:v", "libx264", "-crf", "20", "-preset", "superfast", "-af", "volume=-6dB", "-c:a", "aac", "-b:a", "96k"),
}


@dataclass(frozen=True)
class Fingerprint:
    """Of three seconds of a clip."""

    name: str
    faces: tuple[int, ...]
    sound: tuple[int, ...]

    @property
    def is_grid(self) -> bool:
        """Whether it comes from GRID's studio."""
        return "grid" in self.name

    def bits(self, other: "Fingerprint") -> tuple[int, int]:
        """How many bits of faces and of sound differ."""
        return hamming(self.faces, other.faces), hamming(self.sound, other.sound)


def main() -> None:
    """Prints the distributions."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--footage", type=Path, default=FOOTAGE)
    arguments.add_argument("--clips", type=int, default=24)
    given = arguments.parse_args()
    cv2.setNumThreads(1)
    originals: list[Fingerprint] = []
    copies: dict[str, list[tuple[int, int]]] = {coding: [] for coding in CODINGS}
    with FaceMesh() as mesh, tempfile.TemporaryDirectory() as folder:
        for path in chosen(given.footage, given.clips):
            original = coded(path, ORIGINAL, Path(folder) / "original.mkv", seconds=3)
            taken = fingerprint(path, original, mesh)
            for coding, arguments_of_it in CODINGS.items():
                again = taken and fingerprint(path, coded(original, arguments_of_it, Path(folder) / "copy.mkv"), mesh)
                if taken and again:
                    copies[coding].append(taken.bits(again))
            originals += [taken] if taken else []
    print_distances(copies, originals)


def chosen(footage: Path, count: int) -> list[Path]:
    """So many clips, evenly from all."""
    every = sorted(path for path in (footage / "corpus").rglob("*") if path.suffix in {".mp4", ".avi", ".mpg"})
    return [every[index] for index in np.linspace(0, len(every) - 1, min(count, len(every))).astype(int)]


def coded(path: Path, coding: tuple[str, ...], target: Path, seconds: int = 10) -> Path:
    """A copy in another coding."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-i", str(path), "-t", str(seconds), *coding, "-threads", "1", str(target)]
    subprocess.run(command, check=True)
    return target


def fingerprint(name: Path, path: Path, mesh: FaceMesh) -> Fingerprint | None:
    """The fingerprint of a whole file; None where a face is not found in each of the pictures."""
    pictures = [frame.picture for frame in read_frames(path, 25, threads=1)]
    wanted = [pictures[number] for number in hashed_frames(len(pictures))]
    points = [mesh.find(picture) for picture in wanted]
    faces = [
        crop_face(picture, face_box(found, picture.shape[:2], CropSettings()), 128) for picture, found in zip(wanted, points, strict=True) if found is not None
    ]
    waveform = read_waveform(path, probe(path).start_s)[: len(pictures) * 640]
    sound = np.pad(waveform, (0, len(pictures) * 640 - len(waveform)))
    return Fingerprint(str(name), face_hashes(faces), audio_hash(mel_spectrogram(sound))) if len(faces) == len(wanted) else None


def print_distances(copies: dict[str, list[tuple[int, int]]], originals: list[Fingerprint]) -> None:
    """The distributions and how many twins the thresholds find."""
    for coding, bits in copies.items():
        print(f"{coding:28s} {spread(bits)}")
    pairs = list(itertools.combinations(originals, 2))
    print(f"{'other people':28s} {spread([one.bits(other) for one, other in pairs if not (one.is_grid and other.is_grid)])}")
    print(f"{'one studio':28s} {spread([one.bits(other) for one, other in pairs if one.is_grid and other.is_grid])}")
    same = list(itertools.chain.from_iterable(copies.values()))
    others = [one.bits(other) for one, other in pairs]
    print(f"at most {SAME_FACE_BITS} and {SAME_SOUND_BITS} bits: {sum(twins(same))} of {len(same)} copies, {sum(twins(others))} of {len(others)} other pairs")


def twins(bits: list[tuple[int, int]]) -> Iterator[bool]:
    """Whether pairs count as twins."""
    return (faces <= SAME_FACE_BITS and sound <= SAME_SOUND_BITS for faces, sound in bits)


def spread(bits: list[tuple[int, int]]) -> str:
    """Least, median, 95th percentile and most of both."""
    if not bits:
        return "none"
    figures = zip(("faces", "sound"), np.array(bits).T, strict=True)
    told = [f"{name} {values.min():3d} {np.median(values):5.1f} {np.percentile(values, 95):5.1f} {values.max():3d}" for name, values in figures]
    return f"{len(bits):4d} pairs; least, median, 95 %, most: {'; '.join(told)}"


if __name__ == "__main__":
    main()
