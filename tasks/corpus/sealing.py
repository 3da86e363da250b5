"""Parquet tables that carry their own checksum: pages have one each, a seal covers footer and page headers too."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SEAL = "dubmill.sha256"
"""Name of the seal among a table's key-value metadata: SHA-256 of the file with zeros in its place."""
UNSEALED = b"0" * 64
TAIL_BYTES = 65536
"""Where the seal is looked for: the metadata end a file, only the writer's name and a byte a column come after them."""
SEAL_PATTERN = re.compile(re.escape(SEAL).encode() + rb"\x18\x40(.{64})", re.DOTALL)
"""In Thrift's compact protocol: the key, then a field of bytes, 64 of them."""
PIECE_BYTES = 1 << 20
NO_SEAL = -1


@contextmanager
def sealed_table(path: Path, schema: pa.Schema, **coding: Any) -> Iterator[pq.ParquetWriter]:
    """Writes a table of the store to a local file: zstd, a checksum a page, and sealed on a clean exit.

    The same rows, written in the same calls, make the same bytes. coding: other options of ParquetWriter.
    """
    with pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True, **coding) as writer:
        yield writer
        writer.add_key_value_metadata({SEAL: UNSEALED.decode()})
    place = _seal_place(path)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(_digest(path, place))


def is_intact(path: Path) -> bool:
    """Whether a table is as it was written, to the last bit; one that has no seal is not."""
    place = _seal_place(path)
    if place == NO_SEAL:
        return False
    with path.open("rb") as file:
        file.seek(place)
        return file.read(len(UNSEALED)) == _digest(path, place)


def _seal_place(path: Path) -> int:
    """Byte at which the digits of the seal begin, or NO_SEAL."""
    start = max(path.stat().st_size - TAIL_BYTES, 0)
    with path.open("rb") as file:
        file.seek(start)
        found = list(SEAL_PATTERN.finditer(file.read()))
    return start + found[-1].start(1) if found else NO_SEAL


def _digest(path: Path, place: int) -> bytes:
    """SHA-256 in hex digits of a file with zeros in place of its seal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while file.tell() < place:
            digest.update(file.read(min(PIECE_BYTES, place - file.tell())))
        file.seek(len(UNSEALED), 1)
        digest.update(UNSEALED)
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest().encode()
