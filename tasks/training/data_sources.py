"""What a network was trained on: the sources of a snapshot's clips, and under which licence each may be used."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from schemas.jobs import Snapshot
from schemas.locations import absolute_location, without_secrets
from tasks.corpus.store import CorpusStore
from tasks.source_list import read_source_list

LOG = logging.getLogger(__name__)

EXAMPLES = 3
"""Rows without a source that a warning names."""
SEEN_SPLITS = ("train", "val")
"""Test clips are neither learnt from nor looked at when weights are chosen."""


@dataclass
class DataSource:
    """A file or folder that clips came from."""

    name: str
    licence: str | None
    """None: it is not stated."""
    clips: int = 0
    duration_s: float = 0.0
    speakers: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class TrainingData:
    """All that a network was trained on and chosen by."""

    sources: tuple[DataSource, ...]
    """Those without a licence first, then the largest first."""
    lost_clips: int
    """Clips of the snapshot that the store no longer has."""

    @property
    def unlicensed(self) -> tuple[DataSource, ...]:
        """The sources whose licence is not stated."""
        return tuple(source for source in self.sources if source.licence is None)


def read_licences(location: str | None) -> dict[str, str]:
    """Licences by source from a CSV file with the columns source, licence; none without a file. SettingsError when it cannot be used.

    A relative path is one of the current folder, as it is for `dubmill ingest`.
    """
    if location is None:
        return {}
    rows = read_source_list(location, "licence", "licences")
    return {absolute_location(row.source.rstrip("/")): row.value for row in rows if row.source and row.value}


def training_data(store: CorpusStore, snapshot: Snapshot, licences: dict[str, str]) -> TrainingData:
    """The sources of a snapshot's training and validation clips; a source without a licence goes by its folder.

    licences: by file, or by folder for all within; the longest name that fits counts. A warning says which fit no clip of the store.
    """
    wanted = {clip.clip_id for clip in snapshot.clips if clip.split in SEEN_SPLITS}
    clips = store.clips(("source", "speaker", "duration_s")).to_pylist()
    _warn_of_licences_without_source(licences, {row["source"] for row in clips})
    rows = [row for row in clips if row["clip_id"] in wanted]
    sources: dict[str, DataSource] = {}
    for row in rows:
        listed = licensed_as(row["source"], licences)
        name = listed or row["source"].rpartition("/")[0] or row["source"]
        source = sources.setdefault(name, DataSource(without_secrets(name), licences[listed] if listed else None))
        source.clips += 1
        source.duration_s += row["duration_s"]
        source.speakers.add(row["speaker"])
    return TrainingData(tuple(_in_order(sources.values())), len(wanted) - len(rows))


def _warn_of_licences_without_source(licences: Iterable[str], sources: Iterable[str]) -> None:
    """Of a name that is written otherwise than in the store the licence would be lost without a word."""
    listed = set(licences)
    found = {name for source in sources for name in _names(source)}
    lost = sorted(listed - found)
    if lost:
        examples = without_secrets(", ".join(lost[:EXAMPLES]))
        LOG.warning("%d of the %d sources in the list of licences gave the corpus no clip: %s.", len(lost), len(listed), examples)


def licensed_as(source: str, licences: dict[str, str]) -> str | None:
    """The name under which a licence is listed that holds for a source: its own, or that of the nearest folder it lies in."""
    return next((name for name in _names(source) if name in licences), None)


def _names(source: str) -> Iterator[str]:
    """A source's own name, and those of the folders it lies in, the nearest first."""
    name = source
    while name:
        yield name
        name = name.rpartition("/")[0]


def _in_order(sources: Iterable[DataSource]) -> list[DataSource]:
    return sorted(sources, key=lambda source: (source.licence is not None, -source.duration_s, source.name))
