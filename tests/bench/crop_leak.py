"""How much a crop tells of the mouth by what should only tell of the head: both anchors, on clips of people who speak.

    python -m tests.bench.crop_leak CLIP...

For each clip: r of a ridge regression from pose alone to lip opening, trained on one half of the clip and tried on the other, both
ways; r of the box's height, in widths of the upper face, with lip opening in such widths; the share of frames whose 131 points all
lie in the box; and the box's area against that of all points.
"""

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from schemas.face_points import CONTENT_POSITIONS, LOWER_LIP, UPPER_LIP
from schemas.settings import CropSettings
from tasks.faces.crop import UPPER_FACE, face_box, lip_opening, relative_points, split_points
from tasks.faces.landmarks import FaceMesh
from tasks.media.decode import read_frames

Numbers = npt.NDArray[np.float64]
PENALTY = 10.0
"""Of the ridge regression, on standardised pose: the clips have 75 to 250 frames for 148 numbers."""
ANCHORS = ("all-points", "upper-face")
MOST_FRAMES = 250


def main(clips: list[str]) -> None:
    """Prints the table."""
    print("| clip | anchor | r from pose | r of the box | frames wholly inside | area |")
    print("|---|---|---|---|---|---|")
    with FaceMesh() as mesh:
        for clip in clips:
            _print_clip(Path(clip), mesh)


def _print_clip(path: Path, mesh: FaceMesh) -> None:
    frames = [(frame.picture.shape[:2], mesh.find(frame.picture)) for frame in read_frames(path, 25, 0, MOST_FRAMES, threads=1)]
    faces = [(size, points) for size, points in frames if points is not None]
    areas = {}
    for anchor in ANCHORS:
        crop = CropSettings(anchor=anchor)
        boxes = [face_box(points, size, crop) for size, points in faces]
        relative = [relative_points(points, box, crop) for (_, points), box in zip(faces, boxes, strict=True)]
        split = [split_points(shares) for shares in relative]
        pose = np.array([one.ravel() for one, _ in split], dtype=np.float64)
        opening = np.array([lip_opening(content) for _, content in split])
        widths = np.array([np.ptp(points[UPPER_FACE, 0]) for _, points in faces])
        lips = np.array([_lips_px(points) for _, points in faces]) / widths
        heights = np.array([box.height for box in boxes]) / widths
        areas[anchor] = np.array([box.width * box.height for box in boxes])
        inside = np.mean([((shares >= 0) & (shares <= 1)).all() for shares in relative])
        area = np.median(areas[anchor] / areas["all-points"])
        leaks = f"{_across_halves(pose, opening):.2f} | {_correlation(heights, lips):.2f}"
        print(f"| {path.stem[:28]} | {anchor} | {leaks} | {inside:.4f} | {area:.2f} |", flush=True)


def _lips_px(points: Numbers) -> float:
    content = points[list(CONTENT_POSITIONS)]
    return float(np.linalg.norm(content[UPPER_LIP] - content[LOWER_LIP]))


def _across_halves(pose: Numbers, opening: Numbers) -> float:
    """Correlation of lip opening with what the other half's regression says of it."""
    halves = np.array_split(np.arange(len(opening)), 2)
    said = [_ridge(pose[other], opening[other], pose[half]) for half, other in (halves, halves[::-1])]
    return _correlation(np.concatenate(said), opening)


def _ridge(pose: Numbers, opening: Numbers, asked: Numbers) -> Numbers:
    middle, spread = pose.mean(axis=0), pose.std(axis=0) + 1e-9
    standard = (pose - middle) / spread
    weights = np.linalg.solve(standard.T @ standard + PENALTY * np.eye(standard.shape[1]), standard.T @ (opening - opening.mean()))
    return (asked - middle) / spread @ weights + opening.mean()


def _correlation(first: Numbers, second: Numbers) -> float:
    return float(np.corrcoef(first, second)[0, 1])


if __name__ == "__main__":
    main(sys.argv[1:])
