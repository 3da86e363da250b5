"""Face pictures of a store, one at a time and in any order, from shards of this machine or of a bucket."""

import threading
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from tasks import places
from tasks.corpus import layout
from tasks.corpus.store import CorpusStore
from tasks.training.footage import Footage
from tasks.training.mapped_arrays import BYTES_A_MB, cache_folder
from tasks.training.picture_cache import OPEN_FILES, PictureCache, PieceFile
from tasks.training.png import decode_picture

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Reads:
    """How many pictures were read, and from where."""

    cached: int
    """From the local folder, into which their clips were fetched before or then."""
    direct: int
    """From the store's shards, a range each."""
    fetched_clips: int
    """Clips that were fetched into the local folder, whole, with a request each."""


class FacePictures:
    """The face pictures of a footage's clips, for any number of threads.

    cache: local folder for pictures from a bucket (None: in the machine's temporary one), of which cache_mb are kept there;
    shards of this machine are read where they are.
    """

    def __init__(self, store: CorpusStore, footage: Footage, cache: str | None = None, cache_mb: int = 20480) -> None:
        self._store = store
        self._footage = footage
        self._local = not places.is_remote(store.uri)
        self._cache = None if self._local or not cache_mb else PictureCache(store, footage, cache_folder(cache), cache_mb * BYTES_A_MB)
        self._shard = lru_cache(maxsize=OPEN_FILES)(lambda name: PieceFile(places.local_path(layout.shard_location(store.uri, name))))
        self._counts: Counter[str] = Counter()
        self._counting = threading.Lock()

    def read(self, clip: int, row: int) -> Picture:
        """The picture (S, S, 3) uint8 BGR of a row of the footage, which is of that clip; StoreError when it cannot be read."""
        shard, offset, size = self._footage.shards[clip], int(self._footage.picture_offset[row]), int(self._footage.picture_size[row])
        picture = self._cached(clip, offset, size)
        self._count("direct" if picture is None else "cached")
        if picture is None:
            picture = decode_picture(self._coded(shard, offset, size))
        return self._store.face_picture(shard, offset, size) if picture is None else picture  # the store says what is wrong with it

    @property
    def reads(self) -> Reads:
        """What was read until now."""
        return Reads(self._counts["cached"], self._counts["direct"], self._cache.fetched if self._cache else 0)

    def _cached(self, clip: int, offset: int, size: int) -> Picture | None:
        coded = self._cache.read(clip, offset, size) if self._cache else None
        picture = decode_picture(coded) if coded else None
        if self._cache and coded and picture is None:
            self._cache.discard(clip)
        return picture

    def _coded(self, shard: str, offset: int, size: int) -> bytes:
        if self._local:
            try:
                coded = self._shard(shard).read(offset, size)
            except OSError:
                coded = b""
            if len(coded) == size:
                return coded
        return self._store.face_picture_bytes(shard, offset, size)

    def _count(self, name: str) -> None:
        with self._counting:
            self._counts[name] += 1
