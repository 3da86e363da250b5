"""The A/V offset of a clip by SyncNet: which shift of the sound lies nearest to the face, as its authors measure it."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.syncnet import FACE_PX, MFCC_A_FRAME, MFCC_WINDOW, WINDOW_FRAMES, SyncNet, load_syncnet
from schemas.errors import MediaError
from tasks.audio import PREEMPHASIS, SAMPLE_RATE
from tasks.corpus.clip import Clip
from tasks.corpus.faces import CutFrame
from tasks.corpus.sync import NOT_MEASURED, SyncMeasure
from tasks.media.decode import read_frames
from tasks.media.sound import INT16_SCALE

LARGEST_OFFSET_FRAMES = 15
"""Offsets that are looked for, in both directions (the authors' vshift)."""
SHORTEST_FRAMES = 35
"""So many that a sound 15 frames aside still has as many frames to be compared with as lie outside."""
HALF_SURE_DISTANCE = 3.0
"""SyncNet's own confidence (median of the mean distances less the least of them) that counts as 0.5.

Curated corpora leave clips under 3 out (LatentSync's data pipeline, for one); well-lit speech in step has 6 to 10.
"""

CROP_SIDE = 1.71
"""Side of SyncNet's crop, in longer sides of the landmarks' bounds, and how far its middle lies below theirs.

Measured on the authors' example, which is such a crop: their detector's box with 0.4 of it around, and below the face.
"""
CROP_LOWER = 0.13
SMOOTHED_FRAMES = 13
"""Frames over whose median a crop is taken, as the authors do: a detector's unrest must not look like a moving face."""
OUTSIDE_GREY = 110
"""Grey level of what lies outside the picture."""
FACES_AT_ONCE = 16
"""Face windows embedded at a time, to bound memory."""

MFCC_COEFFICIENTS = 13
MFCC_FILTERS = 26
MFCC_FFT = 512
MFCC_SAMPLES = 400
"""25 ms."""
MFCC_STEP = 160
"""10 ms."""
MFCC_LIFTER = 22

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class SyncScores:
    """SyncNet's own figures, as papers tell them."""

    offset_frames: float
    """Positive where the sound comes after the picture."""
    distance: float
    """LSE-D: the mean distance at the nearest shift."""
    confidence: float
    """LSE-C: the median of the shifts' mean distances less that."""


@dataclass(frozen=True)
class SyncNetMeter:
    """Measures clips with a loaded SyncNet."""

    network: SyncNet
    method: str = "syncnet"

    def measure(self, clip: Clip, fps: int) -> SyncMeasure:
        """The clip's A/V offset in whole frames, positive where the sound is late; NOT_MEASURED for less than SHORTEST_FRAMES.

        The confidence is c / (c + 3), c being SyncNet's: 0.5 from where its users believe it, 0.77 at the authors' example.
        Reads the clip's pictures from its source again, and is NOT_MEASURED where that fails.
        """
        if len(clip.segment.frames) < SHORTEST_FRAMES:
            return NOT_MEASURED
        try:
            with torch.inference_mode():
                return offset_of(embedded_faces(self.network, face_pictures(clip, fps)), embedded_sounds(self.network, clip.waveform))
        except (MediaError, OSError) as error:
            logger.warning("Clip %s could not be read again for its A/V offset: %s", clip.clip_id, error)
            return NOT_MEASURED


def load_sync(location: str) -> SyncNetMeter:
    """A meter with SyncNet's published weights of a path or URI. Raises CheckpointError when the file is not that."""
    return SyncNetMeter(load_syncnet(location))


def offset_of(faces: Tensor, sounds: Tensor) -> SyncMeasure:
    """The shift of the sounds at which embeddings (N, D) of faces and sounds, one of each a frame, lie nearest on average.

    The authors compare with zeros where a shifted sound ends; here only what there is counts. Their sign is the other one:
    their "AV offset: 3" is -3, a sound that comes 3 frames before the picture. NOT_MEASURED when some shift has no pair.
    """
    scores = sync_scores(faces, sounds)
    if scores is None:
        return NOT_MEASURED
    return SyncMeasure(scores.offset_frames, scores.confidence / (scores.confidence + HALF_SURE_DISTANCE))


def sync_scores(faces: Tensor, sounds: Tensor) -> SyncScores | None:
    """What the distances of embeddings (N, D) of faces and sounds say, one of each a frame; None when some shift has no pair."""
    frames = min(len(faces), len(sounds))
    if frames <= LARGEST_OFFSET_FRAMES:
        return None
    shifts = range(-LARGEST_OFFSET_FRAMES, LARGEST_OFFSET_FRAMES + 1)
    distances = torch.stack([_mean_distance(faces[:frames], sounds[:frames], shift) for shift in shifts])
    nearest = int(distances.argmin())
    return SyncScores(float(shifts[nearest]), float(distances[nearest]), float(distances.median() - distances[nearest]))


def mfcc(waveform: FloatArray) -> FloatArray:
    """Coefficients (13, n) float32, 100 a second, of a 16 kHz waveform in -1..1, as python_speech_features defines them for SyncNet.

    Of 16-bit numbers; frames of 25 ms without a window, 26 triangular mel filters, liftered, the first one the log energy.
    """
    power = _power(waveform.astype(np.float64) * INT16_SCALE)
    energies = np.log(_above_zero(power @ _mel_filters().T))
    coefficients = energies @ _cosines().T * (1 + MFCC_LIFTER / 2 * np.sin(np.pi * np.arange(MFCC_COEFFICIENTS) / MFCC_LIFTER))
    coefficients[:, 0] = np.log(_above_zero(power.sum(axis=1)))
    return np.ascontiguousarray(coefficients.T, dtype=np.float32)


def face_pictures(clip: Clip, fps: int) -> Iterator[Picture]:
    """SyncNet's crops of a clip, (224, 224, 3) BGR, one a frame, cut from the source's pictures."""
    frames = clip.segment.frames
    start = clip.segment.start_frame
    pictures = read_frames(clip.path, fps, start, start + len(frames), threads=1)
    for picture, (x, y, side) in zip(pictures, crop_squares(frames), strict=False):
        yield crop_square(picture.picture, x, y, side)


def crop_squares(frames: tuple[CutFrame, ...]) -> DoubleArray:
    """The squares (F, 3) of SyncNet's crops: middle x, middle y and side, in source pixels."""
    return squares_around(np.array([_bounds(frame) for frame in frames]))


def squares_around(bounds: DoubleArray) -> DoubleArray:
    """The squares (F, 3) of SyncNet's crops of faces whose landmarks have these bounds (F, 4): x0, y0, x1, y1 in source pixels."""
    longer = (bounds[:, 2:] - bounds[:, :2]).max(axis=1)
    middle = (bounds[:, 2:] + bounds[:, :2]) / 2
    squares = np.column_stack([middle[:, 0], middle[:, 1] + CROP_LOWER * longer, CROP_SIDE * longer])
    around = np.pad(squares, ((SMOOTHED_FRAMES // 2, SMOOTHED_FRAMES // 2), (0, 0)), "edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(around, SMOOTHED_FRAMES, axis=0), axis=-1)


def crop_square(picture: Picture, x: float, y: float, side: float) -> Picture:
    """A square of a picture as (224, 224, 3), grey where it reaches out of it."""
    scale = FACE_PX / side
    left, top = x - side / 2 - 0.5, y - side / 2 - 0.5  # OpenCV counts from the middle of a pixel
    moved = np.array([[scale, 0, -scale * left - 0.5], [0, scale, -scale * top - 0.5]])
    return cv2.warpAffine(picture, moved, (FACE_PX, FACE_PX), flags=cv2.INTER_LINEAR, borderValue=(OUTSIDE_GREY,) * 3)


def _bounds(frame: CutFrame) -> DoubleArray:
    """The landmarks' bounds (x0, y0, x1, y1) in source pixels, whatever padding the box has."""
    points = np.concatenate([frame.pose, frame.content], axis=1)
    corners = np.stack([points.min(axis=1), points.max(axis=1)])
    return (corners * (frame.box.width, frame.box.height) + (frame.box.x0, frame.box.y0)).reshape(-1)


def embedded_faces(network: SyncNet, pictures: Iterator[Picture]) -> Tensor:
    """One embedding (1024) a window, a few windows in memory at a time."""
    embedded: list[Tensor] = []
    held: list[Picture] = []
    for picture in pictures:
        held.append(picture)
        if len(held) == FACES_AT_ONCE + WINDOW_FRAMES - 1:
            embedded.append(network.embed_faces(_as_tensor(held)))
            held = held[FACES_AT_ONCE:]
    if len(held) >= WINDOW_FRAMES:
        embedded.append(network.embed_faces(_as_tensor(held)))
    return torch.cat(embedded) if embedded else torch.empty(0, 1)


def _as_tensor(pictures: list[Picture]) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()


def embedded_sounds(network: SyncNet, waveform: FloatArray) -> Tensor:
    """One embedding (1024) a frame whose 0.2 s of sound are there."""
    coefficients = mfcc(waveform)
    windows = np.lib.stride_tricks.sliding_window_view(coefficients, MFCC_WINDOW, axis=1)[:, ::MFCC_A_FRAME]
    return network.embed_sounds(torch.from_numpy(np.ascontiguousarray(windows.transpose(1, 0, 2))))


def _mean_distance(faces: Tensor, sounds: Tensor, shift: int) -> Tensor:
    count = len(faces) - abs(shift)
    return torch.nn.functional.pairwise_distance(faces[max(0, -shift) :][:count], sounds[max(0, shift) :][:count]).mean()


def _power(samples: DoubleArray) -> DoubleArray:
    """Power spectra (n, 257) of frames of 25 ms, the last one filled up with zeros."""
    emphasised = np.append(samples[:1], samples[1:] - PREEMPHASIS * samples[:-1])
    frames = 1 + max(0, -(-(len(emphasised) - MFCC_SAMPLES) // MFCC_STEP))
    padded = np.pad(emphasised, (0, max(0, (frames - 1) * MFCC_STEP + MFCC_SAMPLES - len(emphasised))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, MFCC_SAMPLES)[::MFCC_STEP][:frames]
    return np.square(np.abs(np.fft.rfft(windows, MFCC_FFT, axis=1))) / MFCC_FFT


def _above_zero(energy: DoubleArray) -> DoubleArray:
    return np.where(energy == 0, np.finfo(np.float64).eps, energy)


@cache
def _mel_filters() -> DoubleArray:
    """(26, 257): triangles between whole FFT bins that lie evenly on the mel scale up to 8 kHz."""
    highest_mel = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, highest_mel, MFCC_FILTERS + 2) / 2595) - 1)
    corners = np.floor((MFCC_FFT + 1) * hertz / SAMPLE_RATE)
    bins = np.arange(MFCC_FFT // 2 + 1)
    return np.stack([np.interp(bins, corners[n : n + 3], (0.0, 1.0, 0.0)) for n in range(MFCC_FILTERS)])


@cache
def _cosines() -> DoubleArray:
    """(13, 26): the orthonormal cosine transform (DCT-II)."""
    order, band = np.arange(MFCC_COEFFICIENTS)[:, None], np.arange(MFCC_FILTERS)[None]
    cosines = np.cos(np.pi * order * (2 * band + 1) / (2 * MFCC_FILTERS)) * np.sqrt(2 / MFCC_FILTERS)
    cosines[0] /= np.sqrt(2)
    return cosines
