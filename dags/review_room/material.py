"""Review material, read where the data plane left it: batches below the prefixes, their items, and the videos that items name."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import fsspec
from pydantic import BaseModel, ValidationError

from schemas.errors import StoreError
from schemas.locations import is_remote, reachable, version_of, without_secrets
from schemas.review import BATCH_FILE, BATCH_NAME, ITEMS_FOLDER, ReviewBatch, ReviewItem

REMEMBERED = 256
"""Files that were read and are kept until they change: a batch is asked for at every step through it."""

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class FoundBatch:
    """A batch and the folder it lies in. content: None where it cannot be read; fault then says why."""

    name: str
    folder: str
    content: ReviewBatch | None
    fault: str = ""


@dataclass(frozen=True)
class Video:
    """A video of an item. version: changes with its content."""

    location: str
    size: int
    version: str


class Material:
    """What lies below some prefixes. Under one name there is one batch: that of the first prefix that has it."""

    def __init__(self, prefixes: tuple[str, ...]) -> None:
        self.prefixes = prefixes
        self._read: OrderedDict[str, tuple[str, BaseModel]] = OrderedDict()
        self._lock = threading.Lock()

    def batches(self) -> list[FoundBatch]:
        """All batches by name, also those that cannot be read. Raises StoreError when a prefix cannot be reached."""
        found: dict[str, FoundBatch] = {}
        for prefix in self.prefixes:
            for name in _folders(prefix):
                if name not in found and (batch := self._batch(name, f"{prefix}/{name}")) is not None:
                    found[name] = batch
        return [found[name] for name in sorted(found)]

    def batch(self, name: str) -> FoundBatch | None:
        """A batch that can be read; None where there is none of that name. StoreError."""
        if not BATCH_NAME.fullmatch(name):
            return None
        found = (self._batch(name, f"{prefix}/{name}") for prefix in self.prefixes)
        batch = next((one for one in found if one is not None), None)
        if batch is not None and batch.content is None:
            raise StoreError(batch.fault)
        return batch

    def item(self, batch: FoundBatch, key: str) -> ReviewItem | None:
        """An item that the batch lists. None: it lists none of that key, or the item is not there. StoreError where it cannot be read."""
        row = next((row for row in batch.content.rows if row.key == key), None) if batch.content else None
        if row is None:
            return None
        item = self._model(ReviewItem, f"{batch.folder}/{ITEMS_FOLDER}/{key}.json")
        if item is not None and item.job_id != row.job_id:
            raise StoreError(f"The item {key} of batch {batch.name} is of another job.")
        return item

    def video(self, batch: FoundBatch, location: str) -> Video | None:
        """A video that an item names, relative to its batch's folder or anywhere. None: it is not there."""
        place = self.place(batch, location)
        filesystem, path = _filesystem(place)
        with _readable(place):
            try:
                entry = filesystem.info(path)
            except FileNotFoundError:
                return None
        return Video(place, int(entry["size"]), version_of(entry)) if entry["type"] == "file" else None

    @staticmethod
    def place(batch: FoundBatch, location: str) -> str:
        """Where a location lies that an item names."""
        return location if is_remote(location) or location.startswith("/") else f"{batch.folder}/{location}"

    def _batch(self, name: str, folder: str) -> FoundBatch | None:
        try:
            content = self._model(ReviewBatch, f"{folder}/{BATCH_FILE}")
        except StoreError as error:
            return FoundBatch(name, folder, None, str(error))
        return None if content is None else FoundBatch(name, folder, content)

    def _model(self, kind: type[Model], location: str) -> Model | None:
        """The content of a JSON file, read again only when it has changed. None where there is none."""
        filesystem, path = _filesystem(location)
        with _readable(location):
            try:
                version = version_of(filesystem.info(path))
                known = self._read.get(location)
                if known is not None and known[0] == version and isinstance(known[1], kind):
                    return known[1]
                read = filesystem.cat_file(path)
            except FileNotFoundError:
                return None
        content = _checked(kind, read, location)
        self._remember(location, version, content)
        return content

    def _remember(self, location: str, version: str, content: BaseModel) -> None:
        with self._lock:
            self._read[location] = (version, content)
            self._read.move_to_end(location)
            while len(self._read) > REMEMBERED:
                self._read.popitem(last=False)


def read_range(video: Video, start: int, end: int) -> bytes:
    """Bytes of a video from `start` up to, not with, `end`. StoreError."""
    filesystem, path = _filesystem(video.location)
    with _readable(video.location):
        return bytes(filesystem.cat_file(path, start=start, end=end))


def _folders(prefix: str) -> list[str]:
    """Names of the folders directly below a prefix that a batch may have; none where it is not there yet."""
    filesystem, path = _filesystem(prefix)
    with _readable(prefix):
        try:
            filesystem.invalidate_cache()
            entries = filesystem.ls(path, detail=True)
        except FileNotFoundError:
            return []
    names = (entry["name"].rstrip("/").rpartition("/")[2] for entry in entries if entry["type"] == "directory")
    return sorted(name for name in names if BATCH_NAME.fullmatch(name))


def _checked(kind: type[Model], content: bytes, location: str) -> Model:
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        fault = error.errors()[0]
        raise StoreError(f"{without_secrets(location)} is no review material: {'.'.join(map(str, fault['loc']))}: {fault['msg']}.") from error


def _filesystem(location: str) -> tuple[Any, str]:
    with reachable(location):
        filesystem, path = fsspec.core.url_to_fs(location, use_listings_cache=False) if location.startswith("s3://") else fsspec.core.url_to_fs(location)
    return filesystem, path


@contextmanager
def _readable(location: str) -> Iterator[None]:
    """Within it whatever keeps a place from being read is a StoreError in one sentence; FileNotFoundError is for who asks."""
    try:
        with reachable(location):
            yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(without_secrets(f"{location} cannot be read: {error.strerror or error}.")) from error
