"""The result tables of a bulk run, a row a job (`schemas.tables.DUB_RESULTS`): <out>/results/part-<number>-<run token>.parquet.

The token, drawn anew by every writer, keeps runs that share an `out` at the same time from writing over each other's parts.
"""

import io
import logging
import re
import secrets
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import StoreError
from schemas.tables import DUB_RESULTS
from tasks import places
from tasks.interruption import held_back

log = logging.getLogger(__name__)

FOLDER = "results"
ROWS_A_PART = 500
"""Rows after which a new part begins: ten thousand jobs make twenty files."""
WRITE_EVERY_S = 20.0
"""Longest that a row waits to be written, in seconds: a killed run loses the rows that wait, and those jobs are done again."""
READERS = 16
"""Parts read side by side: a bucket answers in tens of milliseconds."""
PART = re.compile(r"part-(\d+)-[0-9a-f]{8}\.parquet")

Row = dict[str, object]


def read_results(out: str, columns: Sequence[str] | None = None) -> dict[str, Row]:
    """The latest row of every job, by job_id, with those columns or all. A row of a part with a higher number replaces an earlier one's.

    Columns that a part of an older dubmill lacks are None in its rows.
    """
    folder = places.join(out, FOLDER)
    rows: dict[str, Row] = {}
    for name in _parts(folder):
        rows.update({row["job_id"]: row for row in _read_part(places.join(folder, name), columns).to_pylist()})
    return rows


def latest_rows(out: str, columns: Sequence[str]) -> pa.Table:
    """As `read_results`, as a table: a hundred thousand rows of a few columns are some megabytes. `job_id` must be among the columns."""
    folder = places.join(out, FOLDER)
    with ThreadPoolExecutor(READERS) as readers:
        parts = list(readers.map(lambda name: _read_part(places.join(folder, name), columns), _parts(folder)))
    rows = pa.concat_tables([_schema(columns).empty_table(), *parts])
    job_ids = rows["job_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    _, from_the_end = np.unique(job_ids[::-1], return_index=True)
    return rows.take(pa.array(np.sort(len(rows) - 1 - from_the_end)))


def _read_part(location: str, columns: Sequence[str] | None) -> pa.Table:
    return pq.read_table(pa.BufferReader(places.read_bytes(location)), schema=_schema(columns))


def _schema(columns: Sequence[str] | None) -> pa.Schema:
    return pa.schema([field for field in DUB_RESULTS if columns is None or field.name in columns])


class ResultWriter:
    """Collects rows and writes them, part by part.

    A part that is not full is written again, whole, with the rows that came since: few files, and little is lost. A row that nothing
    follows is written by a clock's thread. A context manager: leaving it, also by an error, writes what is left.
    """

    def __init__(self, out: str, rows_a_part: int = ROWS_A_PART, every_s: float = WRITE_EVERY_S) -> None:
        self.folder = places.join(out, FOLDER)
        self.rows_a_part = rows_a_part
        self.every_s = every_s
        self._number = max(map(_number, _parts(self.folder)), default=-1) + 1
        self._token = secrets.token_hex(4)
        self._rows: list[Row] = []
        self._unwritten = False
        self._lock = threading.Lock()
        self._clock: threading.Timer | None = None
        """Runs as long as a row waits."""

    def add(self, row: Row) -> None:
        """Adds a job's row, which is written when the part is full or it has waited for long. StoreError."""
        with held_back():  # a signal of just now must not cost the row of a job that is done
            self._add(row)

    def _add(self, row: Row) -> None:
        with self._lock:
            self._rows.append(row)
            self._unwritten = True
            is_full = len(self._rows) >= self.rows_a_part
            if self._clock is None and not is_full:
                self._clock = threading.Timer(self.every_s, self._write_late)
                self._clock.daemon = True
                self._clock.start()
        if is_full:
            self.write()

    def write(self) -> None:
        """Writes the rows of the current part. StoreError when the place cannot be written: they are kept, and written with the next."""
        with self._lock:
            self._stop_clock()
            if self._unwritten:
                buffer = io.BytesIO()
                pq.write_table(pa.Table.from_pylist(self._rows, schema=DUB_RESULTS), buffer)
                places.write_bytes(places.join(self.folder, f"part-{self._number:05d}-{self._token}.parquet"), buffer.getvalue())
            self._unwritten = False
            if len(self._rows) >= self.rows_a_part:
                self._rows = []
                self._number += 1

    def _write_late(self) -> None:
        try:
            self.write()
        except StoreError as error:  # nobody waits here for an error; the rows are written with the next ones
            log.warning("The result rows could not be written just now: %s", error)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
        self._clock = None

    def __enter__(self) -> "ResultWriter":
        return self

    def __exit__(self, *_: object) -> None:
        with held_back():
            self.write()


def _parts(folder: str) -> list[str]:
    """Names of the parts by rising number. StoreError for a folder that is none."""
    try:
        return sorted(filter(PART.fullmatch, places.list_names(folder, ".parquet")), key=_number)
    except OSError as error:
        raise StoreError(f"The results in {folder} cannot be read: {error.strerror or error}.") from error


def _number(part: str) -> int:
    return int(part.split("-")[1])
