"""Finding sources: media files in folders, single files, and s3:// prefixes. Nothing is opened, only listed."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from schemas.errors import StoreError
from schemas.jobs import PlannedSource
from tasks import places
from tasks.corpus.speakers import SpeakerList, default_speaker

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf",
    ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv",
})
# fmt: on
"""Containers of moving pictures that ffmpeg reads. Folders of footage also hold notes, sound and pictures: those are no sources."""
VERSION_KEYS = ("ETag", "etag", "md5Hash", "contentHash", "LastModified", "last_modified", "mtime")
"""What object stores call the thing that changes with a file's content, best first."""


def discover(locations: tuple[str, ...], speakers: SpeakerList) -> Iterator[PlannedSource]:
    """Every source under the given folders, files and prefixes, one at a time, in the order of their names.

    Symbolic links are followed and the source is recorded under the path that they lead to; hidden files are left out. A file
    that is given by itself is a source whatever its suffix. Raises StoreError for a place that is not there or cannot be listed.
    """
    for location in locations:
        yield from (_discover_remote if places.is_remote(location) else _discover_local)(location, speakers)


def is_video_name(name: str) -> bool:
    """Whether a file of that name is a source when found in a folder."""
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES


def _discover_local(location: str, speakers: SpeakerList) -> Iterator[PlannedSource]:
    root = places.local_path(location).absolute()
    if root.is_dir():
        for path in _walk(root, frozenset()):
            yield _local_source(path, path.relative_to(root).as_posix(), speakers)
    elif root.exists():
        yield _local_source(root, root.name, speakers)
    else:
        raise StoreError(f"The source {location} is not there.")


def _walk(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    """Video files below a folder in order. `above`: the real folders on the way here, against links that lead in circles."""
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise StoreError(f"The folder {folder} cannot be listed: {error.strerror}.") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(Path(entry.path), above | {real})
        elif is_video_name(entry.name):
            yield Path(entry.path)


def _local_source(path: Path, relative: str, speakers: SpeakerList) -> PlannedSource:
    uri = str(path.resolve())
    try:
        status = path.stat()
        size, version = status.st_size, str(status.st_mtime_ns)
    except OSError:  # a link that leads nowhere: still a source, turned away as missing until it is mended
        size, version = 0, "missing"
    speaker = speakers.find(relative, str(path), uri) or default_speaker(relative)
    return PlannedSource(uri=uri, size=size, version=version, speaker=speaker)


def _discover_remote(location: str, speakers: SpeakerList) -> Iterator[PlannedSource]:
    filesystem, root = fsspec.core.url_to_fs(location)
    with places.reachable(location):
        filesystem.invalidate_cache()
        found = filesystem.find(root, detail=True)
    if not found:
        raise StoreError(f"The source {location} is not there, or there is nothing under it.")
    for path in sorted(found):
        relative = PurePosixPath(path).relative_to(root).as_posix()
        alone = relative == "."
        if alone or (is_video_name(places.name_of(path)) and not _has_hidden_folder(relative)):
            yield _remote_source(filesystem.unstrip_protocol(path), found[path], places.name_of(path) if alone else relative, speakers)


def _has_hidden_folder(relative: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(relative).parts)


def _remote_source(uri: str, entry: dict[str, Any], relative: str, speakers: SpeakerList) -> PlannedSource:
    version = next((str(entry[key]).strip('"') for key in VERSION_KEYS if entry.get(key)), "")
    speaker = speakers.find(relative, uri) or default_speaker(relative)
    return PlannedSource(uri=uri, size=int(entry["size"]), version=version, speaker=speaker)
