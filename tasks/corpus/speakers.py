"""Who speaks in a source: a list of the user's, or else how the files are arranged."""

import csv
import io
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Self

from schemas.errors import SettingsError, StoreError
from tasks import places

COLUMNS = ("source", "speaker")


@dataclass(frozen=True)
class SpeakerList:
    """Speakers by source; a source is a file name, a path relative to the given folder, or a full path or URI."""

    speakers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, location: str | None) -> Self:
        """Reads a CSV file with the columns source, speaker; empty without one. SettingsError when it cannot be used."""
        if location is None:
            return cls()
        try:
            with places.reachable(location):
                text = places.read_bytes(location).decode("utf-8-sig")
        except FileNotFoundError as error:
            raise SettingsError(f"The speakers file {location} is not there.") from error
        except (OSError, UnicodeDecodeError, StoreError) as error:
            raise SettingsError(f"The speakers file {location} cannot be read.") from error
        return cls(_speakers(location, text))

    def find(self, relative: str, *full: str) -> str | None:
        """The speaker of a source by its full path, its path relative to the given folder, or its name; None when not listed."""
        keys = (*full, relative, PurePosixPath(relative).name)
        return next((self.speakers[key] for key in keys if key in self.speakers), None)


def default_speaker(relative: str) -> str:
    """The folder that a source lies in; a file directly under the given folder, or given by itself, is its own speaker."""
    path = PurePosixPath(relative)
    return path.parent.name or path.stem


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
