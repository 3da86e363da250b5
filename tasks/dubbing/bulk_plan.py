"""What a run over a list of dubs has to do: which jobs are done already, and in which order the others are begun."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from schemas.errors import SettingsError, StoreError
from schemas.jobs import DubJob
from schemas.settings import KEEPING, BulkDubSettings, DubSettings
from tasks import places
from tasks.dubbing.generate import check_headers, checkpoint_hashes, checkpoint_snapshots
from tasks.dubbing.job_list import output_location, patch_location, read_job_list
from tasks.dubbing.results import Row, read_results
from tasks.file_hash import versions_of

SHAPING = frozenset(DubSettings.model_fields) - {"landmark_generator", "renderer", "device", "batch_frames", "memory_share", "compile", *KEEPING}
"""Settings that change what an output shows, and where its patches lie; the networks count by their versions, wherever they lie."""
NEEDED = ("job_id", "video", "speech", "output", "status", "reason", "detail", "landmark_generator", "renderer", "fingerprint")
"""Columns of earlier results that a plan reads: the others, lists among them, are most of a long table."""
FEW = 8
"""Up to so many files of a folder are asked for one by one; for more the folder is listed."""
ASKED_AT_ONCE = 32
"""Folders and files asked for side by side: object stores answer in tens of milliseconds, and a list may name thousands of folders."""
LISTED_FOR_EACH, LISTED_AT_LEAST = 4, 10_000
"""Of a folder no more is listed for sizes than so many files for each one sought, or in all: it may be the root of something vast."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class BulkPlan:
    """What a run has to do: jobs in the order in which they are begun, the rows that stand already (their NEEDED columns),
    those of them, by job_id, that are of the very same row, settings and models, and the versions of the checkpoints.
    """

    jobs: tuple[DubJob, ...]
    listed: int
    known: Mapping[str, Row]
    alike: Mapping[str, Row]
    versions: dict[str, str]
    hashes: dict[str, str]
    """SHA-256 of the checkpoints."""
    snapshots: dict[str, str]
    """That each network was trained on, where its header names one."""

    @property
    def fresh(self) -> tuple[DubJob, ...]:
        """Jobs that have not failed yet as they are now: what failed before, with the same settings and models, says nothing new."""
        return tuple(job for job in self.jobs if job.job_id not in self.alike or self.alike[job.job_id]["status"] != "failed")

    @property
    def already_done(self) -> int:
        """Jobs that an earlier run has done."""
        return self.listed - len(self.jobs)


def plan_bulk(settings: BulkDubSettings) -> BulkPlan:
    """Reads the job list and the results so far. Raises SettingsError for the list and CheckpointError for the models."""
    if settings.patch is not None:
        raise SettingsError("The patches of all jobs of a run cannot lie in one folder; make `patch` a column of the job list.")
    listed = read_job_list(settings.jobs, settings.out)
    check_headers(settings)
    hashes = checkpoint_hashes(settings)
    versions = versions_of(hashes)
    known = read_results(settings.out, NEEDED)
    alike = _alike(listed, settings, versions, known)
    done = _done(listed, settings, alike)
    left = [job for job in listed if job.job_id not in done]
    return BulkPlan(in_order(left, known), len(listed), known, alike, versions, hashes, checkpoint_snapshots(settings))


def settings_of(job: DubJob, settings: BulkDubSettings) -> DubSettings:
    """The run's settings with what the job's row overrides. SettingsError when they do not go together."""
    shared = settings.model_dump(include=set(DubSettings.model_fields))
    patch = job.settings.get("patch")
    return DubSettings(**shared).replaced(**job.settings | ({"patch": patch_location(settings.out, str(patch))} if patch else {}))


def fingerprints(settings: BulkDubSettings, versions: dict[str, str]) -> Callable[[DubJob], str]:
    """What gives a job's fingerprint: 16 hex digits of all that shapes its output, that is its row, the settings and the models.

    Neither its priority nor where the run's `out` lies is part of it, so that results may be moved.
    """
    shared = settings.with_absolute_locations().model_dump(mode="json", include=set(SHAPING))

    def fingerprint(job: DubJob) -> str:
        shaping = shared | {name: value for name, value in job.settings.items() if name in SHAPING}
        segments = [segment.model_dump() for segment in job.segments]
        everything = [job.job_id, job.video, job.speech, job.out, segments, shaping, versions]
        return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()[:16]

    return fingerprint


def _alike(listed: Sequence[DubJob], settings: BulkDubSettings, versions: dict[str, str], known: Mapping[str, Row]) -> dict[str, Row]:
    """Rows, by job_id, that earlier runs wrote of the very same jobs."""
    fingerprint = fingerprints(settings, versions)
    return {job.job_id: row for job in listed if (row := known.get(job.job_id)) is not None and row["fingerprint"] == fingerprint(job)}


def _done(listed: Sequence[DubJob], settings: BulkDubSettings, alike: Mapping[str, Row]) -> set[str]:
    """job_ids of what an earlier run has done alike, and whose output is there."""
    said_to_be = {job.job_id: output_location(settings.out, job) for job in listed if alike.get(job.job_id, {}).get("status") == "done"}
    there = existing(said_to_be.values())
    return {job_id for job_id, output in said_to_be.items() if output in there}


def in_order(jobs: Sequence[DubJob], known: Mapping[str, Row]) -> tuple[DubJob, ...]:
    """Jobs as they are to be begun.

    What is urgent first, and of that what has not failed before; the jobs of one video that look at it alike together, so that it is
    analysed once; the video with most to say first, so that no long one is left for the end; within it the longest speech first.
    How long a speech is, is told by its file's size: to open a hundred thousand files would take longer than the order saves.
    """
    sizes = file_sizes(job.speech for job in jobs) if len(jobs) > 1 else {}
    groups = {job.job_id: _group(job, known) for job in jobs}
    totals: Counter[tuple[object, ...]] = Counter()
    for job in jobs:
        totals[groups[job.job_id]] += sizes.get(job.speech, 0)

    def place(job: DubJob) -> tuple[object, ...]:
        urgency, has_failed, *video = group = groups[job.job_id]
        return (urgency, has_failed, -totals[group], *video, -sizes.get(job.speech, 0), job.job_id)

    return tuple(sorted(jobs, key=place))


def _group(job: DubJob, known: Mapping[str, Row]) -> tuple[object, ...]:
    has_failed = known.get(job.job_id, {}).get("status") == "failed"
    return (-job.priority, has_failed, job.video, json.dumps(job.settings, sort_keys=True) if job.settings else "")


def grouped(jobs: Iterable[DubJob], most: int) -> Iterator[list[DubJob]]:
    """Jobs of one video that follow each other, at most `most` together: what one worker does on end."""
    group: list[DubJob] = []
    for job in jobs:
        if group and (job.video != group[0].video or len(group) == most):
            yield group
            group = []
        group.append(job)
    if group:
        yield group


def existing(locations: Iterable[str]) -> set[str]:
    """Those of many files that are there: a folder with many of them is listed, and folders are asked side by side. StoreError."""
    return {found for there in _asked(_present, locations) for found in there}


def file_sizes(locations: Iterable[str]) -> dict[str, int]:
    """Bytes of many files; without those that are not there, that lie in a folder too vast to look through, or that cannot be asked for."""
    return {location: size for sizes in _asked(_sizes, locations) for location, size in sizes}


def _asked(ask: Callable[[str, set[str]], Answer], locations: Iterable[str]) -> Iterator[Answer]:
    """What is said to each folder and the names that are sought in it."""
    names: defaultdict[str, set[str]] = defaultdict(set)
    for location in locations:
        folder, _, name = location.rpartition("/")
        names[folder].add(name)
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        yield from pool.map(ask, names, names.values())


def _present(folder: str, names: set[str]) -> list[str]:
    singly = names if len(names) <= FEW else {name for name in names if name.startswith(".")}  # listings leave hidden ones out
    listed = names & set(places.list_names(folder)) if names - singly else set()
    return [f"{folder}/{name}" for name in names if name in listed or (name in singly and places.exists(f"{folder}/{name}"))]


def _sizes(folder: str, names: set[str]) -> list[tuple[str, int]]:
    sought = {f"{folder}/{name}" for name in names}
    try:
        if len(names) <= FEW:
            return [(location, file.size) for location in sought for file in islice(places.list_objects(location), 1)]
        most = max(LISTED_AT_LEAST, LISTED_FOR_EACH * len(names))
        return [(file.path, file.size) for file in islice(places.list_objects(folder), most) if file.path in sought]
    except (StoreError, OSError):  # only the order suffers, and each job tells what is wrong
        return []
