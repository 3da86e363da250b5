"""Locations: paths of this machine and URIs such as s3://bucket/key; and what is said when one cannot be reached."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from schemas.errors import DubmillError, StoreError

OBJECT_STORE_CLIENTS = frozenset({"botocore", "aiobotocore", "aiohttp", "google", "gcsfs", "azure", "adlfs"})
"""Libraries under fsspec whose errors are not OSErrors."""
SECRETS = ((re.compile(r"://[^/\s@]+@"), "://"), (re.compile(r"(://[^\s?]+)\?[^\s'\"]+"), r"\1"))
"""Where a URI may hold secrets: a user and password before the host, a signature after the question mark."""


def is_remote(location: str) -> bool:
    """Whether a location is a URI such as s3://bucket/key; file:// and plain paths are local."""
    return "://" in location and not location.startswith("file://")


def local_path(location: str) -> Path:
    """The path of a local location (plain or file://). FileNotFoundError for the home of a user whom this machine does not know."""
    try:
        return Path(location.removeprefix("file://")).expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(errno.ENOENT, "there is no such user", location) from error


def absolute_location(location: str) -> str:
    """A location that means the same in any folder of this machine: URIs stay as they are, paths become absolute."""
    return location if is_remote(location) else str(local_path(location).absolute())


def without_secrets(text: str) -> str:
    """A text in which URIs hold neither user, password nor query."""
    for pattern, shown in SECRETS:
        text = pattern.sub(shown, text)
    return text


def version_of(entry: dict[str, Any]) -> str:
    """What changes when a file does, of its entry as fsspec gives it: size with ETag or time. The same for all who look at the same file."""
    changed = next((str(entry[name]) for name in ("ETag", "etag", "mtime", "LastModified") if entry.get(name)), "")
    return f"{entry['size']}-{changed}"


@contextmanager
def reachable(location: str, error_kind: type[DubmillError] = StoreError) -> Iterator[None]:
    """Within it a place that cannot be reached is an error of that kind, in one sentence without secrets; OSErrors stay as they are.

    That is an object store that does not answer or lacks credentials, and a URI of a kind that is not known.
    Only what speaks to the place belongs within: a ValueError there is taken as one about the location.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, ValueError | ImportError) and type(error).__module__.partition(".")[0] not in OBJECT_STORE_CLIENTS:
            raise
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise error_kind(without_secrets(f"{location} cannot be reached: {reason}.")) from error
