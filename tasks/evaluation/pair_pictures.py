"""The same faces of a generated and of a real video as pictures: how alike they are, how sharp inside the mouth, and where a seam shows."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from schemas.settings import CropSettings
from tasks.dubbing.composite import Contours
from tasks.evaluation.alignment import box_of
from tasks.evaluation.face_measures import FaceMeasures, FacePoints, Seen, joined
from tasks.evaluation.feature_sums import FeatureSums
from tasks.evaluation.seam import seam_visibility
from tasks.evaluation.seen_video import SeenVideo, first_frames
from tasks.faces.crop import Box, crop_face, relative_points, split_points
from tasks.faces.references import even_steps
from tasks.mel_windows import VIDEO_FPS

Picture = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float64]
Sums = dict[str, FeatureSums]
"""Of Inception's features, by side: generated, real."""

AT_ONCE = 16
"""Pictures that the networks look at together: bounds memory, changes no number."""


@dataclass(frozen=True)
class PicturePair:
    """Both faces of one frame, cut at the real face's box."""

    generated: Picture
    """(S, S, 3) uint8 BGR"""
    real: Picture
    box: Box
    contours: Contours
    """Of the real head and both mouths: where a dub of this frame is blended."""

    @property
    def points(self) -> npt.NDArray[np.float32]:
        """The real face (2, 131), pose then content, 0..1 of the picture."""
        return np.concatenate([self.contours.pose, self.contours.source_content], axis=1)


@dataclass
class PictureFigures:
    """What the pictures of one pair tell. The lists of `seams` hold a number a picture, by side."""

    distances: dict[str, FloatArray] = field(default_factory=dict)
    """psnr, ssim, lpips: (n,)"""
    likeness: float | None = None
    """CSIM"""
    details: dict[str, FloatArray] = field(default_factory=dict)
    """By side: (n,) see `pictures.details`."""
    seams: dict[str, list[float]] = field(default_factory=dict)


def compare_pictures(generated: SeenVideo, real: SeenVideo, most: int, crop: CropSettings, measures: FaceMeasures, sums: Sums | None) -> PictureFigures:
    """Compares at most so many pictures, evenly chosen of the frames in which both have a face. sums: where features are counted in, for FID."""
    figures = PictureFigures()
    distances, seen = [], []
    for pairs in _batches(picture_pairs(generated, real, most, crop)):
        pictures = [_tensor([getattr(pair, side) for pair in pairs]) for side in ("generated", "real")]
        faces = FacePoints(np.stack([pair.points for pair in pairs]), np.array([pair.box.height / pair.box.width for pair in pairs], np.float32))
        distances.append(measures.distances(*pictures))
        seen.append([measures.see(each, faces) for each in pictures])
        for side in ("generated", "real"):
            visible = (seam_visibility(getattr(pair, side), pair.contours) for pair in pairs)
            figures.seams.setdefault(side, []).extend(each for each in visible if each is not None)
    if distances:
        figures.distances = {name: np.concatenate([part[name] for part in distances]) for name in distances[0]}
        _take(figures, [joined(list(parts)) for parts in zip(*seen, strict=True)], sums)
    return figures


def _take(figures: PictureFigures, seen: list[Seen], sums: Sums | None) -> None:
    generated, real = seen
    figures.details = {"generated": generated.details, "real": real.details}
    if real.identities.size:
        figures.likeness = float((generated.identities * real.identities).sum(axis=1).mean())
    if sums is not None and real.features.size:
        for side, each in zip(("generated", "real"), seen, strict=True):
            sums.setdefault(side, FeatureSums()).add(each.features)


def picture_pairs(generated: SeenVideo, real: SeenVideo, most: int, crop: CropSettings) -> Iterator[PicturePair]:
    """At most so many frames in which both have a face, evenly chosen, cut from both videos at the real face's box."""
    both = np.flatnonzero(generated.found & real.found)
    boxes = {int(frame): box_of(real.points[frame], real.size, crop) for frame in both}
    there = [frame for frame, box in boxes.items() if box is not None]
    chosen = {there[index] for index in even_steps(len(there), min(most, len(there)))} if there else set()
    if not chosen:
        return
    until_s = (max(chosen) + 1) / VIDEO_FPS
    for one, other in zip(first_frames(generated.path, until_s), first_frames(real.path, until_s), strict=False):
        box = boxes.get(one.index)
        if one.index in chosen and box is not None:
            yield _pair(one.picture, other.picture, box, generated.points[one.index], real.points[one.index], crop)


def _pair(generated: Picture, real: Picture, box: Box, generated_points: FloatArray, real_points: FloatArray, crop: CropSettings) -> PicturePair:
    pose, source_content = split_points(relative_points(real_points, box, crop))
    _, content = split_points(relative_points(generated_points, box, crop))
    if generated.shape != real.shape:  # compared all the same, as the settings ask
        generated = np.asarray(cv2.resize(generated, (real.shape[1], real.shape[0]), interpolation=cv2.INTER_AREA), np.uint8)
    return PicturePair(crop_face(generated, box, crop.size), crop_face(real, box, crop.size), box, Contours(pose, source_content, content))


def _batches(pairs: Iterator[PicturePair]) -> Iterator[list[PicturePair]]:
    held: list[PicturePair] = []
    for pair in pairs:
        held.append(pair)
        if len(held) == AT_ONCE:
            yield held
            held = []
    if held:
        yield held


def _tensor(pictures: list[Picture]) -> Tensor:
    """(n, 3, S, S) float32 BGR in 0..1 of pictures (S, S, 3)."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous().float() / 255
