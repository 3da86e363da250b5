"""What a frame costs on one core: detect, crop, encode and write, beside FaceMesh alone in the same mode on the same frames.

    python -m tests.bench.frame_cost [CLIP...]

Each clip is scaled to 640 x 360, 512 x 512 and 1920 x 1080 (cut to the shape around its middle); without one, footage of the tests
is made. Frame by frame FaceMesh alone and the ingest's own path take turns, so that both meet the same load; the ratio is the
median of the pairs' ratios, to which writing is added as a mean. Decoding and scene detection are listed beside.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from schemas.settings import CuttingSettings, FormatSettings
from tasks.corpus.faces import CutFrame, cut_face
from tasks.corpus.scenes import cut_finder
from tasks.corpus.shards import ShardWriter
from tasks.corpus.spool import FrameSpool
from tasks.faces.crop import face_box, relative_points
from tasks.faces.detect import FaceFinder
from tasks.faces.landmarks import FaceMesh
from tasks.faces.tracks import follow_all_faces
from tasks.media.decode import Frame, read_frames
from tests.footage import make_talking_clip

SIZES = ((640, 360), (512, 512), (1920, 1080))
FRAMES = 75
WARM_UP_FRAMES = 5
Mode = Literal["static", "tracking"]
RUNS: tuple[tuple[Mode, int], ...] = (("static", 4), ("tracking", 4), ("tracking", 1))
"""Mode and most faces; FaceMesh alone has both too. While fewer faces are there than asked for, tracking looks for more in each frame."""


@dataclass(frozen=True)
class Costs:
    """Medians over frames, in milliseconds."""

    alone_ms: float
    ours_ms: float
    ratio: float
    write_ms: float


def main(clips: list[str]) -> None:
    """Prints the table."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(clip) for clip in clips] or [make_talking_clip(Path(folder) / "talking.mp4", 3.2, size=(512, 512))]
        print("| clip | size | mode, most faces | FaceMesh alone, ms | detect, crop, encode, write, ms | of that writing | ratio | decode | scenes |")
        print("|---|---|---|---|---|---|---|---|---|")
        for path in paths:
            for size in SIZES:
                _print_size(path, size)


def _print_size(path: Path, size: tuple[int, int]) -> None:
    frames, decode_ms = _scaled(path, size), _decode_ms(path, size)
    is_cut = cut_finder(27.0)
    scenes_ms = float(np.median([_timed_ms(is_cut, frame.picture)[0] for frame in frames]))
    for mode, faces in RUNS:
        costs = _costs(frames, mode, faces)
        beside = f"{decode_ms:.2f} | {scenes_ms:.2f}"
        print(
            f"| {path.stem[:28]} | {size[0]} x {size[1]} | {mode}, {faces} | {costs.alone_ms:.2f} | {costs.ours_ms:.2f} "
            f"| {costs.write_ms:.2f} | {costs.ratio:.2f} | {beside} |",
            flush=True,
        )
    median, high = _mode_difference(frames)
    print(f"|  | {size[0]} x {size[1]} | static against tracking | landmarks differ by {median:.4f} (median), {high:.4f} (95 %) of the box |", flush=True)


def _costs(frames: list[Frame], mode: Mode, faces: int) -> Costs:
    """FaceMesh alone and the ingest's path on each frame in turn; which comes first changes from frame to frame."""
    cutting = CuttingSettings(mesh=mode, max_faces=faces)
    timed: list[tuple[float, float]] = []
    cut: list[CutFrame] = []
    with _alone(mode, cutting.max_faces) as alone, FaceFinder(cutting) as finder:
        ours = _cut_frames(frames, finder)
        for frame in frames:
            if frame.index % 2:
                alone_ms, (ours_ms, frames_cut) = _timed_ms(alone.process, _rgb(frame))[0], _timed_ms(next, ours)
            else:
                (ours_ms, frames_cut), alone_ms = _timed_ms(next, ours), _timed_ms(alone.process, _rgb(frame))[0]
            timed.append((alone_ms, ours_ms))
            cut.extend(frames_cut)
    pairs = np.array(timed[WARM_UP_FRAMES:])
    write_ms = _write_ms(cut)
    alone_ms, ours_ms = np.median(pairs, axis=0)
    ratio = np.median((pairs[:, 1] + write_ms) / pairs[:, 0])
    return Costs(float(alone_ms), float(ours_ms + write_ms), float(ratio), write_ms)


def _alone(mode: Mode, max_faces: int) -> Any:
    """MediaPipe's own class, as anybody would use it."""
    from mediapipe.python.solutions import face_mesh

    return face_mesh.FaceMesh(static_image_mode=mode == "static", max_num_faces=max_faces, refine_landmarks=True, min_detection_confidence=0.5)


def _rgb(frame: Frame) -> np.ndarray:
    return cv2.cvtColor(frame.picture, cv2.COLOR_BGR2RGB)


def _cut_frames(frames: list[Frame], finder: FaceFinder) -> Iterator[list[CutFrame]]:
    """The ingest's path, one frame at a time: find, follow, crop, encode."""
    store_format = FormatSettings()
    for faces in follow_all_faces(frames, finder, cut_finder(None)):
        yield [cut for face in faces if (cut := cut_face(face, store_format)) is not None]


def _write_ms(cut: list[CutFrame]) -> float:
    """Putting frames aside, taking them back and writing them into a shard: mean milliseconds a frame."""
    with tempfile.TemporaryDirectory() as store, FrameSpool() as spool:
        begin_s = time.perf_counter()
        spool.put(cut)
        with ShardWriter(store, "batch", 256) as shards:
            for piece in spool.pieces():
                shards.write("clip", ".png", [frame.picture for frame in piece])
        return (time.perf_counter() - begin_s) * 1e3 / max(1, len(cut))


def _scaled(path: Path, size: tuple[int, int]) -> list[Frame]:
    return [Frame(frame.index, frame.time_s, _fitted(frame.picture, size)) for frame in read_frames(path, 25, 0, FRAMES, threads=1)]


def _fitted(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture scaled to fit into (width, height), and set on black."""
    scale = min(size[0] / picture.shape[1], size[1] / picture.shape[0])
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    canvas = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    top, left = (size[1] - small.shape[0]) // 2, (size[0] - small.shape[1]) // 2
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    return canvas


def _decode_ms(path: Path, size: tuple[int, int]) -> float:
    """Milliseconds a frame to decode the clip coded as H.264 in that size."""
    from fractions import Fraction

    from tasks.media.encode import VideoWriter

    with tempfile.TemporaryDirectory() as folder:
        coded = Path(folder) / "scaled.mp4"
        with VideoWriter(str(coded), size[0], size[1], Fraction(25), None) as writer:
            for frame in _scaled(path, size):
                writer.write(frame.picture)
        begin_s = time.perf_counter()
        count = sum(1 for _ in read_frames(coded, 25, threads=1))
        return (time.perf_counter() - begin_s) * 1e3 / count


def _mode_difference(frames: list[Frame]) -> tuple[float, float]:
    """Median and 95th percentile over frames and points of the distance of the two modes' landmarks, in shares of the box."""
    crop = FormatSettings().crop
    distances = []
    with FaceMesh("static") as static, FaceMesh("tracking") as tracking:
        for frame in frames:
            one, other = static.find(frame.picture), tracking.find(frame.picture)
            if one is not None and other is not None:
                box = face_box(one, frame.picture.shape[:2], crop)
                distances.append(np.linalg.norm(relative_points(one, box, crop) - relative_points(other, box, crop), axis=1))
    return float(np.median(distances)), float(np.percentile(distances, 95))


def _timed_ms(work: Callable[..., Any], argument: object) -> tuple[float, Any]:
    begin_s = time.perf_counter()
    result = work(argument)
    return (time.perf_counter() - begin_s) * 1e3, result


if __name__ == "__main__":
    main(sys.argv[1:])
