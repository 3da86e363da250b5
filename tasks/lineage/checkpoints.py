"""Weights files under some places: what they were trained on, and which version each is."""

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from schemas.checkpoints import Ancestor, CheckpointHeader, Kind
from schemas.errors import CheckpointError, StoreError
from tasks import places
from tasks.file_hash import file_hash
from tasks.published import CURRENT, weights_in_use

SUFFIX = ".safetensors"
REPLACEMENT = "-without-"
"""Stands between the name of a snapshot and the hash of the one that replaces it without somebody."""
VERSION_FOLDER = re.compile(r"[0-9a-f]{12}")
"""The folder of a published version: the beginning of the SHA-256 of its weights."""
READERS = 16
"""Headers read side by side: a bucket answers in tens of milliseconds."""


def same_version(one: str, other: str) -> bool:
    """Whether two beginnings of a SHA-256, of any lengths, may be of one file."""
    return bool(one and other) and (one.startswith(other) or other.startswith(one))


@dataclass(frozen=True)
class FoundModel:
    """A weights file and its header."""

    location: str
    header: CheckpointHeader

    @property
    def told_version(self) -> str:
        """The version as the folder of a published one tells it; empty: only the whole file does."""
        path = PurePosixPath(self.location)
        return path.parent.name if path.stem == self.header.kind and VERSION_FOLDER.fullmatch(path.parent.name) else ""

    @cached_property
    def sha256(self) -> str:
        """Of the file, which is read whole for it, once."""
        with places.local_copy(self.location) as path:
            return file_hash(path)

    @property
    def version(self) -> str:
        """The beginning of its SHA-256, 12 hex digits or all of them."""
        return self.told_version or self.sha256

    @property
    def own_training(self) -> Ancestor:
        """What it was trained on itself, in the words in which its descendants speak of it; they alone name its version."""
        header = self.header
        return Ancestor(
            version="", origin=header.origin, step=header.step, snapshot=header.snapshot, snapshot_checksum=header.snapshot_checksum, store=header.store
        )


@dataclass(frozen=True)
class Models:
    """All weights files that were found."""

    found: tuple[FoundModel, ...]

    def of_version(self, version: str, kind: Kind | None = None, snapshot: str | None = None) -> list[FoundModel]:
        """The files of a version. kind, snapshot: what else is known of it, so that fewer files must be read whole to be told."""
        told = [model for model in self.found if model.told_version and same_version(model.told_version, version)]
        if told:
            return told
        likely = (model for model in self.found if not model.told_version and kind in (None, model.header.kind))
        return [model for model in likely if snapshot in (None, model.header.snapshot) and same_version(model.sha256, version)]

    def begun_with(self, version: str) -> list[FoundModel]:
        """Those whose training began with the weights of that version."""
        return [model for model in self.found if model.header.ancestors and same_version(model.header.ancestors[-1].version, version)]


def find_checkpoints(locations: Iterable[str]) -> Models:
    """Every weights file of ours under the places, which may be folders, prefixes, files or a `current.json`; others are passed over.

    StoreError where nothing is.
    """
    files = [path for location in locations for path in files_under(_weights(location), (SUFFIX,))]
    with ThreadPoolExecutor(READERS) as readers:
        models = list(readers.map(read_model, dict.fromkeys(files)))
    return Models(tuple(model for model in models if model is not None))


def read_model(location: str) -> FoundModel | None:
    """A weights file; None when it is not one of ours."""
    from models.checkpoint import read_header  # here: it brings torch, which is needed only with checkpoints at hand

    try:
        return FoundModel(location, read_header(location))
    except CheckpointError:
        return None


def files_under(folder: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    """Files with those suffixes; StoreError where nothing is."""
    if not places.exists(folder):
        raise StoreError(f"There is nothing at {folder} to look through.")
    return (file.path for file in places.list_objects(folder) if file.path.lower().endswith(suffixes))


def is_of_snapshot(trained: Ancestor, name: str, checksum: str) -> bool:
    """Whether weights were trained on a snapshot, or on one that it has replaced: that held all that it holds."""
    if trained.snapshot is None:
        return False
    if trained.snapshot == name:
        return not (checksum and trained.snapshot_checksum) or checksum == trained.snapshot_checksum
    return name.startswith(trained.snapshot + REPLACEMENT)


def _weights(location: str) -> str:
    return weights_in_use(location) if places.name_of(location) == CURRENT else location
