"""Who speaks in a source: a list of the user's, or else how the files are arranged."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple, Self

from schemas.errors import SettingsError
from schemas.locations import without_secrets
from tasks.source_list import ListedSource, read_source_list

logger = logging.getLogger(__name__)

EXAMPLES = 3
"""Rows without a source that a warning names."""


class SourceNames(NamedTuple):
    """What a source may be called in a list: its URI, the path under which it was found, and that below the given folder."""

    uri: str
    path: str
    relative: str

    @property
    def exact(self) -> tuple[str, ...]:
        """The names that tell it, the surest first; the file name alone comes last."""
        return self.path, self.uri, self.relative, PurePosixPath(self.relative).name

    def ends_with(self, listed: str) -> bool:
        """Whether that is the last part of its path, from the beginning of a folder's name."""
        return self.path.endswith(f"/{listed}") or self.uri.endswith(f"/{listed}")


class SpeakerList:
    """Speakers by source; a source is a file name, a path relative to the given folder, a full path or URI, or the end of one.

    A row that names no source exactly is taken as the end of a path (`corpus/a.mp4` when data/corpus was given) if it is that of
    one source only. That is known when all sources have been seen, so it is told after the pass over them, in the memory of the
    list and not of the sources.
    """

    def __init__(self, speakers: dict[str, str] | None = None) -> None:
        self.speakers = speakers or {}
        self._named: set[str] = set()
        self._uri_by_end: dict[str, str | None] = {}
        self._rows_by_name: dict[str, list[str]] = {}
        for row in self.speakers:
            self._rows_by_name.setdefault(PurePosixPath(row).name, []).append(row)

    @classmethod
    def read(cls, location: str | None) -> Self:
        """Reads a CSV file with the columns source, speaker; empty without one. SettingsError when it cannot be used."""
        if location is None:
            return cls()
        return cls(_speakers(without_secrets(location), read_source_list(location, "speaker", "speakers")))

    def named(self, source: SourceNames) -> str | None:
        """The speaker of a row that names the source exactly; otherwise None, and the rows that end its path are remembered."""
        if not self.speakers:
            return None
        row = next((name for name in source.exact if name in self.speakers), None)
        if row is None:
            self._remember_ends(source)
            return None
        self._named.add(row)
        return self.speakers[row]

    def named_by_end(self) -> dict[str, str]:
        """After all sources were seen: speakers by URI where a row ends the path of that source only, the longest such row.

        A warning says how many rows fit no source, or several.
        """
        ends = {row: uri for row, uri in self._uri_by_end.items() if uri is not None and row not in self._named}
        rows = {ends[row]: row for row in sorted(ends, key=len)}
        _warn_of_rows_without_source(sorted(self.speakers.keys() - self._named - set(rows.values())), len(self.speakers))
        return {uri: self.speakers[row] for uri, row in rows.items()}

    def _remember_ends(self, source: SourceNames) -> None:
        for name in {PurePosixPath(source.path).name, PurePosixPath(source.uri).name}:
            for row in self._rows_by_name.get(name, ()):
                if source.ends_with(row):
                    first = self._uri_by_end.setdefault(row, source.uri)
                    self._uri_by_end[row] = source.uri if first == source.uri else None


def default_speaker(relative: str) -> str:
    """The folder that a source lies in; a file directly under the given folder, or given by itself, is its own speaker."""
    folder, _, name = relative.rpartition("/")
    return folder.rpartition("/")[2] or PurePosixPath(name).stem


def _warn_of_rows_without_source(rows: Sequence[str], listed: int) -> None:
    if rows:
        examples = ", ".join(rows[:EXAMPLES])
        logger.warning("%d of the %d sources in the list of speakers were not found, or fit several: %s.", len(rows), listed, examples)


def _speakers(location: str, rows: Iterable[ListedSource]) -> dict[str, str]:
    speakers: dict[str, str] = {}
    for source, speaker, line in rows:
        if not source or not speaker:
            raise SettingsError(f"Line {line} of the speakers file {location} has no source or no speaker.")
        first = speakers.setdefault(source.removeprefix("./"), speaker)
        if first != speaker:
            raise SettingsError(f"The speakers file {location} gives {source} two speakers: {first} and {speaker}.")
    return speakers
