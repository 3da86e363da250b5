"""Videos to browsers, piece by piece, from a folder or a bucket alike."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fastapi import Response
from fastapi.responses import StreamingResponse

from dags.review_room.material import Video, read_range

PIECE_BYTES = 4 * 1024 * 1024
"""Sent at once at most: a player asks for the next piece itself, and no answer holds memory, or a server that is to stop, for long."""
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
PARTIAL, UNSATISFIABLE = 206, 416


@dataclass(frozen=True)
class ByteRange:
    """From `start` up to, not with, `end`; empty where both are the same."""

    start: int
    end: int


def chosen_range(header: str, size: int) -> ByteRange | None:
    """What of a file to send for a Range header, a piece at most; empty where the file has none of it. None: the whole file.

    Headers that are no single range of bytes are to be ignored (RFC 9110, 14.2).
    """
    match = RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last) + 1, size) if first and last else size
    return ByteRange(start, max(start, min(end, start + PIECE_BYTES)))


def video_response(video: Video, asked: Mapping[str, str]) -> Response:
    """What a browser asks for by its headers `range` and `if-range`. StoreError when the video cannot be read."""
    etag = f'"{video.version}"'.replace('""', '"')
    common = {
        "Accept-Ranges": "bytes",
        "Content-Disposition": "inline",
        "Cache-Control": "private, no-cache",
        "Content-Encoding": "identity",  # or whoever compresses answers would take this one too, and ranges be of other bytes
        "ETag": etag,
    }
    piece = chosen_range(asked.get("range", ""), video.size) if asked.get("if-range", etag) == etag else None
    if piece is None:
        return StreamingResponse(_pieces(video), headers={**common, "Content-Length": str(video.size)}, media_type="video/mp4")
    if piece.start >= piece.end:
        return Response(status_code=UNSATISFIABLE, headers={**common, "Content-Range": f"bytes */{video.size}"})
    content = read_range(video, piece.start, piece.end)
    where = f"bytes {piece.start}-{piece.start + len(content) - 1}/{video.size}"
    return Response(content, PARTIAL, headers={**common, "Content-Range": where}, media_type="video/mp4")


def _pieces(video: Video) -> Iterator[bytes]:
    for start in range(0, video.size, PIECE_BYTES):
        yield read_range(video, start, min(start + PIECE_BYTES, video.size))
