"""How right the A/V offset from lip motion is: `python -m tests.bench.av_offset [--footage ../shared/data] [--cache FOLDER]`.

Reads the first ten seconds of every clip of the shared footage (minutes the first time, seconds from the cache) and prints

* what it gives on SyncNet's public example, whose published "AV offset: 3" is -3 here: the sound comes 3 frames before the picture;
* how often it is within a frame on clips whose sound was moved on purpose by -8...8 frames, among all and among those whose
  confidence is 0.5 and more, for clips of whole and of other lengths. What the true offset is without the move is known where
  clips come from a studio corpus that was recorded in step (GRID: 0) and for the example; for the others it is what whole,
  unmoved clips give, so their figures say how well an estimate follows a move and agrees with itself, not that it is true;
* how often it is confident about a sound that belongs to another clip.
"""

import argparse
import csv
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from schemas.settings import CropSettings
from tasks.audio import read_waveform
from tasks.corpus.sync import FRAME_SAMPLES, SHORTEST_FRAMES, SyncMeasure, lip_sync_offset
from tasks.faces.crop import face_box, lip_opening, relative_points, split_points
from tasks.faces.landmarks import FaceMesh
from tasks.faces.tracks import FaceFrame, follow_faces
from tasks.media.decode import read_frames
from tasks.media.probe import probe

FOOTAGE = Path(__file__).parents[3] / "shared" / "data"
READ_FRAMES = 250
MOVES = range(-8, 9)
CONFIDENT = 0.5
EXAMPLE = "syncnet_example"
EXAMPLE_OFFSET = -3
LENGTHS = (50, 75, 125, READ_FRAMES)
"""Frames of the pieces that are moved."""


@dataclass(frozen=True)
class Talk:
    """Lip openings and sound of the first seconds of a clip. matches: its sound goes with the lips by the manifest's own correlation."""

    name: str
    lip_opening: np.ndarray
    waveform: np.ndarray
    matches: bool

    @property
    def known_offset(self) -> int | None:
        """The true offset, where it is known."""
        return EXAMPLE_OFFSET if EXAMPLE in self.name else 0 if "grid" in self.name else None

    def pieces(self, frames: int) -> Iterator["Talk"]:
        """The clip in pieces of so many frames, each half over the last one; a shorter clip is one piece."""
        for begin in range(0, max(1, len(self.lip_opening) - frames + 1), max(1, frames // 2)):
            sound = self.waveform[begin * FRAME_SAMPLES :]
            yield Talk(self.name, self.lip_opening[begin : begin + frames], sound, self.matches)

    def measured(self, move: int = 0) -> SyncMeasure:
        """What the estimator gives when the sound is moved to come so many frames later."""
        samples = move * FRAME_SAMPLES
        moved = np.pad(self.waveform, (samples, 0)) if samples > 0 else self.waveform[-samples:]
        needed = len(self.lip_opening) * FRAME_SAMPLES
        return lip_sync_offset(self.lip_opening, np.pad(moved[:needed], (0, max(0, needed - len(moved)))))


@dataclass(frozen=True)
class Outcome:
    """One estimate against what it should be."""

    right: bool
    confidence: float


def main() -> None:
    """Prints the figures."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--footage", type=Path, default=FOOTAGE)
    arguments.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "dubmill-av-offset")
    given = arguments.parse_args()
    cv2.setNumThreads(1)
    talks = list(read_talks(given.footage, given.cache))
    print_example(next(talk for talk in talks if EXAMPLE in talk.name))
    known = [talk for talk in talks if talk.known_offset is not None]
    print_moved("offset known (GRID, SyncNet's example)", known)
    print_moved("sound matches by the manifest, against itself", [talk for talk in talks if talk.matches])
    print_moved("all, against itself", talks)
    print_mismatched(talks)


def read_talks(footage: Path, cache: Path) -> Iterator[Talk]:
    """Every clip of the corpus in which a face is followed for two seconds."""
    cache.mkdir(parents=True, exist_ok=True)
    with (footage / "MANIFEST.tsv").open(encoding="utf-8") as manifest:
        rows = [row for row in csv.DictReader(manifest, delimiter="\t") if row["file"].startswith("corpus/") and row["w"]]
    with FaceMesh() as mesh:
        for row in rows:
            kept = cache / f"{Path(row['file']).stem}.npz"
            if not kept.exists():
                opening, waveform = read_clip(footage / row["file"], mesh)
                np.savez(kept, opening=opening, waveform=waveform)
            with np.load(kept) as arrays:
                if len(arrays["opening"]) >= SHORTEST_FRAMES:
                    yield Talk(row["file"], arrays["opening"], arrays["waveform"], matches(row["lip_audio_proxy"] or ""))


def matches(proxy: str) -> bool:
    """Whether the manifest's correlation of lips and sound stands out: p at most 0.2, or r of 0.3 and more where there is no p."""
    found = re.match(r"r=([\d.]+) lag=\S+ p=(\S+)", proxy)
    if not found:
        return False
    return float(found[1]) >= 0.3 if found[2] == "None" else float(found[2]) <= 0.2


def read_clip(path: Path, mesh: FaceMesh) -> tuple[np.ndarray, np.ndarray]:
    """Lip openings of the first track and the sound from its beginning on."""
    start_s = probe(path).start_s
    faces = follow_faces(read_frames(path, 25, threads=1, stop_frame=READ_FRAMES), mesh.find)
    openings = {face.index: opening_of(face) for face in faces if face.track == 0}
    first = min(openings, default=0)
    waveform = read_waveform(path, start_s)[first * FRAME_SAMPLES :][: (READ_FRAMES + max(MOVES)) * FRAME_SAMPLES]
    return np.array(list(openings.values())), waveform


def opening_of(face: FaceFrame) -> float:
    """The lip opening as the store keeps it."""
    crop = CropSettings()
    assert face.points is not None
    box = face_box(face.points, face.picture.shape[:2], crop)
    return lip_opening(split_points(relative_points(face.points, box, crop))[1])


def print_example(talk: Talk) -> None:
    """What SyncNet's example gives."""
    found = talk.measured()
    print(f"SyncNet's example: offset {found.offset_frames:+.2f} frames, confidence {found.confidence:.2f} (published: 3, which is {EXAMPLE_OFFSET} here)\n")


def print_moved(title: str, talks: list[Talk]) -> None:
    """How often moved clips come out within a frame."""
    print(f"{title}: {len(talks)} clips, each moved by {min(MOVES)}...{max(MOVES)} frames")
    for frames in LENGTHS:
        outcomes = [outcome for talk in talks for outcome in moved(talk, frames)]
        print(f"  pieces of at most {frames / 25:4.1f} s: {summary(outcomes)}")
    print()


def moved(talk: Talk, frames: int) -> Iterator[Outcome]:
    """Every piece of a clip with its sound moved by every number of frames."""
    whole = talk.measured().offset_frames
    unmoved = talk.known_offset if talk.known_offset is not None else whole
    if unmoved is None:
        return
    for piece in talk.pieces(frames):
        for move in MOVES:
            found = piece.measured(move)
            if found.offset_frames is not None and found.confidence is not None:
                yield Outcome(abs(round(found.offset_frames) - round(unmoved + move)) <= 1, found.confidence)


def summary(outcomes: Iterable[Outcome]) -> str:
    """Shares in words."""
    every = list(outcomes)
    sure = [outcome for outcome in every if outcome.confidence >= CONFIDENT]
    return f"within a frame {share(every)} of {len(every):5d}; confident {len(sure) / max(1, len(every)):4.0%}, of these within a frame {share(sure)}"


def share(outcomes: list[Outcome]) -> str:
    """The share of right ones."""
    return f"{sum(outcome.right for outcome in outcomes) / max(1, len(outcomes)):5.1%}"


def print_mismatched(talks: list[Talk]) -> None:
    """How often lips and the sound of another clip are taken to belong together."""
    others = [talk for talk in talks if "grid" not in talk.name]
    pairs = [(lips, others[(number + step) % len(others)]) for number, lips in enumerate(others) for step in (1, 2, 3, 5, 7)]
    found = [Talk(lips.name, lips.lip_opening[: len(sound.waveform) // FRAME_SAMPLES], sound.waveform, matches=False).measured() for lips, sound in pairs]
    measured = [measure.confidence for measure in found if measure.confidence is not None]
    sure = sum(confidence >= CONFIDENT for confidence in measured)
    print(f"lips with the sound of another clip: {sure} of {len(measured)} confident ({sure / max(1, len(measured)):.1%})")


if __name__ == "__main__":
    main()
