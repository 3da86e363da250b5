"""How landmarks suffer when a face has fewer pixels: the same clips shrunk, against themselves at their own size.

    python -m tests.bench.face_size CLIP...

Each clip is shrunk so that its `face_px` (median of the shorter side of the default crop's box) is each of FACE_PX, and coded again as H.264 at that size,
as small footage is. A row a size, over all frames and points of all clips, in shares of the face box: error = distance to the
landmarks at the clip's own size; lips = the same of the 40 lip points; jitter = second difference over three frames, to which the
clip's own motion adds what it has at its own size (the last row). FaceMesh looks at the same piece around the face each time, of
the face's own proportion, so that size alone changes.
"""

import sys
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from schemas.settings import CropSettings
from tasks.faces.crop import face_box
from tasks.faces.landmarks import FaceMesh
from tasks.media.decode import read_frames
from tasks.media.encode import VideoWriter

Picture = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.float64]
FACE_PX = (48, 64, 80, 96, 112, 128, 160, 192, 256)
FRAMES = 60
AROUND = 0.5
"""Of the face that is kept around it on each side: head and hair, as FaceMesh's detector wants them."""
LIP_POINTS = slice(91, 131)


def main(clips: list[str]) -> None:
    """Prints the table."""
    pieces = [_around_the_face(Path(clip)) for clip in clips]
    natural = [_landmarks(pictures) for pictures, _ in pieces]
    print("| face, px | error, median | error, 95 % | lips, median | lips, 95 % | jitter, median | jitter, 95 % | frames lost | clips |")
    print("|---|---|---|---|---|---|---|---|---|")
    for face_px in FACE_PX:
        _print_size(face_px, pieces, natural)
    jitter = np.concatenate([_jitter(points).ravel() for points in natural])
    print(f"| own | | | | | {np.median(jitter):.4f} | {np.percentile(jitter, 95):.4f} | | {len(clips)} |")


def _print_size(face_px: int, pieces: Sequence[tuple[list[Picture], float]], natural: Sequence[Numbers]) -> None:
    errors, lips, jitters, lost, used = [], [], [], 0, 0
    for (pictures, own_px), reference in zip(pieces, natural, strict=True):
        if own_px < face_px:
            continue
        points = _landmarks(_shrunk(pictures, face_px / own_px))
        error = np.linalg.norm(points - reference, axis=2)
        errors.append(error[~np.isnan(error)])
        lips.append(error[:, LIP_POINTS][~np.isnan(error[:, LIP_POINTS])])
        jitters.append(_jitter(points).ravel())
        lost += int(np.isnan(points[:, 0, 0]).sum())
        used += 1
    figures = [_two(np.concatenate(values)) for values in (errors, lips, jitters)]
    print(f"| {face_px} | {' | '.join(figures)} | {lost} | {used} |", flush=True)


def _two(values: Numbers) -> str:
    return f"{np.median(values):.4f} | {np.percentile(values, 95):.4f}" if len(values) else "- | -"


def _around_the_face(path: Path) -> tuple[list[Picture], float]:
    """The pictures of a clip cut to the piece in which its face moves and AROUND it; its face_px."""
    pictures = [frame.picture for frame in read_frames(path, 25, 0, FRAMES, threads=1)]
    with FaceMesh() as mesh:
        found = [points for picture in pictures if (points := mesh.find(picture)) is not None]
    face = np.median([np.ptp(points, axis=0) for points in found], axis=0)
    low = np.min([points.min(axis=0) for points in found], axis=0) - AROUND * face
    high = np.max([points.max(axis=0) for points in found], axis=0) + AROUND * face
    (x0, y0), (x1, y1) = np.maximum(low, 0).astype(int), high.astype(int)
    boxes = [face_box(points, pictures[0].shape[:2], CropSettings()) for points in found]
    return [picture[y0:y1, x0:x1] for picture in pictures], float(np.median([min(box.width, box.height) for box in boxes]))


def _shrunk(pictures: Sequence[Picture], scale: float) -> list[Picture]:
    """The pictures in a smaller size, coded as H.264 and decoded again."""
    height, width = (max(2, round(side * scale) // 2 * 2) for side in pictures[0].shape[:2])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.mp4"
        with VideoWriter(str(path), width, height, Fraction(25), None) as writer:
            for picture in pictures:
                writer.write(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA))
        return [frame.picture for frame in read_frames(path, 25, threads=1)]


def _landmarks(pictures: Sequence[Picture]) -> Numbers:
    """(frames, 131, 2) in shares of the face's median box; NaN where no face was found."""
    with FaceMesh() as mesh:
        found = [mesh.find(picture) for picture in pictures]
    size = np.array(pictures[0].shape[1::-1])
    points = np.array([np.full((131, 2), np.nan) if one is None else one / size for one in found])
    return points / np.nanmedian(np.ptp(points, axis=1), axis=0)


def _jitter(points: Numbers) -> Numbers:
    """Length of the second difference over time: (frames - 2, 131), without frames next to a lost one."""
    bend = np.linalg.norm(points[2:] - 2 * points[1:-1] + points[:-2], axis=2)
    return bend[~np.isnan(bend).any(axis=1)]


if __name__ == "__main__":
    main(sys.argv[1:])
