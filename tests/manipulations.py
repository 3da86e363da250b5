"""A clip spoilt in a known way, so that a metric must move the way its definition says."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from schemas.face_points import CONTENT_POSITIONS
from tasks.audio import SAMPLE_RATE, read_waveform
from tasks.faces.head_angles import CANONICAL_POINTS_CM, ORDER
from tasks.faces.landmarks import FaceMesh
from tasks.media.decode import read_frames
from tasks.media.encode import Sound, VideoWriter
from tasks.media.probe import probe

FPS = 25
CRF = 8
SHIFT_FRAMES = 5
BLUR_SHARE = 1 / 150
"""Sigma of the blur as a share of the picture's shorter side."""
RIGID = [ORDER.index(point) for point in CANONICAL_POINTS_CM]
NOSE_TIP = ORDER.index(4)


def cut_clip(source: Path, to: Path, frames: int, start_frame: int = 0, sound_from: Path | None = None) -> Path:
    """Frames of a video from `start_frame` on, with the sound of the video's beginning (or of another video's), always that of frame 0 on."""
    pictures = (frame.picture for frame in read_frames(source, FPS, start_frame, start_frame + frames))
    return write_clip(to, pictures, sound_of(sound_from or source, frames))


def sound_of(source: Path, frames: int) -> np.ndarray:
    """The sound of a video's first frames, 16 kHz."""
    return read_waveform(source, probe(source).start_s)[: frames * SAMPLE_RATE // FPS]


def write_clip(to: Path, pictures: Iterator[np.ndarray], waveform: np.ndarray) -> Path:
    """Pictures and their sound as an MP4."""
    first = next(pictures)
    to.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(str(to), first.shape[1], first.shape[0], Fraction(FPS), Sound(waveform[:, None], SAMPLE_RATE), crf=CRF) as writer:
        writer.write(first)
        for picture in pictures:
            writer.write(picture)
    return to


def blurred(clip: Path, to: Path, frames: int) -> Path:
    """Every picture blurred."""
    pictures = [frame.picture for frame in read_frames(clip, FPS, 0, frames)]
    sigma = min(pictures[0].shape[:2]) * BLUR_SHARE
    return write_clip(to, (cv2.GaussianBlur(picture, (0, 0), sigma) for picture in pictures), sound_of(clip, frames))


def mouth_frozen(clip: Path, to: Path, frames: int) -> Path:
    """The lower face of the first frame on every frame, where the head is, with a soft border."""
    with FaceMesh() as mesh:
        pictures = [frame.picture for frame in islice(read_frames(clip, FPS), frames)]
        faces = [mesh.find(picture) for picture in pictures]
    return write_clip(to, _with_first_mouth(pictures, faces), sound_of(clip, frames))


def _with_first_mouth(pictures: list[np.ndarray], faces: list[np.ndarray | None]) -> Iterator[np.ndarray]:
    first = faces[0]
    assert first is not None
    mask = _lower_face(pictures[0], first)
    for picture, face in zip(pictures, faces, strict=True):
        if face is None:
            yield picture
            continue
        move, _ = cv2.estimateAffinePartial2D(first[RIGID].astype(np.float32), face[RIGID].astype(np.float32), method=cv2.LMEDS)
        size = (picture.shape[1], picture.shape[0])
        moved, share = cv2.warpAffine(pictures[0], move, size, flags=cv2.INTER_CUBIC), cv2.warpAffine(mask, move, size)[:, :, None]
        yield np.rint(moved * share + picture * (1 - share)).clip(0, 255).astype(np.uint8)


def _lower_face(picture: np.ndarray, face: np.ndarray) -> np.ndarray:
    """(H, W) 0..1: mouth, chin and jaw under the nose."""
    content = face[list(CONTENT_POSITIONS)]
    below = content[content[:, 1] > face[NOSE_TIP, 1]]
    mask = np.zeros(picture.shape[:2], np.float32)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(below).astype(np.int32)), 1.0)
    return cv2.GaussianBlur(mask, (0, 0), float(np.ptp(face[:, 0])) / 40)
