"""Lists of the user's that say one thing about each source, such as who speaks or under which licence: CSV files with two columns."""

import csv
import io
from typing import NamedTuple

from schemas.errors import SettingsError, StoreError
from schemas.locations import without_secrets
from tasks import places

SOURCE = "source"


class ListedSource(NamedTuple):
    """A row: a source as its author calls it, and what is said about it; either may be empty."""

    source: str
    value: str
    line: int
    """At which it ends, 1-based, as an editor counts."""


def read_source_list(location: str, column: str, listed: str) -> list[ListedSource]:
    """The rows of a CSV file with the columns source and `column`, in order, without the spaces around; other columns do not matter.

    listed: what it lists ("speakers"), for the sentence of an error. Raises SettingsError when the file is not there, cannot be read or lacks a column.
    """
    shown = without_secrets(location)
    try:
        text = places.read_bytes(location).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=None))  # whatever a spreadsheet ends its lines with
        if not {SOURCE, column} <= set(reader.fieldnames or ()):
            raise SettingsError(f"The {listed} file {shown} needs the columns {SOURCE}, {column} in its first line.")
        return [ListedSource((row[SOURCE] or "").strip(), (row[column] or "").strip(), reader.line_num) for row in reader]
    except FileNotFoundError as error:
        raise SettingsError(f"The {listed} file {shown} is not there.") from error
    except (OSError, UnicodeDecodeError, StoreError, csv.Error) as error:
        raise SettingsError(f"The {listed} file {shown} cannot be read.") from error
