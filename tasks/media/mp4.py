"""The boxes of an MP4 file: whether they are all there, and the size they say its pictures have."""

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

PATH_TO_TRACK_HEADER = (b"moov", b"trak", b"tkhd")
PATH_TO_SAMPLE_ENTRIES = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
ENTRIES_AT = 8
"""Bytes of a sample description box before its first entry: version, flags, count."""
ENTRY_SIZE_AT = 8 + 24
"""Bytes of a video sample entry before its width and height (ISO/IEC 14496-12, 12.1.3)."""
TRACK_SIZE_BYTES = 8
"""Width and height are the last eight bytes of a track header, 16.16 fixed point."""


class _Box(NamedTuple):
    kind: bytes
    begin: int
    end: int


def is_whole_mp4(path: Path) -> bool:
    """Whether an MP4 has its index and ends where its last box ends: a disk that fills up while ffmpeg closes a file goes unsaid."""
    size = path.stat().st_size
    with path.open("rb") as file:
        boxes = list(_boxes(file, _Box(b"", 0, size)))
    return any(box.kind == b"moov" for box in boxes) and boxes[-1].end == size


def index_end(beginning: bytes) -> int | None:
    """The byte at which the index of an MP4 ends that stands before its pictures, as for playing while it is fetched; None when it does not.

    beginning: so much of the file that the first bytes of its index are in it.
    """
    for box in _boxes(io.BytesIO(beginning), _Box(b"", 0, len(beginning))):
        if box.kind == b"moov":
            return box.end
        if box.kind == b"mdat":
            return None
    return None


def set_mp4_size(path: Path, width: int, height: int) -> None:
    """Makes the H.264 track of an MP4 say that its pictures are width × height, at most one less than coded, cut right and below.

    H.264 in 4:2:0 codes even sizes only; players and decoders crop to the size that the container says.
    """
    with path.open("r+b") as file:
        whole = _Box(b"", 0, path.stat().st_size)
        for trak in _find(file, whole, (b"moov", b"trak")):
            for entries in _find(file, trak, PATH_TO_SAMPLE_ENTRIES[2:]):
                entry_at = entries.begin + ENTRIES_AT
                if _read(file, entry_at + 4, 4) != b"avc1":
                    continue
                _write(file, entry_at + ENTRY_SIZE_AT, struct.pack(">HH", width, height))
                for header in _find(file, trak, PATH_TO_TRACK_HEADER[2:]):
                    _write(file, header.end - TRACK_SIZE_BYTES, struct.pack(">II", width << 16, height << 16))


def _find(file: BinaryIO, within: _Box, kinds: tuple[bytes, ...]) -> Iterator[_Box]:
    for box in _boxes(file, within):
        if box.kind == kinds[0]:
            if len(kinds) == 1:
                yield box
            else:
                yield from _find(file, box, kinds[1:])


def _boxes(file: BinaryIO, within: _Box) -> Iterator[_Box]:
    """The boxes directly in another; `begin` is where a box's content begins."""
    at = within.begin
    while at + 8 <= within.end:
        size, kind = struct.unpack(">I4s", _read(file, at, 8))
        begin = at + 8
        if size == 1:  # the size is in the next eight bytes
            (size,) = struct.unpack(">Q", _read(file, begin, 8))
            begin += 8
        end = at + size if size else within.end
        yield _Box(kind, begin, end)
        at = max(end, begin)


def _read(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)


def _write(file: BinaryIO, at: int, content: bytes) -> None:
    file.seek(at)
    file.write(content)
