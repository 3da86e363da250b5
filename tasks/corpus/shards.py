"""Shards of face pictures: plain tar files that webdataset reads, and in which a picture is one byte range."""

import io
import tarfile
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Self

from tasks import places
from tasks.corpus import layout

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class PictureRanges:
    """Where the pictures of a clip lie: shard's file name; first byte, size and CRC-32 of each."""

    shard: str
    offsets: list[int]
    sizes: list[int]
    checksums: list[int]


class ShardWriter:
    """Writes the pictures of clips to shards of about `shard_mb`; a clip is never split over two.

    A context manager. A full shard is published at once, the last one on leaving; after an error, the one under way is dropped.
    Leaving without an error removes shards of that batch that a killed run with smaller shards left behind.
    Members are `<clip_id>.<frame>.<suffix>`, with the same owner and time always: the same pictures make the same file.
    """

    def __init__(self, store: str, batch: str, shard_mb: int) -> None:
        self._store, self._batch, self._shard_bytes = store, batch, shard_mb * MEGABYTE
        self._number = 0
        self._shard: _OpenShard | None = None

    def write(self, clip_id: str, suffix: str, pictures: Sequence[bytes]) -> PictureRanges:
        """Adds the coded pictures of a clip, in order of frames."""
        if self._shard is None:
            self._shard = _OpenShard(self._store, layout.shard_name(self._batch, self._number))
        offsets = [self._shard.add(f"{clip_id}.{frame:06d}{suffix}", picture) for frame, picture in enumerate(pictures)]
        ranges = PictureRanges(self._shard.name, offsets, [len(picture) for picture in pictures], [zlib.crc32(picture) for picture in pictures])
        if self._shard.size >= self._shard_bytes:
            self._close(None, None, None)
        return ranges

    def _close(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._shard is not None:
            shard, self._shard = self._shard, None
            self._number += 1
            shard.close(kind, error, trace)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close(kind, error, trace)
        if kind is None:
            self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        """Those beyond the last one written; the others were overwritten."""
        written = {layout.shard_name(self._batch, number) for number in range(self._number)}
        for name in places.list_names(places.join(self._store, layout.FACES), ".tar"):
            if layout.batch_of_shard(name) == self._batch and name not in written:
                places.remove(layout.shard_location(self._store, name))


class _OpenShard:
    """A shard under way in a local file."""

    def __init__(self, store: str, name: str) -> None:
        self.name = name
        self._stack = ExitStack()
        path = self._stack.enter_context(places.writing(layout.shard_location(store, name)))
        self._file: IO[bytes] = self._stack.enter_context(path.open("wb"))
        self._tar = self._stack.enter_context(tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT))

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._file.tell()

    def add(self, name: str, content: bytes) -> int:
        """Adds a member; gives the byte at which its content starts."""
        member = tarfile.TarInfo(name)
        member.size = len(content)
        member.mode = 0o644
        self._tar.addfile(member, io.BytesIO(content))
        return self.size - len(content) - (-len(content)) % tarfile.BLOCKSIZE

    def close(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Publishes the shard, or drops it after an error."""
        self._stack.__exit__(kind, error, trace)
