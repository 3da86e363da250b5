"""The corpus page: what came of the sources, what the faces look like, who speaks how long."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.jobs import Snapshot
from schemas.reasons import EXPLANATIONS, Reason
from schemas.settings import FormatSettings
from tasks.corpus.stats import totals
from tasks.corpus.store import ClipArrays, CorpusStore
from tasks.faces.sketch import draw_sketch
from tasks.report.page import picture_uri, write_page

SHEET_CLIPS = 12
FRAMES_A_CLIP = 2
"""What the contact sheet shows."""
MOST_SPEAKERS = 40
"""Rows of the speaker table; the others are summed up."""
EXAMPLES = 3
"""Turned-away sources named for each reason."""
CLIP_COLUMNS = ("source", "speaker", "frames", "duration_s", "face_px", "sharpness", "detected_share", "lip_activity", "loudness_db", "silence_share")
MEASURES = {
    "face_px": "shorter side of the face box, pixels",
    "sharpness": "sharpness of the faces",
    "detected_share": "share of frames whose face was found",
    "lip_activity": "how much the lips move, shares of the box",
    "loudness_db": "loudness, dB under full scale",
    "silence_share": "share of silence",
}


@dataclass(frozen=True)
class RejectGroup:
    """Sources and clips turned away for one reason."""

    reason: str
    explanation: str
    count: int
    retryable: int
    examples: list[str]


@dataclass(frozen=True)
class SpeakerRow:
    """What there is of one speaker."""

    speaker: str
    clips: int
    duration_s: float
    share: float


@dataclass(frozen=True)
class MeasureRow:
    """A measure over all clips: 5th percentile, median, 95th percentile."""

    name: str
    low: float
    median: float
    high: float


@dataclass(frozen=True)
class SheetPicture:
    """A face crop and its sketch side by side, as an address, and what to write under it."""

    uri: str
    caption: str


@dataclass(frozen=True)
class CorpusFacts:
    """What the page says of a store."""

    store: str
    format: FormatSettings
    sources: int
    sources_kept: int
    clips: int
    frames: int
    duration_s: float
    rejects: list[RejectGroup]
    speakers: list[SpeakerRow]
    other_speakers: int
    measures: list[MeasureRow]
    sheet: list[SheetPicture]
    snapshots: list[dict[str, Any]] = field(default_factory=list)


def corpus_report(store_uri: str | Path, html: str | Path) -> None:
    """Writes the page of a corpus store. Raises StoreError when there is no store or the page cannot be written."""
    write_page("corpus.html.j2", html, title="Corpus", corpus=corpus_facts(str(store_uri)))


def corpus_facts(store_uri: str) -> CorpusFacts:
    """Reads what the page says. Raises StoreError when there is no store or it cannot be read."""
    store = CorpusStore.open(store_uri)
    clips = store.clips(CLIP_COLUMNS)
    held = totals(store, clips)
    speakers = _speakers(clips)
    return CorpusFacts(
        store=store.uri,
        format=store.format,
        sources=held.sources,
        sources_kept=len(set(clips["source"].to_pylist())),
        clips=held.clips,
        frames=held.frames,
        duration_s=held.duration_s,
        rejects=_reject_groups(store.rejects()),
        speakers=speakers[:MOST_SPEAKERS],
        other_speakers=max(len(speakers) - MOST_SPEAKERS, 0),
        measures=_measures(clips),
        sheet=_contact_sheet(store, clips),
        snapshots=[_snapshot_row(store.snapshot(name)) for name in store.snapshots()],
    )


def _reject_groups(rejects: pa.Table) -> list[RejectGroup]:
    rows = rejects.to_pylist()
    counts = Counter(row["reason"] for row in rows)
    return [
        RejectGroup(
            reason=reason,
            explanation=explanation_of(reason),
            count=count,
            retryable=sum(row["retryable"] for row in rows if row["reason"] == reason),
            examples=[_example(row) for row in rows if row["reason"] == reason][:EXAMPLES],
        )
        for reason, count in counts.most_common()
    ]


def _example(row: dict[str, Any]) -> str:
    """What happened to a source; most details name it already."""
    return str(row["detail"]) if row["source"] in row["detail"] else f"{row['source']}: {row['detail']}"


def explanation_of(reason: str) -> str:
    """A reason in a person's words; nothing for one that this version does not know."""
    return EXPLANATIONS[Reason(reason)] if reason in set(Reason) else ""


def _speakers(clips: pa.Table) -> list[SpeakerRow]:
    """A row a speaker, who speaks longest first."""
    seconds: Counter[str] = Counter()
    for speaker, duration_s in zip(clips["speaker"].to_pylist(), clips["duration_s"].to_pylist(), strict=True):
        seconds[speaker] += duration_s
    counts = Counter(clips["speaker"].to_pylist())
    longest = max(seconds.values(), default=1.0)
    ordered = sorted(seconds.items(), key=lambda item: (-item[1], item[0]))
    return [SpeakerRow(speaker, counts[speaker], duration_s, duration_s / max(longest, 1e-9)) for speaker, duration_s in ordered]


def _measures(clips: pa.Table) -> list[MeasureRow]:
    if not len(clips):
        return []
    values = {name: np.quantile(clips[name].to_numpy(), (0.05, 0.5, 0.95)) for name in MEASURES}
    return [MeasureRow(MEASURES[name], *(float(value) for value in quantiles)) for name, quantiles in values.items()]


def _contact_sheet(store: CorpusStore, clips: pa.Table) -> list[SheetPicture]:
    """Faces and sketches of a few clips, spread over the store, each at its most closed and its widest mouth."""
    chosen = np.unique(np.linspace(0, len(clips) - 1, min(SHEET_CLIPS, len(clips))).astype(int)) if len(clips) else np.array([], int)
    rows = clips.select(["batch", "clip_id"]).take(pa.array(chosen)).to_pylist()
    return [picture for clip in store.read_clips((row["batch"], row["clip_id"]) for row in rows) for picture in _clip_pictures(store, clip)]


def _clip_pictures(store: CorpusStore, clip: ClipArrays) -> list[SheetPicture]:
    by_opening = np.argsort(clip.lip_opening, kind="stable")
    frames = by_opening[np.rint(np.linspace(0.05, 0.95, FRAMES_A_CLIP) * (len(by_opening) - 1)).astype(int)]
    return [SheetPicture(picture_uri(_pair(store, clip, int(frame))), f"{clip.speaker} · frame {frame}") for frame in frames]


def _pair(store: CorpusStore, clip: ClipArrays, frame: int) -> npt.NDArray[np.uint8]:
    """The face crop and its sketch (S, 2 S, 3)."""
    face = store.face_picture(clip.faces_shard, int(clip.faces_offset[frame]), int(clip.faces_size[frame]))
    x0, y0, x1, y1 = clip.boxes[frame]
    sketch = draw_sketch(clip.pose[frame], clip.content[frame], (float(y1 - y0), float(x1 - x0)), face.shape[0])
    return np.hstack((face, sketch))


def _snapshot_row(snapshot: Snapshot) -> dict[str, Any]:
    splits = Counter(clip.split for clip in snapshot.clips)
    return {"name": snapshot.name, "train": splits["train"], "val": splits["val"], "test": splits["test"], "left_out": sum(snapshot.left_out.values())}
