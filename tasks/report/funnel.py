"""What became of the sources and of the clips: how many, and for what reason the others are not among them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import StoreError
from schemas.jobs import Snapshot
from schemas.settings import SnapshotSettings
from tasks.corpus.snapshot import MEASURES, TWINS, select
from tasks.corpus.store import CorpusStore

MOST_SNAPSHOTS = 6
"""Snapshots on the page, the last in order of their names."""
DEFAULTS = ""
"""The name of the choice that is shown where no snapshot is frozen yet."""


@dataclass(frozen=True)
class SourceFunnel:
    """What became of the sources. Each is counted once: found = gave clips + repeated + turned away."""

    found: int
    gave_clips: int
    repeated: int
    """Sources whose content lies in the store under another name."""
    turned_away: int


@dataclass(frozen=True)
class LeftOut:
    """Clips that a snapshot leaves out by one setting, after those before it."""

    setting: str
    explanation: str
    """Which clips, in words that follow "clip" or "clips"."""
    unit: str
    count: int
    left: int
    """Clips that are left after it."""
    rows: pa.Table | None
    """schemas.tables.LEFT_OUT, in order of their values; None when the store no longer tells which they are."""


@dataclass(frozen=True)
class Choice:
    """The clips that a snapshot takes, or that the settings' defaults would take where none is frozen."""

    name: str
    settings: SnapshotSettings
    clips: int
    """Clips that were there to choose from."""
    chosen: frozenset[str]
    splits: dict[str, int]
    split_by: str
    left_out: list[LeftOut]


def source_funnel(found: set[str], clips: pa.Table, rejects: pa.Table) -> SourceFunnel:
    """Counts sources. found: URIs of the sources of finished batches; clips, rejects: the store's, with their column `source`."""
    gave = set(pc.unique(clips["source"]).to_pylist())
    turned_away = set(pc.unique(rejects["source"]).to_pylist()) - gave
    found = found | gave | turned_away
    return SourceFunnel(len(found), len(gave), len(found - gave - turned_away), len(turned_away))


def choices(store: CorpusStore) -> list[Choice]:
    """The last snapshots of a store; where there is none, what the default settings would take of it (none without clips)."""
    names = store.snapshots()
    if names:
        return [_choice_of_snapshot(store, store.snapshot(name)) for name in names[-MOST_SNAPSHOTS:]]
    clips = store.clips(MEASURES).sort_by("clip_id")
    if not len(clips):
        return []
    settings = SnapshotSettings()
    selection = select(clips, settings)
    chosen = frozenset(selection.chosen["clip_id"].to_pylist())
    counts = Counter(selection.left_out["setting"].to_pylist())
    return [Choice(DEFAULTS, settings, len(clips), chosen, {}, "", _left_out(counts, selection.left_out, settings, len(clips)))]


def _choice_of_snapshot(store: CorpusStore, snapshot: Snapshot) -> Choice:
    clips = len(snapshot.clips) + sum(snapshot.left_out.values())
    splits = Counter(clip.split for clip in snapshot.clips)
    return Choice(
        name=snapshot.name,
        settings=snapshot.selection,
        clips=clips,
        chosen=frozenset(clip.clip_id for clip in snapshot.clips),
        splits={split: splits[split] for split in ("train", "val", "test")},
        split_by=snapshot.split_by,
        left_out=_left_out(snapshot.left_out, _left_out_table(store, snapshot.name), snapshot.selection, clips),
    )


def _left_out_table(store: CorpusStore, name: str) -> pa.Table | None:
    try:
        return store.left_out(name)
    except StoreError:  # the counts are in the snapshot itself: only the examples are missing
        return None


def _left_out(counts: dict[str, int], table: pa.Table | None, settings: SnapshotSettings, clips: int) -> list[LeftOut]:
    """A group a setting, in the order in which they are applied."""
    order = list(SnapshotSettings.model_fields)
    groups = []
    for setting in sorted(counts, key=lambda name: order.index(name) if name in order else len(order)):
        clips -= counts[setting]
        rows = None if table is None else table.filter(pc.equal(table["setting"], setting)).sort_by([("value", "ascending"), ("clip_id", "ascending")])
        said, unit = _said(setting, settings)
        groups.append(LeftOut(setting, said, unit, counts[setting], clips, rows))
    return groups


def _said(setting: str, settings: SnapshotSettings) -> tuple[str, str]:
    """Which clips a setting leaves out, in words that follow "clip" or "clips", and the unit of their value."""
    words = {
        "min_frames": (f"shorter than {settings.min_frames} frames", "frames"),
        "max_duration_s": (f"longer than {settings.max_duration_s:g} s", "s"),
        "min_face_px": (f"whose face is smaller than {settings.min_face_px:g} px in the source", "px"),
        "min_detected_share": (f"whose face was found in less than {100 * settings.min_detected_share:g} % of the frames", "%"),
        "max_yaw_deg": (f"with the head turned aside by more than {settings.max_yaw_deg:g}°", "°"),
        "max_offset_frames": (f"whose sound was measured with confidence to lie more than {settings.max_offset_frames:g} frames off the picture", "frames"),
        TWINS: ("with the same picture and sound as another one that is taken", ""),
    }
    return words.get(setting) or ("that another setting does not allow", "")


def example_rows(rows: pa.Table | None, most: int) -> Sequence[dict[str, Any]]:
    """At most that many rows of a table, spread over it evenly from the first to the last."""
    if rows is None or not len(rows):
        return []
    count = min(most, len(rows))
    indices = sorted({round(index * (len(rows) - 1) / max(count - 1, 1)) for index in range(count)})
    return list(rows.take(pa.array(indices)).to_pylist())
