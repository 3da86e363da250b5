"""A stretch of a clip rendered as dubbing renders it: frame by frame, references at even steps of the lip opening. Its landmarks are the real ones."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tasks.evaluation.lips import outer_opening
from tasks.faces.references import reference_frames
from tasks.faces.sketch import outline_faces
from tasks.training.footage import WINDOW, Footage, IntArray
from tasks.training.previews import side_by_side
from tasks.training.samples import Pictures
from tasks.training.validation import Picture

LONGEST_FRAMES = 50
"""Two seconds show whether a face is steady and its mouth sharp."""
SHORTEST_FRAMES = 25
"""A second: less is over before anything is seen."""
LARGEST_SHARE = 2 / 3
"""Of a clip: the references come from the rest, so that no face is its own reference."""
REFERENCES = 25
"""Pictures that dubbing copies a person from, by default."""
REFERENCES_ON_CPU = 5
"""Each costs a twentieth of a second a frame of a core even in the small renderer: with 25 two seconds would take more than a minute."""
FRAMES_AT_ONCE = 8
SHOWN_PX = 256
"""The shorter side of a face as it is shown."""
READERS = 8
"""Threads that read pictures; a bucket is waited for."""


@dataclass(frozen=True)
class Stretch:
    """Frames of a clip, and those that its references are taken from."""

    footage: Footage
    clip: int
    frames: range
    references: IntArray
    """(N,) frames of the clip outside the stretch, no two the same"""

    def rows(self, frames: npt.ArrayLike) -> IntArray:
        """Rows of the footage of frames of the clip; those beyond its ends are its end frames."""
        return self.footage.first_frame[self.clip] + np.clip(np.asarray(frames), 0, self.footage.frames[self.clip] - 1)


def longest_stretch(footage: Footage, device: torch.device) -> Stretch | None:
    """The middle of the longest clip, with as many references as the device is quick enough for.

    None where no stretch of SHORTEST_FRAMES leaves anything beside it.
    """
    clip = int(np.argmax(footage.frames))
    there = int(footage.frames[clip])
    length = min(LONGEST_FRAMES, max(SHORTEST_FRAMES, int(there * LARGEST_SHARE)))
    if there <= length:
        return None
    start = (there - length) // 2
    outside = np.setdiff1d(np.arange(there), np.arange(start, start + length))
    openings = outer_opening(footage.content[footage.first_frame[clip] + outside])
    wanted = REFERENCES_ON_CPU if device.type == "cpu" else REFERENCES
    return Stretch(footage, clip, range(start, start + length), outside[np.unique(reference_frames(openings, wanted))])


def real_beside_generated(network: nn.Module, stretch: Stretch, pictures: Pictures, size: int, device: torch.device) -> Picture:
    """Real | generated (T, H, W, 3) uint8 BGR, each below its name, in the proportions of the face's box, its shorter side SHOWN_PX, both sides even.

    network: a renderer in evaluation mode on the device, for faces (size, size).
    """
    real = _faces(stretch, pictures, np.array(stretch.frames))
    generated = np.concatenate(list(_rendered(network, stretch, real, pictures, size, device)))
    shown = _shown_size(stretch)
    return side_by_side({name: _resized(faces, shown) for name, faces in (("real", real), ("generated", generated))})


def _resized(faces: Picture, shown: tuple[int, int]) -> Picture:
    return np.stack([cv2.resize(face, shown, interpolation=cv2.INTER_CUBIC) for face in faces])


def _rendered(network: nn.Module, stretch: Stretch, real: Picture, pictures: Pictures, size: int, device: torch.device) -> Iterator[Picture]:
    """The generated faces (n, S, S, 3) uint8 BGR, FRAMES_AT_ONCE or fewer at a time."""
    reference_faces = _tensor(_faces(stretch, pictures, stretch.references), device)[None]
    reference_sketches = _tensor(_sketches(stretch, stretch.references, size), device)[None]
    frames = np.array(stretch.frames)
    for first in range(0, len(frames), FRAMES_AT_ONCE):
        part = frames[first : first + FRAMES_AT_ONCE]
        sketches = _sketches(stretch, (part[:, None] + np.arange(WINDOW) - WINDOW // 2).ravel(), size)
        mels = torch.from_numpy(stretch.footage.mel_windows(np.full(len(part), stretch.clip), part)).to(device)
        targets = _tensor(sketches, device).view(len(part), WINDOW, 3, size, size)
        generated, _ = network(_tensor(real[first : first + FRAMES_AT_ONCE], device), targets, reference_faces, reference_sketches, mels)
        yield (generated.float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def _faces(stretch: Stretch, pictures: Pictures, frames: IntArray) -> Picture:
    """The real faces (n, S, S, 3) uint8 BGR of frames of the clip."""
    with ThreadPoolExecutor(READERS) as readers:
        return np.stack(list(readers.map(lambda row: pictures.read(stretch.clip, row), stretch.rows(frames).tolist())))


def _sketches(stretch: Stretch, frames: IntArray, size: int) -> Picture:
    """The sketches (n, S, S, 3) uint8 of frames of the clip."""
    footage, rows = stretch.footage, stretch.rows(frames)
    points = np.concatenate([footage.pose[rows], footage.content[rows]], axis=2)
    boxes = footage.boxes[rows]
    outlines = outline_faces(points, (boxes[:, 2:] - boxes[:, :2])[:, ::-1], size)
    return np.stack([cv2.cvtColor(outlines.draw(face), cv2.COLOR_GRAY2BGR) for face in range(len(rows))])


def _tensor(pictures: Picture, device: torch.device) -> Tensor:
    """(n, S, S, 3) uint8 to (n, 3, S, S) float32 in 0..1 on the device."""
    return torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2).contiguous().float() / 255


def _shown_size(stretch: Stretch) -> tuple[int, int]:
    """Width and height, both even as H.264 wants them."""
    boxes = stretch.footage.boxes[stretch.rows(stretch.frames)]
    width, height = np.median(boxes[:, 2:] - boxes[:, :2], axis=0).tolist()
    scale = SHOWN_PX / min(width, height)
    return round(width * scale / 2) * 2, round(height * scale / 2) * 2
