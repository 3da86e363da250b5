"""Job lists: CSV, JSON lines or Parquet with job_id, video, speech, out, and optionally fps and references."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePath, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import SettingsError
from schemas.jobs import DubJob
from schemas.settings import check_settings
from tasks import places
from tasks.dubbing.results import FOLDER

FAULTS_NAMED = 20
"""Faults spelled out in the one sentence; how many more there are is said too."""
OUT_URI = "s3://"
"""How an `out` begins that is not relative to the run's."""
REQUIRED = tuple(name for name, field in DubJob.model_fields.items() if field.is_required())

Row = dict[str, object]


def read_job_list(uri: str, out: str = ".") -> list[DubJob]:
    """The jobs of a list at a path or URI, in its order. `out` is the run's own, whose result tables no job may write over.

    Relative `video` and `speech` are taken from the list's own folder. UTF-8, with or without a byte order mark.
    Raises SettingsError, naming all faults at once: columns missing, rows that cannot be used, a job_id or out given twice,
    an out that is neither an s3:// URI nor a path below the output folder, or that lies among the result tables.
    """
    rows = _read_rows(uri)
    if not rows:
        raise SettingsError(f"The job list {uri} has no jobs.")
    _require_columns(uri, rows)
    jobs, faults = _check_rows(rows, out)
    faults += _duplicates(jobs)
    if faults:
        raise SettingsError(f"The job list {uri} cannot be used: {_listed(faults)}.")
    folder = uri.rpartition("/")[0]
    return [job.replaced(video=_from_folder(folder, job.video), speech=_from_folder(folder, job.speech)) for job in jobs]


def output_location(out: str, job: DubJob) -> str:
    """Where a job's output goes: its `out` below the run's, unless it is an s3:// URI."""
    return job.out if job.out.startswith(OUT_URI) else places.join(out, job.out)


def _read_rows(uri: str) -> list[Row]:
    readers = {".csv": _csv_rows, ".jsonl": _json_rows, ".parquet": _parquet_rows}
    reader = readers.get(PurePosixPath(uri).suffix.lower())
    if reader is None:
        raise SettingsError(f"The job list {uri} is of a kind that is not known; give a .csv, .jsonl or .parquet file.")
    try:
        return reader(places.read_bytes(uri))
    except FileNotFoundError as error:
        raise SettingsError(f"The job list {uri} is not there.") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"The job list {uri} is not text in UTF-8; save it as UTF-8.") from error
    except (OSError, pa.ArrowInvalid, csv.Error) as error:
        raise SettingsError(f"The job list {uri} cannot be read: {str(error).splitlines()[0]}.") from error


def _csv_rows(content: bytes) -> list[Row]:
    reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), restkey="columns too many", skipinitialspace=True)
    return [{name: _stripped(value) for name, value in row.items()} for row in reader]


def _json_rows(content: bytes) -> list[Row]:
    lines = [line for line in content.decode("utf-8-sig").splitlines() if line.strip()]
    return [_json_row(line) for line in lines]


def _json_row(line: str) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        row = None
    return row if isinstance(row, dict) else {"no JSON object": line[:40]}


def _parquet_rows(content: bytes) -> list[Row]:
    rows: list[Row] = pq.read_table(pa.BufferReader(content)).to_pylist()
    return rows


def _stripped(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


def _require_columns(uri: str, rows: list[Row]) -> None:
    missing = [name for name in REQUIRED if not any(name in row for row in rows)]
    if missing:
        found = ", ".join(map(str, rows[0]))
        raise SettingsError(f"The job list {uri} has no column {', '.join(missing)}; it has {found}.")


def _check_rows(rows: list[Row], out: str) -> tuple[list[DubJob], list[str]]:
    jobs, faults = [], []
    for number, row in enumerate(rows, start=1):
        try:
            jobs.append(_job(row, out))
        except SettingsError as error:
            faults.append(f"row {number}: {str(error).removeprefix('These settings cannot be used: ').rstrip('.')}")
    return jobs, faults


def _job(row: Row, out: str) -> DubJob:
    """Empty cells of optional columns count as not given."""
    given = {name: value for name, value in row.items() if name in REQUIRED or value not in (None, "")}
    job = check_settings(DubJob, given)
    if (fault := _out_fault(job, out)) is not None:
        raise SettingsError(f"out {job.out} {fault}")
    return job


def _out_fault(job: DubJob, out: str) -> str | None:
    """Why a job's output may not go where its row says: a list is data, and must not write over what is not its own."""
    if not job.out.startswith(OUT_URI) and (_stands_alone(job.out) or ".." in PurePosixPath(job.out).parts):
        return "leads out of the output folder; give a path below it or an s3:// URI"
    if PurePosixPath(output_location(out, job)).is_relative_to(places.join(out, FOLDER)):
        return f"lies in the folder of the result tables, {FOLDER}"
    return None


def _duplicates(jobs: list[DubJob]) -> Iterator[str]:
    outs = Counter(job.out if _stands_alone(job.out) else str(PurePosixPath(job.out)) for job in jobs)
    for name, counts in (("job_id", Counter(job.job_id for job in jobs)), ("out", outs)):
        yield from (f"{name} {value} is given {count} times" for value, count in counts.items() if count > 1)


def _listed(faults: list[str]) -> str:
    more = len(faults) - FAULTS_NAMED
    return "; ".join(faults[:FAULTS_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _from_folder(folder: str, location: str) -> str:
    return location if _stands_alone(location) or not folder else places.join(folder, location)


def _stands_alone(location: str) -> bool:
    """Whether a location is a URI or an absolute path, and so not relative to any folder."""
    return "://" in location or PurePath(location).is_absolute() or location.startswith("~")
