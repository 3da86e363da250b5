"""Collecting garbage: batches that no snapshot names, and what killed runs left behind, once they are old enough."""

import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import fsspec
from pydantic import Field

from schemas.settings import Settings
from tasks import places
from tasks.corpus import layout
from tasks.corpus.known import drop_index
from tasks.corpus.store import CorpusStore
from tasks.progress import Progress, silent

ORDER = (layout.CLIPS, layout.FACES, layout.AUDIO, layout.REJECTS, layout.LANDMARKS, layout.PLANS)
"""The folders in the order in which a batch is deleted.

`clips` first: without it the batch is unfinished, which every reader understands. The plan last: it tells how old a leftover is and
whose it was; `landmarks` just before it, whose clip_ids tell the same where a plan does not.
"""
DAY_S = 86400.0


class GarbageSummary(Settings):
    """What was collected, or would be."""

    store: str
    dry_run: bool
    batches: tuple[str, ...] = Field(description="finished batches that no snapshot names; their sources are new again for the next ingest")
    clips: int = Field(description="clips in those batches")
    sources_new_again: int = Field(description="sources of those batches, kept or turned away: the next ingest that meets them reads them again")
    leftovers: tuple[str, ...] = Field(description="batches that killed runs began and none finished")
    stray_files: tuple[str, ...] = Field(description="shards in which no clip lies, and temporary files")
    freed_bytes: int
    kept_for_lack_of_snapshots: int = Field(description="finished batches that stay because the store has no snapshot at all, which would name them")


class StoredFile(NamedTuple):
    """A file of a store, temporary ones too."""

    location: str
    folder: str
    size: int
    modified_s: float
    """Seconds since 1970."""

    @property
    def batch(self) -> str:
        """The batch it belongs to, by its name."""
        name = places.name_of(self.location).removeprefix(".").partition(".")[0]
        return layout.batch_of_shard(name) if self.folder == layout.FACES else name

    @property
    def is_temporary(self) -> bool:
        """Whether it was being written when it was seen, or when its writer was killed."""
        return places.name_of(self.location).startswith(".")


class _Found(NamedTuple):
    """What may go."""

    batches: dict[str, list[StoredFile]]
    leftovers: dict[str, list[StoredFile]]
    stray: list[StoredFile]

    def files(self) -> Iterator[StoredFile]:
        for group in (*self.batches.values(), *self.leftovers.values(), self.stray):
            yield from group


def collect_garbage(store_uri: str, grace_days: float, dry_run: bool = False, progress: Progress = silent) -> GarbageSummary:
    """Deletes finished batches that no snapshot names, leftovers without a `clips` file, and stray files; all older than the grace period.

    A finished batch is as old as its `clips` file, a leftover as its youngest file, by the store's own times of modification. A store
    without any snapshot keeps its finished batches. Deleted sources are new again for an ingest, also those that were turned away.
    A kill on the way leaves a store that reads and verifies; the next collection goes on. Not for the moment at which an ingest
    resumes a plan that old, or a snapshot is being made. Raises StoreError when a snapshot or a plan cannot be read.
    """
    store = CorpusStore.open(store_uri)
    named = {clip.batch for name in store.snapshots() for clip in store.snapshot(name).clips}
    files = files_by_batch(store_uri)
    found = _find(store, files, named, time.time() - grace_days * DAY_S)
    summary = GarbageSummary(
        store=store_uri,
        dry_run=dry_run,
        batches=tuple(sorted(found.batches)),
        clips=sum(_clip_count(store, batch) for batch in found.batches),
        sources_new_again=_sources_lost(store, found.batches),
        leftovers=tuple(sorted(found.leftovers)),
        stray_files=tuple(file.location for file in found.stray),
        freed_bytes=sum(file.size for file in found.files()),
        kept_for_lack_of_snapshots=0 if store.snapshots() else len(store.batches()),
    )
    if not dry_run:
        _delete(store_uri, found, progress)
    return summary


def files_by_batch(store_uri: str) -> dict[str, list[StoredFile]]:
    """All files of the batches of a store, finished or not, temporary ones too."""
    by_batch: dict[str, list[StoredFile]] = {}
    for folder in ORDER:
        for file in listed(store_uri, folder):
            by_batch.setdefault(file.batch, []).append(file)
    return by_batch


def listed(store_uri: str, folder: str) -> Iterator[StoredFile]:
    """The files directly in a folder of a store, temporary ones too. Not by `places.list_objects`, which knows no times."""
    location = places.join(store_uri, folder)
    with places.reachable(location):
        filesystem, path = fsspec.core.url_to_fs(location)
        filesystem.invalidate_cache(path)
        try:
            entries = filesystem.ls(path, detail=True)
        except FileNotFoundError:
            return
    for entry in entries:
        if entry["type"] == "file":
            changed = entry["LastModified"].timestamp() if "LastModified" in entry else entry.get("mtime", time.time())
            yield StoredFile(places.join(location, places.name_of(entry["name"])), folder, int(entry["size"] or 0), float(changed))


def remove_batch(files: Iterable[StoredFile]) -> None:
    """Deletes the files of a batch so that a kill on the way leaves an unfinished batch that still tells what it was. Raises StoreError."""
    for file in sorted(files, key=lambda file: ORDER.index(file.folder)):
        places.remove(file.location)


def _find(store: CorpusStore, files: dict[str, list[StoredFile]], named: set[str], before_s: float) -> _Found:
    finished = set(store.batches())
    found = _Found({}, {}, [])
    for batch, held in files.items():
        if batch not in finished:
            if max(file.modified_s for file in held) < before_s:
                found.leftovers[batch] = held
        elif named and batch not in named and _finished_s(held) < before_s:
            found.batches[batch] = held
        else:
            found.stray.extend(file for file in _stray(store, batch, held) if file.modified_s < before_s)
    found.stray.extend(file for file in listed(store.uri, layout.SNAPSHOTS) if file.is_temporary and file.modified_s < before_s)
    return found


def _finished_s(files: list[StoredFile]) -> float:
    """When a finished batch was finished; now for one that was deleted since it was listed."""
    return next((file.modified_s for file in files if file.folder == layout.CLIPS and not file.is_temporary), time.time())


def _stray(store: CorpusStore, batch: str, files: list[StoredFile]) -> Iterator[StoredFile]:
    used = set(store.table(layout.CLIPS, batch, ["faces_shard"])["faces_shard"].to_pylist())
    for file in files:
        if file.is_temporary or (file.folder == layout.FACES and places.name_of(file.location) not in used):
            yield file


def _clip_count(store: CorpusStore, batch: str) -> int:
    with store.parquet(layout.CLIPS, batch) as table:
        return int(table.metadata.num_rows)


def _sources_lost(store: CorpusStore, batches: Iterable[str]) -> int:
    return len({source.uri for batch in batches for source in store.plan(batch).sources})


def _delete(store_uri: str, found: _Found, progress: Progress) -> None:
    groups = [*found.batches.items(), *found.leftovers.items()]
    for done, (batch, files) in enumerate(groups):
        progress(done, len(groups), f"batch {batch}")
        if batch in found.batches or not places.exists(layout.table_location(store_uri, layout.CLIPS, batch)):  # or finished since it was listed
            remove_batch(files)
    for file in found.stray:
        places.remove(file.location)
    drop_index(store_uri)
    progress(len(groups), len(groups), "batches")
