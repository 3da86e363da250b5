"""Arrays with a row a frame that may be of hours: they grow in a temporary file and are mapped from it, so that memory does not grow."""

import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import StoreError

HELD_BYTES = 8 * 2**20
"""What is no larger is held in memory: the landmarks of five minutes at 25 frames a second."""

ROWS_AT_ONCE = 4096
"""Rows that are read together of what may be mapped: 4 MB of landmarks, 1 MB of mel frames."""
SCATTERED_AT_ONCE = 100
"""Likewise of rows that lie apart: the system reads some 64 kB around each."""

Rows = npt.NDArray[Any]


class GrowingArray:
    """Rows of one shape and dtype, appended to a temporary file of this process that no other sees and that goes with it.

    Raises StoreError where temporary files have no room.
    """

    def __init__(self, row: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self._row, self._dtype = row, np.dtype(dtype)
        self._row_bytes = int(np.prod(row, dtype=np.int64)) * self._dtype.itemsize
        self._file = tempfile.TemporaryFile(prefix="dubmill-", buffering=2**16)  # noqa: SIM115
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def append(self, rows: Rows) -> None:
        """Adds rows (n, *row)."""
        try:
            self._file.write(np.ascontiguousarray(rows, dtype=self._dtype).data.cast("B") if rows.size else b"")
            self._file.flush()
        except OSError as error:
            raise StoreError(f"There is no room for temporary files in {tempfile.gettempdir()}: {error.strerror or error}.") from error
        self._rows += len(rows)

    def read(self, first: int, last: int) -> Rows:
        """Rows `first` to `last` (exclusive), in memory."""
        content = os.pread(self._file.fileno(), (last - first) * self._row_bytes, first * self._row_bytes)
        return np.frombuffer(content, dtype=self._dtype).reshape(-1, *self._row)

    def array(self) -> Rows:
        """All rows, not to be written to: mapped from the file, or held where they are few."""
        if self._rows * self._row_bytes <= HELD_BYTES:
            return self.read(0, self._rows)
        return np.memmap(self._file, dtype=self._dtype, mode="r", shape=(self._rows, *self._row))


def array_of(pieces: Iterable[Rows], row: tuple[int, ...], dtype: npt.DTypeLike) -> Rows:
    """Pieces (n, *row) that come one by one as one array, held or mapped."""
    rows = GrowingArray(row, dtype)
    for piece in pieces:
        rows.append(piece)
    return rows.array()


def let_go(array: Rows) -> None:
    """Takes the pages of a mapped array, or of what it is a view of, out of this process's memory; they are read again when they are asked for.

    Nothing happens to arrays that are held. For whoever goes through hours of frames: now and then.
    """
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap):
        base.madvise(mmap.MADV_DONTNEED)


def pieces_of(array: Rows, rows_at_once: int = ROWS_AT_ONCE) -> Iterator[Rows]:
    """Consecutive pieces (n, ...) of an array, each let go of when the next one is asked for: so that what is mapped is never all in memory.

    An array without rows is one piece.
    """
    for first in range(0, max(1, len(array)), rows_at_once):
        yield array[first : first + rows_at_once]
        let_go(array)


def rows_of(array: Rows, places: npt.NDArray[np.int64]) -> Rows:
    """Rows (n, ...) of an array at places (n,) that may lie far apart, in memory; of what is mapped no more than them stays there."""
    rows = np.empty((len(places), *array.shape[1:]), dtype=array.dtype)
    for first in range(0, len(places), SCATTERED_AT_ONCE):
        rows[first : first + SCATTERED_AT_ONCE] = array[places[first : first + SCATTERED_AT_ONCE]]
        let_go(array)
    return rows
