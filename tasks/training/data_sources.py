"""What a network was trained on: the sources of a snapshot's clips, and under which licence each may be used."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from schemas.jobs import Snapshot
from schemas.locations import absolute_location, without_secrets
from tasks.corpus.store import CorpusStore
from tasks.source_list import read_source_list

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

    licences: by file, or by folder for all within; the longest name that fits counts.
    """
    wanted = {clip.clip_id for clip in snapshot.clips if clip.split in SEEN_SPLITS}
    rows = [row for row in store.clips(("source", "speaker", "duration_s")).to_pylist() if row["clip_id"] in wanted]
    sources: dict[str, DataSource] = {}
    for row in rows:
        listed = licensed_as(row["source"], licences)
        name = listed or row["source"].rpartition("/")[0] or row["source"]
        source = sources.setdefault(name, DataSource(without_secrets(name), licences[listed] if listed else None))
        source.clips += 1
        source.duration_s += row["duration_s"]
        source.speakers.add(row["speaker"])
    return TrainingData(tuple(_in_order(sources.values())), len(wanted) - len(rows))


def licensed_as(source: str, licences: dict[str, str]) -> str | None:
    """The name under which a licence is listed that holds for a source: its own, or that of the nearest folder it lies in."""
    name = source
    while name:
        if name in licences:
            return name
        name = name.rpartition("/")[0]
    return None


def _in_order(sources: Iterable[DataSource]) -> list[DataSource]:
    return sorted(sources, key=lambda source: (source.licence is not None, -source.duration_s, source.name))
