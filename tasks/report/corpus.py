"""The corpus page: what came of the sources and clips and why, what was measured, what the faces look like, who speaks how long."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from schemas.settings import FormatSettings, SnapshotSettings
from tasks.corpus.stats import planned_sources
from tasks.corpus.store import CorpusStore
from tasks.report import measures
from tasks.report.contact_sheets import RANKED_COLUMNS, Sheet, SheetPicture, best_and_worst, left_out_sheets, reject_pictures
from tasks.report.funnel import Choice, SourceFunnel, choices, source_funnel
from tasks.report.measures import MeasureFigure, measure_figures
from tasks.report.page import write_page
from tasks.report.rejects import RejectGroup, reject_groups
from tasks.report.storage import StorageRow, storage_rows

MOST_SPEAKERS = 40
"""Rows of the speaker table; the others are summed up."""
CLIP_COLUMNS = tuple(dict.fromkeys((*RANKED_COLUMNS, *measures.COLUMNS)))


@dataclass(frozen=True)
class SpeakerRow:
    """What there is of one speaker. The share is of who speaks longest."""

    speaker: str
    clips: int
    duration_s: float
    share: float


@dataclass(frozen=True)
class CorpusFacts:
    """What the page says of a store."""

    store: str
    format: FormatSettings
    unfinished: int
    source_funnel: SourceFunnel
    clips: int
    frames: int
    duration_s: float
    rejects: list[RejectGroup]
    reject_pictures: dict[str, list[SheetPicture]]
    """By reason."""
    speakers: list[SpeakerRow]
    other_speakers: int
    choices: list[Choice]
    """The snapshots, or what the default settings would choose; the last one is shown in the measures and sheets."""
    other_snapshots: int
    left_out_sheets: dict[str, list[SheetPicture]]
    """Of the last choice, by setting."""
    measures: list[MeasureFigure]
    sheets: list[Sheet]
    storage: list[StorageRow] = field(default_factory=list)

    @property
    def sources(self) -> int:
        """Sources found."""
        return self.source_funnel.found


def corpus_report(store_uri: str | Path, html: str | Path) -> None:
    """Writes the page of a corpus store. Raises StoreError when there is no store or the page cannot be written."""
    write_page("corpus.html.j2", html, title="Corpus", corpus=corpus_facts(str(store_uri)))


def corpus_facts(store_uri: str) -> CorpusFacts:
    """Reads what the page says. Raises StoreError when there is no store or it cannot be read."""
    store = CorpusStore.open(store_uri)
    clips, rejects = store.clips(CLIP_COLUMNS), store.rejects()
    found, unfinished = planned_sources(store)
    groups, speakers, chosen_by = reject_groups(rejects, set(clips["source"].to_pylist())), _speakers(clips), choices(store)
    shown = chosen_by[-1] if chosen_by else None
    frames = int(measures.column(clips, "frames").sum())
    return CorpusFacts(
        store=store.uri,
        format=store.format,
        unfinished=unfinished,
        source_funnel=source_funnel(found, clips, rejects),
        clips=len(clips),
        frames=frames,
        duration_s=float(measures.column(clips, "duration_s").sum()),
        rejects=groups,
        reject_pictures=reject_pictures(groups),
        speakers=speakers[:MOST_SPEAKERS],
        other_speakers=max(len(speakers) - MOST_SPEAKERS, 0),
        choices=chosen_by,
        other_snapshots=max(len(store.snapshots()) - len(chosen_by), 0),
        left_out_sheets=left_out_sheets(store, shown) if shown else {},
        measures=measure_figures(clips, shown.settings if shown else SnapshotSettings()),
        sheets=best_and_worst(store, clips, shown.chosen if shown else frozenset()),
        storage=storage_rows(store.uri, frames),
    )


def _speakers(clips: pa.Table) -> list[SpeakerRow]:
    """A row a speaker, who speaks longest first."""
    seconds: Counter[str] = Counter()
    for speaker, duration_s in zip(clips["speaker"].to_pylist(), clips["duration_s"].to_pylist(), strict=True):
        seconds[speaker] += duration_s
    counts = Counter(clips["speaker"].to_pylist())
    longest = max(seconds.values(), default=1.0)
    ordered = sorted(seconds.items(), key=lambda item: (-item[1], item[0]))
    return [SpeakerRow(speaker, counts[speaker], duration_s, duration_s / max(longest, 1e-9)) for speaker, duration_s in ordered]
