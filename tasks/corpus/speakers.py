"""Who speaks in a source: a list of the user's, or else how the files are arranged."""

import csv
import io
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple, Self

from schemas.errors import SettingsError, StoreError
from tasks import places

logger = logging.getLogger(__name__)

COLUMNS = ("source", "speaker")
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


@dataclass(frozen=True)
class SpeakerList:
    """Speakers by source; a source is a file name, a path relative to the given folder, a full path or URI, or the end of one."""

    speakers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, location: str | None) -> Self:
        """Reads a CSV file with the columns source, speaker; empty without one. SettingsError when it cannot be used."""
        if location is None:
            return cls()
        try:
            text = places.read_bytes(location).decode("utf-8-sig")
        except FileNotFoundError as error:
            raise SettingsError(f"The speakers file {location} is not there.") from error
        except (OSError, UnicodeDecodeError, StoreError) as error:
            raise SettingsError(f"The speakers file {location} cannot be read.") from error
        return cls(_speakers(location, text))

    def match(self, sources: Sequence[SourceNames]) -> list[str | None]:
        """The listed speaker of each source, None where it is not listed; a warning says how many rows match no source.

        A row that names no source exactly is taken as the end of a path (`corpus/a.mp4` when data/corpus was given) if it is
        that of one source only.
        """
        rows = [next((name for name in source.exact if name in self.speakers), None) for source in sources]
        left = self.speakers.keys() - rows
        ends = _rows_by_end(left, [source for source, row in zip(sources, rows, strict=True) if row is None])
        rows = [row or ends.get(source.uri) for source, row in zip(sources, rows, strict=True)]
        _warn_of_rows_without_source(sorted(left - set(ends.values())), len(self.speakers))
        return [None if row is None else self.speakers[row] for row in rows]


def default_speaker(relative: str) -> str:
    """The folder that a source lies in; a file directly under the given folder, or given by itself, is its own speaker."""
    path = PurePosixPath(relative)
    return path.parent.name or path.stem


def _rows_by_end(rows: Iterable[str], sources: Iterable[SourceNames]) -> dict[str, str]:
    """The row whose text ends the path of one source only, by that source's URI; the longest row where there are several."""
    by_name: dict[str, list[SourceNames]] = {}
    for source in sources:
        for name in {PurePosixPath(source.path).name, PurePosixPath(source.uri).name}:
            by_name.setdefault(name, []).append(source)
    found: dict[str, str] = {}
    for row in sorted(rows, key=len):
        uris = {source.uri for source in by_name.get(PurePosixPath(row).name, ()) if source.ends_with(row)}
        if len(uris) == 1:
            found[uris.pop()] = row
    return found


def _warn_of_rows_without_source(rows: Sequence[str], listed: int) -> None:
    if rows:
        examples = ", ".join(rows[:EXAMPLES])
        logger.warning("%d of the %d sources in the list of speakers were not found, or fit several: %s.", len(rows), listed, examples)


def _speakers(location: str, text: str) -> dict[str, str]:
    reader = csv.DictReader(io.StringIO(text))
    if not set(COLUMNS) <= set(reader.fieldnames or ()):
        raise SettingsError(f"The speakers file {location} needs the columns source, speaker in its first line.")
    speakers: dict[str, str] = {}
    for row in reader:
        source, speaker = (row["source"] or "").strip(), (row["speaker"] or "").strip()
        if not source or not speaker:
            raise SettingsError(f"Line {reader.line_num} of the speakers file {location} has no source or no speaker.")
        if speakers.setdefault(source.removeprefix("./"), speaker) != speaker:
            raise SettingsError(f"The speakers file {location} gives {source} two speakers: {speakers[source]} and {speaker}.")
    return speakers
