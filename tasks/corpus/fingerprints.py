"""Perceptual hashes of a clip's faces and sound, by which the same footage in another coding is recognised.

Faces alone do not tell: one person in one studio looks the same in every clip. Sound alone does not either: a corpus may hold
one speech said by several dubs. Twins are clips alike in both.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from schemas.tables import AUDIO_HASHES, FACE_HASHES

FACE_HASH_PLACES = (0.1, 0.5, 0.9)
"""Where in a clip the hashed faces lie, as shares of its length: not at its ends, which cuts and fades change."""
HASH_BITS = 64
SAME_FACE_BITS = 40
"""Most of the 3 x 64 bits in which the faces of one clip in two codings differ.

Measured (tests/bench/fingerprints.py): the same clips, coded again, 95 % within 19, all within 39; other people 95 % at 52 and more.
"""
SAME_SOUND_BITS = 64
"""Most of the 4 x 64 bits in which the sound of one clip in two codings differs: all within 43, other sounds all at 99 and more."""

SOUND_PIECES = 33
SOUND_BANDS = 9
"""Between 33 pieces lie 32 steps, between 9 bands 8: 256 bits, of 0.3 s and some 900 Hz each in a clip of 10 s."""
EVEN = 1e-6
"""A step that is no larger is none: silence has an empty fingerprint."""

Picture = npt.NDArray[np.uint8]
DoubleArray = npt.NDArray[np.float64]


def hashed_frames(frames: int) -> tuple[int, ...]:
    """Numbers of the frames of a clip whose faces are hashed."""
    return tuple(int(place * frames) for place in FACE_HASH_PLACES)


def face_hashes(pictures: Sequence[Picture]) -> tuple[int, ...]:
    """A 64-bit perceptual hash of each of three BGR pictures: signs of their lowest frequencies, which coding and size leave alone."""
    if len(pictures) != FACE_HASHES:
        raise ValueError(f"{len(pictures)} pictures are not the {FACE_HASHES} of a fingerprint")
    return tuple(int.from_bytes(bytes(cv2.img_hash.pHash(picture)[0]), "big") for picture in pictures)


def audio_hash(mel: npt.NDArray[np.float32]) -> tuple[int, ...]:
    """A fingerprint of 4 x 64 bits of a mel spectrogram (n, 80), n > 0.

    Each bit says whether the step from a band to the next one grows or falls from a piece of the clip to the next (Haitsma and
    Kalker, "A highly robust audio fingerprinting system", 2002). Loudness, coding and an equaliser change few of them.
    """
    bands = np.stack([band.mean(axis=1) for band in np.array_split(_pieces(mel), SOUND_BANDS, axis=1)], axis=1)
    bits = np.diff(np.diff(bands, axis=1), axis=0) > EVEN
    words = np.packbits(bits.reshape(AUDIO_HASHES, HASH_BITS), axis=1)
    return tuple(int.from_bytes(bytes(word), "big") for word in words)


def hamming(one: Sequence[int], other: Sequence[int]) -> int:
    """How many bits of two fingerprints differ, over all of their words."""
    return sum((a ^ b).bit_count() for a, b in zip(one, other, strict=True))


def _pieces(mel: npt.NDArray[np.float32]) -> DoubleArray:
    """The means (33, 80) of so many equally long pieces, whose borders may lie within a mel frame: a shorter clip has shorter ones."""
    total = np.concatenate([np.zeros((1, mel.shape[1])), np.cumsum(mel, axis=0, dtype=np.float64)])
    borders = np.linspace(0, len(mel), SOUND_PIECES + 1)
    frames = np.arange(len(total))
    at_borders = np.stack([np.interp(borders, frames, band) for band in total.T], axis=1)
    return np.diff(at_borders, axis=0) * (SOUND_PIECES / len(mel))
