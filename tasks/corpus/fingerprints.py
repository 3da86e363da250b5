"""Perceptual hashes of a clip's faces and sound, by which the same footage in another coding is recognised."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from schemas.tables import AUDIO_HASHES

FACE_HASH_PLACES = (0.1, 0.5, 0.9)
"""Where in a clip the hashed faces lie, as shares of its length: not at its ends, which cuts and fades change."""
HASH_BITS = 64
SAME_FACE_BITS = 10
SAME_SOUND_BITS = 60

Picture = npt.NDArray[np.uint8]


def hashed_frames(frames: int) -> tuple[int, ...]:
    """Numbers of the frames whose faces are hashed."""
    return tuple(int(place * frames) for place in FACE_HASH_PLACES)


def face_hashes(pictures: Sequence[Picture]) -> tuple[int, ...]:
    """A 64-bit perceptual hash of each BGR picture: signs of its lowest frequencies, which coding and size leave alone."""
    return tuple(_phash(picture) for picture in pictures)


def audio_hash(mel: npt.NDArray[np.float32]) -> tuple[int, ...]:
    """A 4 x 64-bit fingerprint of a sound, from its mel spectrogram (n, 80): whether a band's share of the sound grows from one
    piece of the clip to the next. Neither loudness nor coding changes that much.
    """
    pieces, bands = 33, 8 * AUDIO_HASHES // 4 + 1
    energy = np.stack([piece.mean(axis=0) for piece in np.array_split(mel, pieces)])
    grouped = np.stack([group.mean(axis=1) for group in np.array_split(energy, bands, axis=1)], axis=1)
    bits = np.diff(np.diff(grouped, axis=1), axis=0) > 0
    words = np.packbits(bits.reshape(AUDIO_HASHES, HASH_BITS), axis=1).view(">u8")
    return tuple(int(word) for word in words[:, 0])


def hamming(one: Sequence[int], other: Sequence[int]) -> int:
    """How many bits of two fingerprints differ."""
    return sum((a ^ b).bit_count() for a, b in zip(one, other, strict=True))


def _phash(picture: Picture) -> int:
    return int.from_bytes(bytes(cv2.img_hash.PHash.create().compute(picture)[0]), "big")
