"""Finding sources: media files in folders, single files, and s3:// prefixes. Nothing is opened, only listed."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from schemas.errors import StoreError
from schemas.jobs import PlannedSource
from tasks import places
from tasks.corpus.arrangements import Arrangement, Layout, arrangement_of
from tasks.corpus.speakers import SourceNames, SpeakerList

logger = logging.getLogger(__name__)

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf",
    ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv",
})
# fmt: on
"""Containers of moving pictures that ffmpeg reads. Folders of footage also hold notes, sound and pictures: those are no sources."""
MISSING = "missing"
"""The version of a link that leads nowhere: still a source, turned away until it is mended."""
NAME_NOT_UTF8 = "name-not-utf-8"
"""The version of a file that no table can name: still a source, turned away until it is renamed."""


def discover(locations: tuple[str, ...], speakers: SpeakerList, layout: Layout = "folder", pretrain: bool = False) -> Iterator[PlannedSource]:
    """Every source under the given folders, files and prefixes, one by one as they are listed, in the order of their names.

    Symbolic links are followed and the source is recorded under the path that they lead to, which two names may share; hidden
    files are left out. A file that is given by itself is a source whatever its suffix. In memory at once: the names of one local
    folder, or one page of a listing. Speakers are those that rows name exactly; `speakers` then tells those of path ends.
    Raises StoreError for a place that is not there or cannot be listed, SettingsError for one that is not arranged as asked.
    """
    for location, arrangement in [(location, arrangement_of(location, layout, pretrain)) for location in locations]:
        for source in _list_remote(location, arrangement) if places.is_remote(location) else _list_local(location, arrangement):
            relative = source.names.relative
            yield PlannedSource(
                uri=source.names.uri,
                size=source.size,
                version=source.version,
                speaker=speakers.named(source.names) or arrangement.speaker(relative),
                split=arrangement.split(relative),
            )


def is_video_name(name: str) -> bool:
    """Whether a file of that name is a source when found in a folder."""
    _, dot, suffix = name.rpartition(".")
    return not name.startswith(".") and dot + suffix.lower() in VIDEO_SUFFIXES


class _Listed(NamedTuple):
    """A source as it was listed."""

    names: SourceNames
    size: int
    version: str


def _list_local(location: str, arrangement: Arrangement) -> Iterator[_Listed]:
    root = places.local_path(location).absolute()
    if root.is_dir():
        for folder in arrangement.folders:
            for path in _walk(root / folder, frozenset()):
                yield _local_source(path, path.relative_to(root).as_posix())
    elif root.exists():
        yield _local_source(root, root.name)
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
        if _is_folder(entry):
            yield from _walk(Path(entry.path), above | {real})
        elif is_video_name(entry.name):
            yield Path(entry.path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in circles or through a folder that may not be entered
        return False


def _local_source(path: Path, relative: str) -> _Listed:
    uri = os.path.realpath(path)
    try:
        status = path.stat()
        size, version = status.st_size, str(status.st_mtime_ns)
    except OSError:
        size, version = 0, MISSING
    names = SourceNames(_spelled(uri), _spelled(str(path)), _spelled(relative))
    if names.uri != uri:
        logger.warning("The name of %s is not UTF-8; it is turned away until it is renamed.", names.uri)
        version = NAME_NOT_UTF8
    return _Listed(names, size, version)


def _spelled(name: str) -> str:
    r"""The name with bytes that are not UTF-8 as \xff; tables cannot hold them otherwise."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _list_remote(location: str, arrangement: Arrangement) -> Iterator[_Listed]:
    """Objects under a prefix, page by page; or the object of that very name."""
    anything = False
    for folder in arrangement.folders:
        for uri, size, version in places.list_objects(places.join(location, folder) if folder else location):
            anything = True
            relative = _below(location, uri)
            if relative == "":
                yield _Listed(SourceNames(uri, uri, places.name_of(uri)), size, version)
            elif is_video_name(relative.rpartition("/")[2]) and "/." not in f"/{relative}":
                yield _Listed(SourceNames(uri, uri, relative), size, version)
    if not anything:
        raise StoreError(f"The source {location} is not there, or there is nothing under it.")


def _below(location: str, uri: str) -> str:
    """The path of an object below a prefix; empty for the object of that very name."""
    return uri.removeprefix(location.rstrip("/")).lstrip("/")
