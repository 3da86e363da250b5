"""Arrays that are mapped from files: made once by one process of a machine, shared by all, and found again by later runs."""

import fcntl
import logging
import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import StoreError
from tasks import places

LOG = logging.getLogger(__name__)

BYTES_A_MB = 10**6
CACHE_NAME = f"dubmill-{os.getuid()}"
"""Folder of the caches in the machine's temporary one; of each user, since nobody can write to another's."""

UNUSED_STAYS_S = 14 * 86400.0
"""How long arrays stay that no run has opened: each new snapshot has arrays of its own, and a disk would fill with those of former ones."""

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class ArraySpec:
    """An array to be made."""

    shape: tuple[int, ...]
    dtype: npt.DTypeLike

    @property
    def bytes(self) -> int:
        """What it takes."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


def total_bytes(specs: Mapping[str, ArraySpec]) -> int:
    """What all of them take."""
    return sum(spec.bytes for spec in specs.values())


def cache_folder(cache: str | None) -> Path:
    """The local folder of caches: the given one, or one in the machine's temporary folder. StoreError when the given one is a URI."""
    if cache is not None and places.is_remote(cache):
        raise StoreError(f"The cache {cache} is remote; give a folder of this machine.")
    return places.local_path(cache) if cache else Path(tempfile.gettempdir()) / CACHE_NAME


def held_arrays(specs: Mapping[str, ArraySpec]) -> Arrays:
    """Arrays in memory, not filled yet."""
    return {name: np.empty(spec.shape, spec.dtype) for name, spec in specs.items()}


def mapped_arrays(folder: Path, specs: Mapping[str, ArraySpec], fill: Callable[[Arrays], None]) -> Arrays:
    """Read-only arrays mapped from <folder>/<name>.npy; where they are not there, or cut short, they are made and filled first.

    Of several processes one makes them while the others wait. A process that is killed at it leaves nothing that is taken for whole.
    Before new ones are made, those beside them go that have the same first part of their names (up to a -) and that nobody opened for long.
    StoreError when the files cannot be written.
    """
    try:
        with _alone(folder):
            arrays = _opened(folder, specs)
            if arrays is None:
                LOG.info("%.0f MB of landmarks and mel spectrograms are written to %s, where later runs find them.", total_bytes(specs) / BYTES_A_MB, folder)
                _make(folder, specs, fill)
                arrays = _opened(folder, specs)
    except OSError as error:
        raise StoreError(f"The cache {folder} cannot be written: {error.strerror or error}.") from error
    if arrays is None:
        raise StoreError(f"The cache {folder} does not hold what was written to it.")
    return arrays


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Within it no other process of the machine makes this folder; a process that dies lets go of it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _opened(folder: Path, specs: Mapping[str, ArraySpec]) -> Arrays | None:
    """The arrays as they lie there; None when one is not as it should be."""
    try:
        arrays = {name: np.load(_file(folder, name), mmap_mode="r", allow_pickle=False) for name in specs}
    except (OSError, ValueError, EOFError):
        return None
    for name, spec in specs.items():
        if arrays[name].shape != spec.shape or arrays[name].dtype != spec.dtype:
            return None
        if isinstance(arrays[name].base, mmap.mmap):
            arrays[name].base.madvise(mmap.MADV_RANDOM)  # windows lie anywhere: what is read ahead of them is read for nothing
    with suppress(OSError):  # another user's arrays may be read, and not be touched
        os.utime(folder)
    return arrays


def _make(folder: Path, specs: Mapping[str, ArraySpec], fill: Callable[[Arrays], None]) -> None:
    partial = folder.with_suffix(".partial")
    _remove_unused(folder)
    for leftover in (partial, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir()
    try:
        arrays = {name: _room(_file(partial, name), spec) for name, spec in specs.items()}
        fill(arrays)
        for array in arrays.values():
            array.flush()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _remove_unused(folder: Path) -> None:
    """Whoever still has such arrays mapped keeps them: only their names go."""
    for other in list(folder.parent.glob(f"{folder.name.partition('-')[0]}-*")):
        with suppress(FileNotFoundError):  # another process removes them too
            if other.is_dir() and time.time() - other.stat().st_mtime > UNUSED_STAYS_S:
                shutil.rmtree(other, ignore_errors=True)


def _room(path: Path, spec: ArraySpec) -> np.memmap[Any, Any]:
    """An empty array in a file whose room on the disk is taken: a full disk is an error here, and not the death of who writes to the mapping."""
    array: np.memmap[Any, Any] = np.lib.format.open_memmap(path, mode="w+", dtype=spec.dtype, shape=spec.shape)  # type: ignore[no-untyped-call]
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.npy"
