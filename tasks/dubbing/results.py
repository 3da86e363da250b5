"""The result tables of a bulk run, a row a job (`schemas.tables.DUB_RESULTS`): <out>/results/part-<number>-<run token>.parquet.

The token, drawn anew by every writer, keeps runs that share an `out` at the same time from writing over each other's parts.
"""

import io
import re
import secrets
import time

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.tables import DUB_RESULTS
from tasks import places

FOLDER = "results"
ROWS_A_PART = 500
"""Rows after which a new part begins: ten thousand jobs make twenty files."""
WRITE_EVERY_S = 20.0
"""Seconds after a writing from which the next row that arrives is written, with those that wait, at once.

A row that arrives earlier waits for the next one, however long that takes. A killed run loses the rows that wait, and those jobs are done again.
"""
PART = re.compile(r"part-(\d+)-[0-9a-f]{8}\.parquet")

Row = dict[str, object]


def read_results(out: str) -> dict[str, Row]:
    """The latest row of every job, by job_id. A row of a part with a higher number replaces an earlier one's."""
    folder = places.join(out, FOLDER)
    rows: dict[str, Row] = {}
    for name in _parts(folder):
        table = pq.read_table(pa.BufferReader(places.read_bytes(places.join(folder, name))))
        rows.update({row["job_id"]: row for row in table.to_pylist()})
    return rows


class ResultWriter:
    """Collects rows and writes them, part by part.

    A part that is not full is written again, whole, with the rows that came since: few files, and little is lost.
    A context manager: leaving it, also by an error, writes what is left.
    """

    def __init__(self, out: str, rows_a_part: int = ROWS_A_PART, every_s: float = WRITE_EVERY_S) -> None:
        self.folder = places.join(out, FOLDER)
        self.rows_a_part = rows_a_part
        self.every_s = every_s
        self._number = max(map(_number, _parts(self.folder)), default=-1) + 1
        self._token = secrets.token_hex(4)
        self._rows: list[Row] = []
        self._unwritten = 0
        self._written_at = time.monotonic()

    def add(self, row: Row) -> None:
        """Adds a job's row; writes when it is time."""
        self._rows.append(row)
        self._unwritten += 1
        if len(self._rows) >= self.rows_a_part or time.monotonic() - self._written_at >= self.every_s:
            self.write()

    def write(self) -> None:
        """Writes the rows of the current part, if any are new. StoreError when the place cannot be written."""
        if self._unwritten:
            buffer = io.BytesIO()
            pq.write_table(pa.Table.from_pylist(self._rows, schema=DUB_RESULTS), buffer)
            places.write_bytes(places.join(self.folder, f"part-{self._number:05d}-{self._token}.parquet"), buffer.getvalue())
        self._unwritten = 0
        self._written_at = time.monotonic()
        if len(self._rows) >= self.rows_a_part:
            self._rows = []
            self._number += 1

    def __enter__(self) -> "ResultWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.write()


def _parts(folder: str) -> list[str]:
    """Names of the parts by rising number."""
    return sorted(filter(PART.fullmatch, places.list_names(folder, ".parquet")), key=_number)


def _number(part: str) -> int:
    return int(part.split("-")[1])
