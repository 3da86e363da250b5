"""What each coding of face pictures costs: bytes a frame, PSNR, encoding and decoding time, on crops of real or made footage.

python -m tests.bench.picture_coding data/corpus/c07*.mp4 data/corpus/c22*.mp4
python -m tests.bench.picture_coding --frames 20        (no footage at hand: a clip is made)
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from schemas.settings import CropSettings
from tasks.faces.crop import crop_face, face_box
from tasks.faces.landmarks import FaceMesh
from tasks.media.decode import read_frames
from tests.footage import make_talking_clip

JPEG_444 = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
CODINGS = {
    "PNG as OpenCV has it": (".png", []),
    "PNG level 0": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 0]),
    "PNG level 1": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 1]),
    "PNG level 3": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 3]),
    "PNG level 6": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 6]),
    "PNG level 9": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 9]),
    "WebP lossless": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
    "JPEG 95, 4:4:4": (".jpg", JPEG_444),
    "JPEG 95, 4:2:0": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 95]),
}
SIZES = (128, 256)
EVERY = 5
"""Frames from one measured to the next: neighbours are alike."""
REPEATS = 3
"""The quickest counts, in time of the processor: what else runs on the machine only makes a piece of work slower."""
IDENTICAL_DB = float("inf")

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Cost:
    """Of one picture."""

    coded_bytes: int
    psnr_db: float
    encode_ms: float
    decode_ms: float


def crops(clip: Path, frames: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Face crops of a clip with the default crop, in each of SIZES; at most so many frames, EVERY so often."""
    with FaceMesh() as mesh:
        found = ((frame.picture, mesh.find(frame.picture)) for frame in islice(read_frames(clip, 25), 0, None, EVERY))
        for picture, points in islice(((picture, points) for picture, points in found if points is not None), frames):
            boxes = (face_box(points, picture.shape[:2], CropSettings(size=size)) for size in SIZES)
            yield tuple(crop_face(picture, box, size) for box, size in zip(boxes, SIZES, strict=True))


def cost(picture: np.ndarray, suffix: str, parameters: list[int]) -> Cost:
    """Codes a picture and decodes it again, both in memory."""
    (_, coded), encode_ms = _quickest_ms(lambda: cv2.imencode(suffix, picture, parameters))
    decoded, decode_ms = _quickest_ms(lambda: cv2.imdecode(coded, cv2.IMREAD_COLOR))
    error = float(np.square(picture.astype(np.float64) - decoded).mean())
    psnr_db = 10 * np.log10(255**2 / error) if error else IDENTICAL_DB
    return Cost(coded.nbytes, psnr_db, encode_ms, decode_ms)


def _quickest_ms(work: Callable[[], Outcome]) -> tuple[Outcome, float]:
    times_ms = []
    for _ in range(REPEATS):
        start = time.thread_time()
        outcome = work()
        times_ms.append(1000 * (time.thread_time() - start))
    return outcome, min(times_ms)


def table(pictures: list[np.ndarray]) -> Iterator[str]:
    """A line a coding, medians over the pictures."""
    yield "| coding | bytes a frame | PSNR (dB) | encode (ms) | decode (ms) |"
    yield "|---|---|---|---|---|"
    for name, (suffix, parameters) in CODINGS.items():
        costs = [cost(picture, suffix, parameters) for picture in pictures]
        medians = np.median([(c.coded_bytes, c.psnr_db, c.encode_ms, c.decode_ms) for c in costs], axis=0)
        psnr = "lossless" if np.isinf(medians[1]) else f"{medians[1]:.1f}"
        yield f"| {name} | {medians[0]:.0f} | {psnr} | {medians[2]:.2f} | {medians[3]:.2f} |"


@contextmanager
def _footage(clips: list[Path]) -> Iterator[list[Path]]:
    """The clips that were given, or one that is made."""
    if clips:
        yield clips
        return
    with tempfile.TemporaryDirectory() as folder:
        yield [make_talking_clip(Path(folder) / "made.mp4", seconds=4, size=(512, 512))]


def main() -> None:
    """Prints a table a picture size."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("clips", nargs="*", type=Path)
    options.add_argument("--frames", type=int, default=12, help="pictures a clip")
    given = options.parse_args()
    cv2.setNumThreads(1)
    with _footage(given.clips) as clips:
        pictures = [crop for clip in clips for crop in crops(clip, given.frames)]
    for position, size in enumerate(SIZES):
        print(f"\n{size} x {size} pixels, {len(pictures)} crops of {len(clips)} clips, one thread\n")
        print("\n".join(table([crop[position] for crop in pictures])))


if __name__ == "__main__":
    main()
