"""Places: folders on this machine and s3:// prefixes behind one set of functions (fsspec).

A place that is slow, throttles (503 SlowDown) or drops a connection is asked again, a bounded number of times with growing pauses:
s3fs does so for single requests, and what is left (a body that breaks off, a file that comes short) is done again here.
A place that refuses the credentials is not asked again; it is one sentence without them.
"""

import errno
import os
import random
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

import fsspec

from schemas import locations
from schemas.errors import StoreError
from schemas.locations import is_remote, local_path, without_secrets

__all__ = [
    "PlacedFile",
    "exists",
    "followed",
    "is_remote",
    "join",
    "list_names",
    "list_objects",
    "local_copy",
    "local_path",
    "name_of",
    "open_to_read",
    "put",
    "reachable",
    "read_bytes",
    "read_many",
    "read_range",
    "remove",
    "require_writable",
    "total_bytes",
    "version",
    "write_bytes",
    "write_once",
    "writing",
]

PAUSES_S = (0.5, 2.0, 8.0, 20.0, 40.0)
"""Before each further try, so that a store that is away for a minute costs a minute, and no clip or dub that was made meanwhile.
Under it s3fs and botocore have tried five times each, so that this is for what they do not repeat."""
PASSING_ERRNOS = frozenset({errno.EBUSY, errno.EREMOTEIO})
"""What s3fs makes of SlowDown, ServiceUnavailable and OperationAborted, and of an InternalError."""
PASSING_KINDS = frozenset({"HTTPClientError", "ConnectTimeoutError", "ClientPayloadError", "ClientConnectionError", "FSTimeoutError", "IncompleteRead"})
"""Errors of botocore, aiohttp and fsspec by name, so that none of them is imported here. A refused connection is not among them:
botocore has tried it five times, and an address that nobody answers at is most often a wrong one."""
REFUSED_CODES = frozenset({"InvalidToken", "TokenRefreshRequired", "AuthorizationHeaderMalformed", "MissingSecurityHeader"})
"""Answers of S3 to credentials that s3fs does not take for a PermissionError."""
PIECE_BYTES = 32 * 2**20
"""Most bytes of a download in one request: what is fetched again after a dropped connection, and what a worker holds in memory."""
READ_AHEAD_BYTES = 2**20
"""What is fetched with each read of an open remote file: a row group of a clip is about as large; s3fs itself would take 50 MB."""
LISTED_AT_ONCE = 1000
"""Objects a page: the most that S3 gives."""
PARTIAL = re.compile(r"\.(?P<stem>.+)\.[0-9a-f]{8}\.partial(\.[^.]*)?", re.DOTALL)
"""Names of `_partial_name`."""
WRITER = "writer"
"""Name of the metadata of an object that tells who created it: a repeated request must know its own object."""
ETAG_KEYS = ("ETag", "etag", "md5Hash", "contentHash", "LastModified", "last_modified", "mtime")
"""What object stores call the thing that changes with a file's content, best first."""

Outcome = TypeVar("Outcome")


class PlacedFile(NamedTuple):
    """A file as a listing shows it. path: as this module takes it. version: ETag, or modification time in ns."""

    path: str
    size: int
    version: str


class _CutOffError(OSError):
    """A download ended before its end."""


def join(location: str, *names: str) -> str:
    """A location below another."""
    return "/".join((location.rstrip("/"), *names))


def followed(location: str) -> str:
    """A location as a corpus store names its sources: of a path the absolute one, links followed; a URI as it is."""
    return location if is_remote(location) else str(local_path(location).resolve())


def name_of(location: str) -> str:
    """The last part of a location."""
    return PurePosixPath(location).name


@contextmanager
def reachable(location: str) -> Iterator[None]:
    """Within it a place that cannot be reached or refuses the credentials is a StoreError, in one sentence without secrets.

    OSErrors stay as they are. Only what speaks to the place belongs within: a ValueError there is taken as one about the location.
    """
    try:
        with locations.reachable(location):
            yield
    except OSError as error:
        if is_remote(location) and _refuses_credentials(error):
            sentence = f"{location} cannot be used: the object store refuses the credentials; check the access key, its secret and what they allow."
            raise StoreError(without_secrets(sentence)) from error
        raise


def _refuses_credentials(error: OSError) -> bool:
    return isinstance(error, PermissionError) or _code(error) in REFUSED_CODES


def _code(error: BaseException) -> str:
    """S3's own word for an error; empty where there is none."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _patiently(location: str, call: Callable[[], Outcome]) -> Outcome:
    """What a call gives that speaks to a place; it is repeated where the fault is one that passes."""
    with reachable(location):
        for pause_s in PAUSES_S:
            try:
                return call()
            except Exception as error:
                if not _passes(error):
                    raise
            time.sleep(pause_s * random.uniform(0.5, 1.0))  # not all workers again at once
        return call()


def _passes(error: Exception) -> bool:
    """Whether an error may be gone with the next try."""
    if isinstance(error, TimeoutError | ConnectionError | _CutOffError):
        return True
    return (isinstance(error, OSError) and error.errno in PASSING_ERRNOS) or any(kind.__name__ in PASSING_KINDS for kind in type(error).__mro__)


def _filesystem(location: str) -> tuple[Any, str]:
    """The fsspec filesystem of a location, and the path in it."""
    with reachable(location):
        filesystem, path = fsspec.core.url_to_fs(location)
        return filesystem, str(path)


def exists(location: str) -> bool:
    """Whether there is a file or folder."""
    filesystem, path = _filesystem(location)
    filesystem.invalidate_cache(path)
    return bool(_patiently(location, lambda: filesystem.exists(path)))


def version(location: str) -> str:
    """Of a file: changes with its content, as `schemas.locations.version_of` has it. FileNotFoundError, StoreError."""
    filesystem, path = _filesystem(location)
    filesystem.invalidate_cache()
    return _patiently(location, lambda: locations.version_of(filesystem.info(path)))


def read_bytes(location: str) -> bytes:
    """The whole content of a small file."""
    filesystem, path = _filesystem(location)
    return bytes(_patiently(location, lambda: filesystem.cat_file(path)))


def read_range(location: str, start: int, size: int) -> bytes:
    """`size` bytes from byte `start`: one range read; fewer where the file ends before."""
    filesystem, path = _filesystem(location)
    return bytes(_patiently(location, lambda: filesystem.cat_file(path, start=start, end=start + size)))


def read_many(locations: Sequence[str]) -> list[bytes]:
    """Whole contents of many small files of one place, in order; fetched side by side where the place is remote."""
    if not locations:
        return []
    filesystem, _ = _filesystem(locations[0])
    paths = [_filesystem(location)[1] for location in locations]
    whole = [None] * len(paths)
    # Not `cat`, which takes brackets and stars in a path for a pattern.
    contents = _patiently(locations[0], lambda: filesystem.cat_ranges(paths, whole, whole, on_error="raise"))
    return [bytes(content) for content in contents]


def open_to_read(location: str) -> Any:
    """A seekable binary file object, to be closed by whoever opens it; OSError when it is not there."""
    filesystem, path = _filesystem(location)
    return _patiently(location, lambda: filesystem.open(path, "rb", **({"block_size": READ_AHEAD_BYTES} if is_remote(location) else {})))


def total_bytes(location: str) -> int:
    """Bytes of all files under a location; 0 when it is not there."""
    return sum(file.size for file in list_objects(location))


def list_names(location: str, suffix: str = "") -> list[str]:
    """Names of the files directly under a location that end so, sorted; none when the location is not there."""
    filesystem, path = _filesystem(location)
    filesystem.invalidate_cache(path)  # another machine may have written since
    try:
        found = _patiently(location, lambda: filesystem.ls(path, detail=True))
    except FileNotFoundError:
        return []
    names = (name_of(entry["name"]) for entry in found if entry["type"] == "file")
    return sorted(name for name in names if name.endswith(suffix) and not name.startswith("."))


def list_objects(location: str) -> Iterator[PlacedFile]:
    """Every file under a location, at any depth, or that file itself; nothing when there is none. Held in memory: one folder or page.

    Local files come folder by folder in the order of names (links to files are files, links to folders are not followed), objects in S3's
    order, which is that of their keys' bytes.
    """
    if not is_remote(location):
        yield from _list_local(local_path(location))
        return
    filesystem, path = _filesystem(location)
    listed = _list_s3 if "s3" in filesystem.protocol else _list_other
    yield from listed(location, filesystem, path)


def _list_local(path: Path) -> Iterator[PlacedFile]:
    try:
        if not path.is_dir():
            status = path.stat()
            yield PlacedFile(str(path), status.st_size, str(status.st_mtime_ns))
            return
        names = sorted(entry.name for entry in os.scandir(path) if not (entry.is_symlink() and entry.is_dir()))
    except FileNotFoundError:  # not there, or gone since it was listed
        return
    for name in names:
        yield from _list_local(path / name)


def _list_s3(location: str, filesystem: Any, path: str) -> Iterator[PlacedFile]:
    bucket, _, key = path.partition("/")
    request: dict[str, Any] = {"Bucket": bucket, "Prefix": f"{key.rstrip('/')}/" if key else "", "MaxKeys": LISTED_AT_ONCE}
    found = False
    while True:
        page = _list_page(location, filesystem, request)
        for entry in page.get("Contents", []):
            found = True
            if not entry["Key"].endswith("/"):  # some tools make empty objects for folders
                yield PlacedFile(f"s3://{bucket}/{entry['Key']}", int(entry["Size"]), entry["ETag"].strip('"'))
        if not page.get("IsTruncated"):
            break
        request["ContinuationToken"] = page["NextContinuationToken"]
    if not found and key:
        yield from _list_alone(location, filesystem, path)


def _list_page(location: str, filesystem: Any, request: dict[str, Any]) -> dict[str, Any]:
    try:
        page: dict[str, Any] = _patiently(location, lambda: filesystem.call_s3("list_objects_v2", **request))
    except FileNotFoundError:  # there is no such bucket
        return {}
    return page


def _list_other(location: str, filesystem: Any, path: str) -> Iterator[PlacedFile]:
    found = False
    for _, _, files in _patiently(location, lambda: filesystem.walk(path, detail=True)):
        for _, entry in sorted(files.items()):
            found = True
            yield _placed(filesystem, entry)
    if not found:
        yield from _list_alone(location, filesystem, path)


def _list_alone(location: str, filesystem: Any, path: str) -> Iterator[PlacedFile]:
    """A location that may be one file."""
    filesystem.invalidate_cache(path)
    try:
        entry = _patiently(location, lambda: filesystem.info(path))
    except FileNotFoundError:
        return
    if entry["type"] == "file":
        yield _placed(filesystem, entry)


def _placed(filesystem: Any, entry: dict[str, Any]) -> PlacedFile:
    version = next((str(entry[key]).strip('"') for key in ETAG_KEYS if entry.get(key)), "")
    return PlacedFile(str(filesystem.unstrip_protocol(entry["name"])), int(entry["size"] or 0), version)


def write_bytes(location: str, content: bytes) -> None:
    """Writes a small file whole: under a temporary name first, so that a half-written one never has the final name."""
    with writing(location) as path:
        path.write_bytes(content)


def put(path: Path, location: str) -> None:
    """Puts a local file to a location, whole or not at all; StoreError when the place cannot be written."""
    if is_remote(location):
        _upload(path, location)
        return
    with writing(location) as target:
        shutil.copyfile(path, target)


def write_once(location: str, content: bytes | Path) -> bool:
    """Writes a file, given as its bytes or as a local file, only where there is none yet, whole; False: there was one, which stays.

    Of many writers exactly one gets True. (On a file system without hard links two of the very same moment may both get it.)
    Raises StoreError when the place cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="dubmill-") as folder:
        path = content if isinstance(content, Path) else Path(folder) / "content"
        try:
            if isinstance(content, bytes):
                path.write_bytes(content)
            return (_create_remote if is_remote(location) else _create_local)(path, location)
        except OSError as error:
            raise _unwritable(location, error) from error


def _create_local(origin: Path, location: str) -> bool:
    target = local_path(location)
    _make_folder(target)
    made = _partial_name(target)
    try:
        shutil.copyfile(origin, made)
        return _link(made, target)
    finally:
        made.unlink(missing_ok=True)


def _link(made: Path, target: Path) -> bool:
    try:
        target.hardlink_to(made)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}:
            raise
        if target.exists():  # a file system without hard links
            return False
        made.replace(target)
    return True


def _create_remote(path: Path, location: str) -> bool:
    filesystem, remote = _filesystem(location)
    mark = secrets.token_hex(8)
    marked = {"Metadata": {WRITER: mark}} if "s3" in filesystem.protocol else {}
    try:
        _patiently(location, lambda: filesystem.put_file(str(path), remote, mode="create", **marked))
    except OSError as error:
        if not isinstance(error, FileExistsError) and _code(error) not in {"PreconditionFailed", "412"}:
            raise
        # The first answer may have been lost on its way here, and the request that was repeated found what it had made itself.
        return bool(marked) and _writer(location, filesystem, remote) == mark
    return True


def _writer(location: str, filesystem: Any, remote: str) -> str:
    """The mark of whoever created an object."""
    filesystem.invalidate_cache(remote)
    found = _patiently(location, lambda: filesystem.metadata(remote))
    return str(found.get(WRITER, ""))


def remove(location: str) -> None:
    """Removes a file; one that is not there is no error. Raises StoreError when it cannot be removed."""
    try:
        if is_remote(location):
            filesystem, path = _filesystem(location)
            _patiently(location, lambda: filesystem.rm_file(path))
        else:
            local_path(location).unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(without_secrets(f"{location} cannot be removed: {error.strerror or error}.")) from error


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
    path = _partial_name(target)
    _make_folder(target)
    try:
        yield path
        path.replace(target)
    except OSError as error:
        raise _unwritable(location, error) from error
    finally:
        path.unlink(missing_ok=True)


def _partial_name(target: Path) -> Path:
    """A hidden name beside a file that is no other writer's: two machines may write one file."""
    return target.parent / f".{target.stem}.{secrets.token_hex(4)}.partial{target.suffix}"


def remove_partials(location: str, stem: str | None = None) -> None:
    """Removes from a folder, not from those in it, what killed writers left half written: of files of exactly that stem, or of all.

    Only for folders in which nobody else writes just now; one that is not there is no error. Remote places have none.
    """
    if is_remote(location):
        return
    for path in local_path(location).glob(".*"):
        partial = PARTIAL.fullmatch(path.name)
        if partial is not None and stem in (None, partial["stem"]):
            remove(str(path))


@contextmanager
def local_copy(location: str) -> Iterator[Path]:
    """A local path with the content of `location`: itself when it is local, a temporary download when not.

    A download that stays shorter than the file is an OSError, never a copy.
    """
    if not is_remote(location):
        yield local_path(location)
        return
    with tempfile.TemporaryDirectory(prefix="dubmill-") as folder:
        path = Path(folder) / name_of(location)
        _download(location, path)
        yield path


def _download(location: str, path: Path) -> None:
    filesystem, remote = _filesystem(location)
    filesystem.invalidate_cache(remote)
    entry = _patiently(location, lambda: filesystem.info(remote))
    if "s3" not in filesystem.protocol:  # others may know neither sizes nor ranges
        _patiently(location, lambda: _whole(filesystem, remote, path, entry.get("size")))
        return
    with path.open("wb") as file:
        for start in range(0, entry["size"], PIECE_BYTES):
            end = min(start + PIECE_BYTES, entry["size"])
            file.write(_patiently(location, partial(_piece, filesystem, remote, start, end)))
    if entry["size"] > PIECE_BYTES and _now(location, filesystem, remote)["ETag"] != entry["ETag"]:
        raise OSError(errno.ESTALE, f"{location} was changed while it was read")


def _whole(filesystem: Any, remote: str, path: Path, size: int | None) -> None:
    filesystem.get_file(remote, str(path))
    if size is not None and path.stat().st_size != size:
        raise _CutOffError(errno.EIO, f"{remote} ended after {path.stat().st_size} of {size} bytes")


def _piece(filesystem: Any, remote: str, start: int, end: int) -> bytes:
    content = bytes(filesystem.cat_file(remote, start=start, end=end))
    if len(content) != end - start:
        raise _CutOffError(errno.EIO, f"{remote} ended after {start + len(content)} bytes")
    return content


def _now(location: str, filesystem: Any, remote: str) -> dict[str, Any]:
    filesystem.invalidate_cache(remote)
    return dict(_patiently(location, lambda: filesystem.info(remote)))


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
    filesystem, remote = _filesystem(location)
    try:
        _patiently(location, lambda: filesystem.put_file(str(path), remote))
    except OSError as error:
        raise _unwritable(location, error) from error


def require_writable(location: str) -> None:
    """StoreError when no file can be written at a URI: an empty one is, beside it, and removed again."""
    filesystem, remote = _filesystem(location)
    try:
        _patiently(location, lambda: filesystem.pipe_file(f"{remote}.partial", b""))
        _patiently(location, lambda: filesystem.rm_file(f"{remote}.partial"))
    except OSError as error:
        raise _unwritable(location, error) from error


def _unwritable(location: str, error: OSError) -> StoreError:
    return StoreError(without_secrets(f"{location} cannot be written: {error.strerror or error}."))
