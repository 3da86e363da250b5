"""What names a file by its content: checkpoints in result rows, inputs in a dub's stamp."""

import functools
import hashlib
import time
from pathlib import Path

VERSION_LENGTH = 16
"""Hex digits of its SHA-256 by which a dub's stamp and result rows call a weights file."""
REMEMBERED_FILES = 64
"""A dub's inputs and checkpoints are asked for again within it and within the next; older ones are of no use."""
SETTLED_NS = 100_000_000
"""What was changed less than a tenth of a second ago may change again at the same recorded time: systems stamp files every few milliseconds."""


def versions_of(hashes: dict[str, str]) -> dict[str, str]:
    """What weights files are called, from their hashes."""
    return {name: digest[:VERSION_LENGTH] for name, digest in hashes.items()}


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content, 64 hex digits, read piece by piece. FileNotFoundError when it is not there.

    A file that is as it was is read once in this process, for hours of video are tens of gigabytes; a changed one is read anew.
    """
    now_ns, state = time.time_ns(), path.stat()
    changed_ns = max(state.st_mtime_ns, state.st_ctime_ns)
    if now_ns - changed_ns < SETTLED_NS:
        return _content_hash(path)
    return _remembered_hash(path.resolve(), state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)


@functools.lru_cache(REMEMBERED_FILES)
def _remembered_hash(path: Path, *_state: int) -> str:
    return _content_hash(path)


def _content_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
