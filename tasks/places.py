"""Places: folders on this machine and s3:// prefixes behind one set of functions (fsspec)."""

import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from schemas.errors import StoreError
from schemas.locations import is_remote, local_path, reachable, without_secrets

__all__ = [
    "exists",
    "is_remote",
    "join",
    "list_names",
    "local_copy",
    "local_path",
    "name_of",
    "open_to_read",
    "reachable",
    "read_bytes",
    "read_many",
    "read_range",
    "total_bytes",
    "write_bytes",
    "writing",
]


def join(location: str, *names: str) -> str:
    """A location below another."""
    return "/".join((location.rstrip("/"), *names))


def name_of(location: str) -> str:
    """The last part of a location."""
    return PurePosixPath(location).name


def exists(location: str) -> bool:
    """Whether there is a file or folder."""
    with reachable(location):
        filesystem, path = fsspec.core.url_to_fs(location)
        filesystem.invalidate_cache(path)
        return bool(filesystem.exists(path))


def read_bytes(location: str) -> bytes:
    """The whole content of a small file."""
    with reachable(location):
        filesystem, path = fsspec.core.url_to_fs(location)
        return bytes(filesystem.cat_file(path))


def read_range(location: str, start: int, size: int) -> bytes:
    """`size` bytes from byte `start`: one range read; fewer where the file ends before."""
    with reachable(location):
        filesystem, path = fsspec.core.url_to_fs(location)
        return bytes(filesystem.cat_file(path, start=start, end=start + size))


def read_many(locations: Sequence[str]) -> list[bytes]:
    """Whole contents of many small files of one place, in order; fetched side by side where the place is remote."""
    if not locations:
        return []
    with reachable(locations[0]):
        filesystem, _ = fsspec.core.url_to_fs(locations[0])
        paths = [fsspec.core.url_to_fs(location)[1] for location in locations]
        # Not `cat`, which takes brackets and stars in a path for a pattern.
        contents = filesystem.cat_ranges(paths, [None] * len(paths), [None] * len(paths), on_error="raise")
        return [bytes(content) for content in contents]


def open_to_read(location: str) -> Any:
    """A seekable binary file object, to be closed by whoever opens it; OSError when it is not there."""
    with reachable(location):
        filesystem, path = fsspec.core.url_to_fs(location)
        return filesystem.open(path, "rb")


def total_bytes(location: str) -> int:
    """Bytes of all files under a location; 0 when it is not there."""
    with reachable(location):
        filesystem, path = fsspec.core.url_to_fs(location)
        return int(filesystem.du(path)) if filesystem.exists(path) else 0


def list_names(location: str, suffix: str = "") -> list[str]:
    """Names of the files directly under a location that end so, sorted; none when the location is not there."""
    try:
        with reachable(location):
            filesystem, path = fsspec.core.url_to_fs(location)
            filesystem.invalidate_cache(path)  # another machine may have written since
            found = filesystem.ls(path, detail=True)
    except FileNotFoundError:
        return []
    names = (name_of(entry["name"]) for entry in found if entry["type"] == "file")
    return sorted(name for name in names if name.endswith(suffix) and not name.startswith("."))


def write_bytes(location: str, content: bytes) -> None:
    """Writes a small file whole: under a temporary name first, so that a half-written one never has the final name."""
    with writing(location) as path:
        path.write_bytes(content)


@contextmanager
def writing(location: str) -> Iterator[Path]:
    """A local path to write to; on a clean exit the file appears at `location` whole, after an error not at all.

    Raises StoreError, in one sentence, when the place cannot be written.
    """
    if is_remote(location):
        with tempfile.TemporaryDirectory(prefix="dubmill-") as folder:
            path = Path(folder) / name_of(location)
            yield path
            _upload(path, location)
        return
    target = local_path(location)
    path = target.parent / f".{target.stem}.{secrets.token_hex(4)}.partial{target.suffix}"  # two machines may write one batch
    _make_folder(target)
    try:
        yield path
        path.replace(target)
    except OSError as error:
        raise _unwritable(location, error) from error
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def local_copy(location: str) -> Iterator[Path]:
    """A local path with the content of `location`: itself when it is local, a temporary download when not."""
    if not is_remote(location):
        yield local_path(location)
        return
    with tempfile.TemporaryDirectory(prefix="dubmill-") as folder:
        path = Path(folder) / name_of(location)
        with reachable(location):
            filesystem, remote = fsspec.core.url_to_fs(location)
            filesystem.get_file(remote, str(path))
        yield path


def _make_folder(target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise IsADirectoryError("it is a folder")
        if not os.access(target.parent, os.W_OK):
            raise PermissionError("the folder cannot be written to")
    except OSError as error:
        raise _unwritable(str(target), error) from error


def _upload(path: Path, location: str) -> None:
    try:
        with reachable(location):
            filesystem, remote = fsspec.core.url_to_fs(location)
            filesystem.put_file(str(path), remote)
    except OSError as error:
        raise _unwritable(location, error) from error


def _unwritable(location: str, error: OSError) -> StoreError:
    return StoreError(without_secrets(f"{location} cannot be written: {error.strerror or error}."))
