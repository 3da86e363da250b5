"""Decoding of face pictures. Inflating is most of it, which Intel's ISA-L does three times as fast as zlib, where it is installed."""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER_BYTES = 13
"""What the first chunk holds: width, height, and the five of PLAIN."""
PLAIN = bytes((8, 2, 0, 0, 0))
"""8 bits a colour, RGB, deflated, the five filters, not interlaced: what OpenCV writes of a BGR picture."""
CHUNK_FRAME = 12
"""Bytes of a chunk beside its content: length and name before it, checksum behind."""
UNFILTERED, LEFT = 0, 1
"""Filters of a row that are undone here: none, and each byte less the one of the pixel to its left. OpenCV writes the latter alone."""

Picture = npt.NDArray[np.uint8]


def _find_inflate() -> Callable[..., bytes] | None:
    """ISA-L's `zlib.decompress`, where it is installed."""
    try:
        inflate: Callable[..., bytes] = importlib.import_module("isal.isal_zlib").decompress
    except ImportError:
        return None
    return inflate


INFLATE = _find_inflate()


def decode_picture(coded: bytes) -> Picture | None:
    """The picture (H, W, 3) uint8 BGR of a file's bytes, in any coding that OpenCV reads; None when it is damaged."""
    quickly = _decode_plain_png(coded, INFLATE) if INFLATE is not None else None
    if quickly is not None:
        return quickly
    picture: Any = cv2.imdecode(np.frombuffer(coded, dtype=np.uint8), cv2.IMREAD_COLOR) if coded else None
    return None if picture is None else np.asarray(picture, dtype=np.uint8)


def _decode_plain_png(coded: bytes, inflate: Callable[..., bytes]) -> Picture | None:
    """As OpenCV decodes it; None for a PNG of another kind or a damaged one, of which OpenCV may make something."""
    chunks = list(_chunks(coded))
    if not chunks or chunks[0][0] != b"IHDR" or chunks[0][1][8:] != PLAIN or chunks[-1][0] != b"IEND":
        return None
    width, height = (int.from_bytes(chunks[0][1][first : first + 4], "big") for first in (0, 4))
    try:
        rows = inflate(b"".join(content for name, content in chunks if name == b"IDAT"), bufsize=height * (1 + 3 * width))
    except Exception:  # noqa: BLE001 - of any kind that this zlib has: OpenCV looks at it again
        return None
    return _unfiltered(np.frombuffer(rows, np.uint8).reshape(height, -1), width) if len(rows) == height * (1 + 3 * width) else None


def _chunks(coded: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each chunk of a PNG; none of anything else."""
    at = len(SIGNATURE) if coded.startswith(SIGNATURE) else len(coded)
    while at + CHUNK_FRAME <= len(coded):
        size = int.from_bytes(coded[at : at + 4], "big")
        yield coded[at + 4 : at + 8], coded[at + 8 : at + 8 + size]
        at += CHUNK_FRAME + size


def _unfiltered(rows: npt.NDArray[np.uint8], width: int) -> Picture | None:
    """The picture of rows (H, 1 + 3 W) that begin with their filter; None where other filters are used than those known here."""
    pixels = rows[:, 1:].reshape(len(rows), width, 3)
    if (rows[:, 0] == LEFT).all():
        pixels = np.add.accumulate(pixels, axis=1, dtype=np.uint8)
    elif (rows[:, 0] != UNFILTERED).any():
        return None
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), dtype=np.uint8)
