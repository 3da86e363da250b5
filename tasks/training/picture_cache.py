"""A local folder with the pictures of some clips of a bucket.

Training comes back to every clip, at random: a cache that keeps what was read last would keep nothing that is asked for again once the
corpus is larger than it. So the clips to be kept are chosen once, as many as fit, and stay; the pictures of the others are read one by one.
Which they are follows from their names alone: all workers of a machine and later runs find each other's files.
"""

import hashlib
import logging
import os
import threading
import time
import weakref
import zlib
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from schemas.errors import StoreError
from schemas.locations import absolute_location, without_secrets
from tasks.corpus.store import CorpusStore
from tasks.training.footage import Footage
from tasks.training.mapped_arrays import BYTES_A_MB

LOG = logging.getLogger(__name__)

OPEN_FILES = 256
"""Files that are kept open: a quarter of what a process may have on most machines."""
CHECKSUM_BYTES = 4
"""CRC-32 of a clip's pictures, behind them."""
SUFFIX = ".pictures"
STRANGERS_STAY_S = 86400.0
"""How long files of clips that are not to be kept stay at least: other runs, or the other split, may read them."""
LOCKS = 64
"""Clips that may be fetched side by side; those of one lock wait for each other, which is rare."""


class PieceFile:
    """An open file of which pieces are read, from any thread; it is closed when nobody holds it any more."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, start: int, size: int) -> bytes:
        """`size` bytes from byte `start`; fewer where the file ends before."""
        return os.pread(self._descriptor, size, start)


class PictureCache:
    """Clips of a bucket in files of a local folder, at most so many bytes of this footage; several processes may share the folder.

    fetched: how many clips this process brought into it.
    """

    def __init__(self, store: CorpusStore, footage: Footage, folder: Path, most_bytes: int) -> None:
        self._store = store
        self._footage = footage
        self._folder = folder / f"faces-{_digest(absolute_location(store.uri))}"
        self._begin, self._length = clip_ranges(footage)
        self._names = [_digest(f"{batch}/{clip_id}") + SUFFIX for batch, clip_id in zip(footage.batches, footage.clip_ids, strict=True)]
        self._kept = choose_kept(self._names, self._length, most_bytes)
        self._locks = [threading.Lock() for _ in range(LOCKS)]
        self._open = lru_cache(maxsize=OPEN_FILES)(self._opened)
        self._whole: set[int] = set()
        self.fetched = 0
        self._begin_folder(most_bytes)

    def read(self, clip: int, offset: int, size: int) -> bytes | None:
        """Bytes of a clip's shard, from the clip's file, which is fetched if it is not there; None when the clip is not kept here.

        StoreError when the bucket cannot be read.
        """
        if not self._kept[clip]:
            return None
        with self._locks[clip % LOCKS]:
            file = self._open(clip)
        content = file.read(offset - int(self._begin[clip]), size) if file else b""
        if len(content) == size:
            return content
        self.discard(clip)
        return None

    def discard(self, clip: int) -> None:
        """Takes away a file that is damaged; it is fetched again when the clip is read again."""
        self._whole.discard(clip)
        (self._folder / self._names[clip]).unlink(missing_ok=True)
        self._open.cache_clear()

    def _opened(self, clip: int) -> PieceFile | None:
        """The file of a clip; None when it cannot be written, after which nothing more is kept."""
        path = self._folder / self._names[clip]
        try:
            if not self._is_whole(clip, path):
                self._fetch(clip, path)
            self._whole.add(clip)
            return PieceFile(path)
        except OSError as error:
            LOG.warning("Pictures are no longer kept in %s: %s.", self._folder, error.strerror or error)
            self._kept[:] = False
            return None

    def _is_whole(self, clip: int, path: Path) -> bool:
        """Whether a clip's file is there as it was fetched; its checksum is looked at once."""
        try:
            if clip in self._whole:
                return path.stat().st_size == self._length[clip] + CHECKSUM_BYTES
            content = path.read_bytes()
        except FileNotFoundError:
            return False
        held, checksum = content[:-CHECKSUM_BYTES], content[-CHECKSUM_BYTES:]
        return len(held) == self._length[clip] and checksum == _checksum(held)

    def _fetch(self, clip: int, path: Path) -> None:
        content = self._store.face_picture_bytes(self._footage.shards[clip], int(self._begin[clip]), int(self._length[clip]))
        partial = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.partial")
        try:
            partial.write_bytes(content + _checksum(content))
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        self.fetched += 1

    def _begin_folder(self, most_bytes: int) -> None:
        """Makes the folder, makes room in it, and says what will be in it."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._make_room(most_bytes)
        except OSError as error:
            raise StoreError(f"The cache {self._folder} cannot be written: {error.strerror or error}.") from error
        kept_bytes = int(self._length[self._kept].sum())
        LOG.info(
            "Pictures of %d of %d clips (%.0f MB) are kept in %s once they are read; the others are read from %s each time.",
            self._kept.sum(), len(self._kept), kept_bytes / BYTES_A_MB, self._folder, without_secrets(self._store.uri),
        )  # fmt: skip

    def _make_room(self, most_bytes: int) -> None:
        """Removes what nobody seems to read any more, the oldest first, while it and what is to be kept are too much together."""
        kept = {self._names[clip] for clip in np.flatnonzero(self._kept)}
        now, strangers = time.time(), []
        for path in list(self._folder.iterdir()):
            with suppress(FileNotFoundError):  # another worker has renamed or removed it since
                if path.name in kept:
                    os.utime(path)
                else:
                    strangers.append((path.stat().st_mtime, path.stat().st_size, path))
        too_much = int(self._length[self._kept].sum()) + sum(size for _, size, _ in strangers) - most_bytes
        for used, size, path in sorted(strangers):
            if too_much > 0 and now - used > STRANGERS_STAY_S:
                path.unlink(missing_ok=True)
                too_much -= size


def clip_ranges(footage: Footage) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where the pictures of each clip begin in its shard, and how many bytes they take there; (clips,) each."""
    begin = np.minimum.reduceat(footage.picture_offset, footage.first_frame)
    end = np.maximum.reduceat(footage.picture_offset + footage.picture_size, footage.first_frame)
    return begin, end - begin


def choose_kept(names: list[str], lengths: npt.NDArray[np.int64], most_bytes: int) -> npt.NDArray[np.bool_]:
    """Which clips (n,) are kept: in order of their names, which are hashes, as long as they fit together."""
    order = np.argsort(np.array(names))
    kept = np.zeros(len(names), dtype=np.bool_)
    kept[order] = np.cumsum(lengths[order]) <= most_bytes
    return kept


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(CHECKSUM_BYTES, "big")
