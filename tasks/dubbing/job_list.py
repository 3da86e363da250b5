"""Job lists: CSV, JSON lines or Parquet with job_id, video, speech, out, and optionally priority, segments and any setting of a single dub."""

import csv
import difflib
import io
import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import JsonValue

from schemas.errors import SettingsError
from schemas.jobs import DubJob, Segment
from schemas.locations import absolute_location
from schemas.settings import KEEPING, DubSettings, check_settings, names_a_picture
from tasks import places
from tasks.dubbing.results import FOLDER
from tasks.media.encode import require_mp4_name

FAULTS_NAMED = 20
"""Faults spelled out in the one sentence; how many more there are is said too."""
OUT_URI = "s3://"
"""How an `out` begins that is not relative to the run's."""
REQUIRED = tuple(name for name, field in DubJob.model_fields.items() if field.is_required())
OF_THE_JOB = frozenset(DubJob.model_fields) - {"settings"}
OF_THE_RUN = frozenset({"landmark_generator", "renderer", "device", *KEEPING})
"""Settings that no row may have of its own: workers load the networks once, for all jobs, and share what is kept of videos."""
OF_A_ROW = frozenset(DubSettings.model_fields) - OF_THE_RUN
"""Settings of a single dub that may be columns."""
READ = ("video", "speech", "soundtrack", "jaw_predictor")
"""Columns that name what is read: relative to the list's own folder."""
TEXTS = frozenset({"job_id", "face", "consent"})
"""Columns that are text also where a list has a number."""
TOO_MANY = "columns too many"
NO_OBJECT = "no JSON object"

Row = dict[str, object]


def read_job_list(uri: str, out: str = ".") -> list[DubJob]:
    """The jobs of a list at a path or URI, in its order. `out` is the run's own, whose result tables no job may write over.

    Relative `video`, `speech` and other files that are read are taken from the list's own folder, and made absolute. `segments` is a list of
    schemas.jobs.Segment, in CSV as JSON text. UTF-8, with or without a byte order mark.
    Raises SettingsError, naming all faults at once: columns missing or unknown, rows that cannot be used, a job_id or out given twice,
    an out that is neither an s3:// URI nor a path below the output folder, that lies among the result tables, that a row reads, or that is
    no name of an MP4.
    """
    rows = _read_rows(uri)
    if not rows:
        raise SettingsError(f"The job list {uri} has no jobs.")
    _require_columns(uri, rows)
    faults = list(_unknown_columns(rows))
    jobs, bad_rows = _check_rows(rows, out, absolute_location(uri).rpartition("/")[0])
    faults += [*bad_rows, *_duplicates(jobs, out), *_written_over(jobs, out)]
    if faults:
        raise SettingsError(f"The job list {uri} cannot be used: {_listed(faults)}.")
    return jobs


def output_location(out: str, job: DubJob) -> str:
    """Where a job's output goes: its `out` below the run's, unless it is an s3:// URI."""
    return _below(out, job.out)


def patch_location(out: str, patch: str) -> str:
    """Where a job's `patch` goes, by the same rule."""
    return _below(out, patch)


def _below(out: str, location: str) -> str:
    return location if location.startswith(OUT_URI) else places.join(out, location)


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
        raise SettingsError(f"The job list {uri} cannot be read: {str(error).splitlines()[0].rstrip('.')}.") from error


def _csv_rows(content: bytes) -> list[Row]:
    reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), restkey=TOO_MANY, skipinitialspace=True)
    names = reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise csv.Error(f"the column {', '.join(twice)} is there more than once")
    rows = ({name: _stripped(value) for name, value in row.items()} for row in reader)
    return [row for row in rows if any(row.values())]  # spreadsheets end with rows of empty cells


def _json_rows(content: bytes) -> list[Row]:
    lines = [line for line in content.decode("utf-8-sig").split("\n") if line.strip()]
    return [_json_row(line) for line in lines]


def _json_row(line: str) -> Row:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        row = None
    return row if isinstance(row, dict) else {NO_OBJECT: line[:40]}


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


def _unknown_columns(rows: list[Row]) -> Iterator[str]:
    """Each once, and not once a row: a list has a hundred thousand of them."""
    known = OF_THE_JOB | OF_A_ROW | {TOO_MANY, NO_OBJECT}
    for name in dict.fromkeys(name for row in rows for name in row if name not in known):
        if name in OF_THE_RUN:
            yield f"the column {name} is no setting of a row but of the whole run"
        else:
            nearest = difflib.get_close_matches(name, sorted(OF_THE_JOB | OF_A_ROW), n=1)
            yield f"the column {name} is not known" + (f" (did you mean {nearest[0]}?)" if nearest else "")


def _check_rows(rows: list[Row], out: str, folder: str) -> tuple[list[DubJob], list[str]]:
    """The jobs of rows that say enough to be compared with others, and the faults of all."""
    jobs, faults = [], []
    for number, row in enumerate(rows, start=1):
        job, of_the_row = _job(row, out, folder)
        if job is not None:
            jobs.append(job)
        if of_the_row:
            faults.append(f"row {number}: {'; '.join(of_the_row)}")
    return jobs, faults


def _job(row: Row, out: str, folder: str) -> tuple[DubJob | None, list[str]]:
    """A row's job, None where it is none, and its faults. Empty cells count as not given."""
    for name, fault in ((TOO_MANY, "it has more cells than there are columns"), (NO_OBJECT, f"it is no JSON object: {row.get(NO_OBJECT)}")):
        if name in row:
            return None, [fault]
    given = {name: _as_text(value) if name in TEXTS else value for name, value in row.items() if not _is_empty(value)}
    faults = [f"{name} holds a zero byte, which no file's name can have" for name, value in given.items() if isinstance(value, str) and "\0" in value]
    if faults:
        return None, faults
    settings = _settings({name: given[name] for name in given.keys() & OF_A_ROW}, folder, faults)
    values = {name: given[name] for name in given.keys() & OF_THE_JOB} | {"settings": settings}
    job = _checked_job(_with_segments(values, folder, faults), folder, faults)
    if job is not None:
        faults += _out_faults(job, out)
    return job, faults


def _is_empty(value: object) -> bool:
    """Nothing, empty text, and the number that is none, which tables have for nothing."""
    return value is None or value == "" or value != value


def _checked_job(values: Row, folder: str, faults: list[str]) -> DubJob | None:
    located = {name: _from_folder(folder, value) if name in READ and isinstance(value, str) else value for name, value in values.items()}
    try:
        return check_settings(DubJob, located)
    except SettingsError as error:
        faults.append(_fault_of(error))
        return None


def _settings(given: Row, folder: str, faults: list[str]) -> dict[str, JsonValue]:
    """The settings that a row overrides, as plain values of their own types, whatever text or number its cells hold."""
    try:
        settings = _checked_settings(json.dumps(given, sort_keys=True, default=str)) if given else {}
    except SettingsError as error:
        faults.append(_fault_of(error))
        return {}
    return {name: _located(name, value, folder) for name, value in settings.items()}


@cache
def _checked_settings(given: str) -> dict[str, JsonValue]:
    """Checked once for all rows that have the same: it is what reading a long list takes longest for."""
    values = json.loads(given)
    checked = check_settings(DubSettings, dict.fromkeys(("landmark_generator", "renderer"), "of the run") | values)
    return checked.model_dump(mode="json", include=values.keys())


def _located(name: str, value: JsonValue, folder: str) -> JsonValue:
    if isinstance(value, str) and name in READ:
        return _from_folder(folder, value)
    return _face(value, folder) if isinstance(value, str) and name == "face" else value


def _face(face: str, folder: str) -> str:
    return _from_folder(folder, face) if names_a_picture(face) else face


def _as_text(value: object) -> object:
    """Numbers as a person writes them, all their digits; a table that has nothing in some rows makes 7.0 of 7."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _with_segments(values: Row, folder: str, faults: list[str]) -> Row:
    """A job's values with the segments as models; their speeches and pictures are files of the list's folder."""
    listed = values.get("segments", [])
    try:
        listed = json.loads(listed) if isinstance(listed, str) else listed
    except json.JSONDecodeError:
        listed = None
    if not isinstance(listed, list):
        faults.append("segments: is no list (in CSV: JSON text) of start_s, end_s, speech and face")
        return values | {"segments": ()}
    segments = (_segment(number, segment, folder, faults) for number, segment in enumerate(listed, start=1))
    return values | {"segments": tuple(segment for segment in segments if segment is not None)}


def _segment(number: int, given: object, folder: str, faults: list[str]) -> Segment | None:
    filled = {name: _as_text(value) if name in TEXTS else value for name, value in given.items() if not _is_empty(value)} if isinstance(given, dict) else given
    try:
        segment = check_settings(Segment, filled)
    except SettingsError as error:
        faults.append(f"segment {number}: {_fault_of(error)}")
        return None
    if segment.end_s <= segment.start_s:
        faults.append(f"segment {number}: it ends at {segment.end_s:g} s, not after its start at {segment.start_s:g} s")
    return segment.model_copy(update={"speech": _from_folder(folder, segment.speech), "face": _face(segment.face, folder)})


def _fault_of(error: SettingsError) -> str:
    return str(error).removeprefix("These settings cannot be used: ").rstrip(".")


def _out_faults(job: DubJob, out: str) -> Iterator[str]:
    """Why a job may not write where its row says: a list is data, and must not write over what is not its own."""
    for name, location in (("out", job.out), ("patch", job.settings.get("patch"))):
        if isinstance(location, str) and (fault := _out_fault(location, out)) is not None:
            yield f"{name} {location} {fault}"
    try:
        require_mp4_name(job.out)
    except SettingsError as error:
        yield f"out {_fault_of(error)}"


def _out_fault(location: str, out: str) -> str | None:
    if not location.startswith(OUT_URI) and (_stands_alone(location) or ".." in location.split("/")):
        return "leads out of the output folder; give a path below it or an s3:// URI"
    if FOLDER in location and f"{_plain(_below(out, location))}/".startswith(f"{_plain(places.join(out, FOLDER))}/"):
        return f"lies in the folder of the result tables, {FOLDER}"
    return None


def _duplicates(jobs: list[DubJob], out: str) -> Iterator[str]:
    written = [(job.out, output_location(out, job)) for job in jobs]
    patches = [(str(patch), patch_location(out, str(patch))) for job in jobs if (patch := job.settings.get("patch"))]
    for name, given in (("job_id", [(job.job_id, job.job_id) for job in jobs]), ("out", _normal(written)), ("patch", _normal(patches))):
        shown = {place: value for value, place in reversed(given)}
        yield from (f"{name} {shown[place]} is given {count} times" for place, count in Counter(place for _, place in given).items() if count > 1)


def _normal(given: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(value, _plain(place)) for value, place in given]


def _written_over(jobs: list[DubJob], out: str) -> Iterator[str]:
    """Outputs that would replace what a row reads: footage that may be nowhere else, or that another job is still to be made of."""
    outputs = [(job, _place(output_location(out, job))) for job in jobs]
    names = {name for _, (_, name) in outputs}
    real = cache(_real_folder)
    readers: dict[tuple[str, str], str] = {}
    for job, column, (folder, name) in _read(jobs):
        if name in names:  # others need no look at the disk
            readers.setdefault((real(folder), name), f"the {column} of job {job.job_id}")
    for job, (folder, name) in outputs if readers else ():
        if (found := readers.get((real(folder), name))) is not None:
            yield f"out {job.out} of job {job.job_id} would replace {found}"


def _read(jobs: list[DubJob]) -> Iterator[tuple[DubJob, str, tuple[str, str]]]:
    """Each file that a job reads: the job, the column, and the place."""
    place = cache(_place)  # many jobs read the same
    for job in jobs:
        yield job, "video", place(job.video)
        yield job, "speech", place(job.speech)
        yield from ((job, name, place(str(job.settings[name]))) for name in READ if name in job.settings)
        yield from ((job, "speech of a segment", place(segment.speech)) for segment in job.segments)


def _place(location: str) -> tuple[str, str]:
    """The folder and the name that a location stands for, however it is written; both of the same form for paths and file:// URIs."""
    if not location.startswith("/"):
        with suppress(FileNotFoundError):  # the home of nobody: the job itself tells
            location = absolute_location(location)
    folder, _, name = os.path.normpath(location).rpartition("/")
    return folder, name


def _real_folder(folder: str) -> str:
    """The same for all names of a folder of this machine, links among them."""
    return os.path.realpath(folder) if folder.startswith("/") else folder


def _plain(location: str) -> str:
    """A location without what changes nothing in it; by hand, because pathlib would take half of the time of a long list."""
    return "/".join(part for number, part in enumerate(location.split("/")) if part != "." and (part or number == 0))


def _listed(faults: list[str]) -> str:
    more = len(faults) - FAULTS_NAMED
    return "; ".join(faults[:FAULTS_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _from_folder(folder: str, location: str) -> str:
    return location if _stands_alone(location) or not folder else places.join(folder, location)


def _stands_alone(location: str) -> bool:
    """Whether a location is a URI or an absolute path, and so not relative to any folder."""
    return location.startswith(("/", "~")) or "://" in location
