"""Training samples a second on one core: dubmill's batches against the original's way, on the same clips, in turns.

The original's way: a file a frame, PNG faces and sketches, landmarks as pickled lists that are sorted by `index` at every reading, the whole
mel spectrogram from a file for each sample; samples are then stacked to a batch of floats. dubmill's pictures stay bytes until they are on
the device: a last line has them made floats here as well.

python -m tests.bench.training_input STORE --snapshot first
python -m tests.bench.training_input STORE --snapshot first --exported FOLDER      (an export that is there already)
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import default_collate

from schemas.face_points import ORDER
from tasks.corpus.exchange import iplap_files
from tasks.corpus.exchange.iplap_export import export_iplap
from tasks.corpus.store import CorpusStore
from tasks.mel_windows import WINDOW_FRAMES, window_start
from tasks.training.footage import WINDOW, read_lessons
from tasks.training.pictures import FacePictures
from tasks.training.png import INFLATE
from tasks.training.samples import LandmarkSamples, RendererSamples

LANDMARK_BATCH, RENDERER_BATCH = 128, 96
LANDMARK_REFERENCES, RENDERER_REFERENCES = 15, 3
SHORTEST_FRAMES = 25
BATCHES_A_TURN = {"landmark generator": 20, "renderer": 2}
"""Of dubmill's, so that a turn takes some tenths of a second at least."""
ORIGINALS_BATCHES_A_TURN = 1

Sample = tuple[torch.Tensor, ...]


class OriginalsReader:
    """An export of a corpus, read sample by sample."""

    def __init__(self, exported: Path) -> None:
        self._root = exported
        names = (exported / iplap_files.LISTS / "train.txt").read_text(encoding="utf-8").split()
        counts = {name: len(list((exported / iplap_files.FACES / name).glob("*.png"))) for name in names}
        self._clips = [(name, count) for name, count in counts.items() if count >= SHORTEST_FRAMES]

    def landmark_sample(self) -> Sample | None:
        """Five frames' mel windows, pose and content, and the references' pose and content; None where the sound ends too early."""
        clip, frames = random.choice(self._clips)
        start = random.randint(2, frames - WINDOW - 2)
        window = range(start, start + WINDOW)
        others = random.sample([frame for frame in range(frames) if frame not in window], LANDMARK_REFERENCES)
        reference_pose, reference_content = self._points(clip, others)
        pose, content = self._points(clip, window)
        windows = self._mel_windows(clip, window)
        if windows is None:
            return None
        return torch.FloatTensor(np.asarray(windows)).unsqueeze(1), pose, content, reference_pose, reference_content

    def renderer_sample(self) -> Sample | None:
        """The middle face of a window, its sketches, reference faces with theirs, and a mel window; None where there is no such window of sound."""
        clip, frames = random.choice(self._clips)
        faces_there = list((self._root / iplap_files.FACES / clip).glob("*.png"))
        start = random.randint(0, frames - WINDOW)
        of_window = [self._root / iplap_files.FACES / clip / f"{frame}.png" for frame in range(start, start + WINDOW)]
        faces, sketches = self._pictures(of_window)
        reference_faces, reference_sketches = self._pictures(random.sample(faces_there, RENDERER_REFERENCES))
        windows = self._mel_windows(clip, [start + WINDOW // 2])
        if windows is None:
            return None
        mel = torch.FloatTensor(windows[0]).unsqueeze(0).unsqueeze(0)
        return faces[WINDOW // 2].unsqueeze(0), sketches, reference_faces, reference_sketches, mel

    def _points(self, clip: str, frames: range | list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        paths = [self._root / iplap_files.LANDMARKS / clip / f"{frame}.npy" for frame in frames]
        held = [np.load(path, allow_pickle=True).item() for path in paths]  # what this very program has written
        return self._in_order(held, iplap_files.POSE_KEY, 74), self._in_order(held, iplap_files.CONTENT_KEY, 57)

    @staticmethod
    def _in_order(held: list[dict], key: str, points: int) -> torch.Tensor:
        ordered = torch.zeros((len(held), 2, points))
        for number, landmarks in enumerate(held):
            by_index = sorted(landmarks[key], key=lambda point: ORDER.index(point[0]))
            for axis in (0, 1):
                ordered[number, axis] = torch.FloatTensor([point[1 + axis] for point in by_index])
        return ordered

    def _pictures(self, paths: list[Path]) -> tuple[torch.Tensor, torch.Tensor]:
        faces, sketches = [], []
        for path in paths:
            sketch = self._root / iplap_files.SKETCHES / path.relative_to(self._root / iplap_files.FACES)
            if path.is_file() and sketch.is_file():
                faces.append(cv2.resize(cv2.imread(str(path)), (128, 128)))
                sketches.append(cv2.imread(str(sketch)))
        return self._floats(faces), self._floats(sketches)

    @staticmethod
    def _floats(pictures: list[np.ndarray]) -> torch.Tensor:
        return torch.FloatTensor(np.transpose(np.asarray(pictures) / 255.0, (0, 3, 1, 2)))

    def _mel_windows(self, clip: str, frames: range | list[int]) -> list[np.ndarray] | None:
        mel = np.load(self._root / iplap_files.AUDIO / clip / iplap_files.MEL)
        starts = [window_start(frame) for frame in frames]
        if starts[0] < 0 or starts[-1] + WINDOW_FRAMES > len(mel):
            return None
        return [mel[start : start + WINDOW_FRAMES].T for start in starts]


def collated(sample: Callable[[], Sample | None], batch_size: int) -> Sample:
    """A batch of samples; those that are None are drawn again, as in the original."""
    drawn: list[Sample] = []
    while len(drawn) < batch_size:
        if (one := sample()) is not None:
            drawn.append(one)
    return tuple(default_collate(drawn))


def samples_a_second(batch: Callable[[int], object], batches: range, batch_size: int) -> float:
    """Samples a second of the processor, on however many threads: what else runs on the machine does not count."""
    began = time.process_time()
    for step in batches:
        batch(step)
    return len(batches) * batch_size / (time.process_time() - began)


def compare(name: str, ours: Callable[[int], object], theirs: Callable[[int], object], batch_size: int, turns: int) -> str:
    """A line of the table: medians of turns, in which each way has its go."""
    ours(0), theirs(0)
    rates: list[tuple[float, float]] = []
    count = BATCHES_A_TURN[name.partition(",")[0]]
    for turn in range(turns):
        our_rate = samples_a_second(ours, range(turn * count, (turn + 1) * count), batch_size)
        rates.append((our_rate, samples_a_second(theirs, range(ORIGINALS_BATCHES_A_TURN), batch_size)))
    our_rate, their_rate = (statistics.median(column) for column in zip(*rates, strict=True))
    ratio = statistics.median(one / other for one, other in rates)
    lowest, highest = (extreme(one / other for one, other in rates) for extreme in (min, max))
    return f"| {name} | {their_rate:.1f} | {our_rate:.0f} | {ratio:.1f} | {lowest:.1f} to {highest:.1f} |"


def main() -> None:
    """Prints the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("store")
    options.add_argument("--snapshot", required=True)
    options.add_argument("--exported", type=Path)
    options.add_argument("--turns", type=int, default=7)
    given = options.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        exported = given.exported or Path(folder) / "exported"
        if given.exported is None:
            export_iplap(given.store, str(exported), given.snapshot)
        _print_table(CorpusStore.open(given.store), given.snapshot, exported, given.turns)


def _print_table(store: CorpusStore, snapshot: str, exported: Path, turns: int) -> None:
    size = store.format.crop.size
    train, original = read_lessons(store, store.snapshot(snapshot)).train, OriginalsReader(exported)
    landmarks = LandmarkSamples(train, LANDMARK_REFERENCES)
    renderer = RendererSamples(train, RENDERER_REFERENCES, size, FacePictures(store, train))
    inflated = "ISA-L" if INFLATE else "zlib"
    print(f"{train.clips} clips, {train.frames.sum()} frames of {size} pixels, one core, PNGs inflated by {inflated}; medians of {turns} turns\n")
    print("| samples a second | the original's way | dubmill | times | from turn to turn |\n|---|---|---|---|---|")
    of_landmarks, of_faces = (lambda _: collated(original.landmark_sample, LANDMARK_BATCH)), (lambda _: collated(original.renderer_sample, RENDERER_BATCH))
    print(compare("landmark generator", lambda step: landmarks.batch(0, step, LANDMARK_BATCH), of_landmarks, LANDMARK_BATCH, turns))
    print(compare("renderer", lambda step: renderer.batch(0, step, RENDERER_BATCH), of_faces, RENDERER_BATCH, turns))
    print(compare("renderer, floats", lambda step: renderer.batch(0, step, RENDERER_BATCH).unit_pictures(), of_faces, RENDERER_BATCH, turns))


if __name__ == "__main__":
    main()
