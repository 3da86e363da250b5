"""Freezing a choice of clips: which ones a training run reads, and in which split."""

import hashlib
import logging
from collections import Counter
from typing import Any, Literal

from schemas.errors import StoreError
from schemas.jobs import Snapshot, SnapshotClip
from schemas.settings import SnapshotSettings
from tasks import places
from tasks.corpus import layout
from tasks.corpus.store import CorpusStore

logger = logging.getLogger(__name__)

Split = Literal["train", "val", "test"]

FEWEST_SPEAKERS = 10
"""With fewer, a tenth of the speakers is less than one: splits are made of clips."""
FEWEST_FOR_VALIDATION = 3
FEWEST_FOR_TESTS = 5
"""Below these numbers of speakers or clips that split stays empty, so that training has at least two."""
NAME_LENGTH = 16
MEASURES = ("speaker", "frames", "face_px", "detected_share")


def freeze_snapshot(store: CorpusStore, settings: SnapshotSettings) -> Snapshot:
    """Chooses clips by the thresholds, splits them, and writes the choice to `snapshots/<name>.json`.

    The same clips and settings give the same choice whoever ingested first. Splits are disjoint in speakers; with fewer than
    FEWEST_SPEAKERS they fall back to clips, with a warning. Train is never empty; with fewer than FEWEST_FOR_VALIDATION clips
    there is no validation split, and training then validates on what it trains on. A snapshot that is there already with the
    same content is left as it is; StoreError when its content differs, or when no clip passes the thresholds.
    """
    chosen, left_out = _choose(store, settings)
    if not chosen:
        raise StoreError(f"No clip of the corpus store {store.uri} passes the selection: {_said(left_out)}.")
    split_by, splits = _split(chosen, settings)
    clips = tuple(SnapshotClip(clip_id=row["clip_id"], batch=row["batch"], speaker=row["speaker"], split=splits[row[split_by]]) for row in chosen)
    by: Literal["speaker", "clip"] = "speaker" if split_by == "speaker" else "clip"
    snapshot = Snapshot(name=settings.name, selection=settings, format=store.format, clips=clips, left_out=left_out, split_by=by)
    if not settings.name:
        snapshot = snapshot.replaced(name=hashlib.sha256(snapshot.model_dump_json().encode()).hexdigest()[:NAME_LENGTH])
    _keep(store, snapshot)
    return snapshot


def _keep(store: CorpusStore, snapshot: Snapshot) -> None:
    location = layout.snapshot_location(store.uri, snapshot.name)
    if not places.exists(location):
        places.write_bytes(location, snapshot.model_dump_json(indent=1).encode())
    elif store.snapshot(snapshot.name) != snapshot:
        raise StoreError(f"The corpus store {store.uri} has another snapshot {snapshot.name} already; a snapshot never changes, so give another name.")


def _choose(store: CorpusStore, settings: SnapshotSettings) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Clips that pass, in order of clip_id, and how many were left out by the first threshold that each failed."""
    chosen: list[dict[str, Any]] = []
    left_out: Counter[str] = Counter()
    for row in sorted(store.clips(MEASURES).to_pylist(), key=lambda row: row["clip_id"]):
        failed = _failed(row, settings)
        if failed is None:
            chosen.append(row)
        else:
            left_out[failed] += 1
    return chosen, dict(sorted(left_out.items()))


def _failed(row: dict[str, Any], settings: SnapshotSettings) -> str | None:
    thresholds = {"min_frames": ("frames", settings.min_frames), "min_face_px": ("face_px", settings.min_face_px)}
    thresholds["min_detected_share"] = ("detected_share", settings.min_detected_share)
    return next((name for name, (measure, lowest) in thresholds.items() if row[measure] < lowest), None)


def _split(chosen: list[dict[str, Any]], settings: SnapshotSettings) -> tuple[str, dict[str, Split]]:
    """The column that is split by, and the split of each of its values."""
    speakers = {row["speaker"] for row in chosen}
    if len(speakers) >= FEWEST_SPEAKERS:
        return "speaker", _assign(speakers, settings)
    logger.warning("There are %d speakers, fewer than %d: clips are split, so one person may be in two splits.", len(speakers), FEWEST_SPEAKERS)
    return "clip_id", _assign({row["clip_id"] for row in chosen}, settings)


def _assign(names: set[str], settings: SnapshotSettings) -> dict[str, Split]:
    """Validation, then tests, then training, in an order that depends on the seed and the names alone."""
    order = sorted(names, key=lambda name: hashlib.sha256(f"{settings.seed}:{name}".encode()).hexdigest())
    validation = _count(len(order), settings.val_share, FEWEST_FOR_VALIDATION)
    tests = min(_count(len(order), settings.test_share, FEWEST_FOR_TESTS), len(order) - validation - 1)
    splits: dict[str, Split] = dict.fromkeys(order, "train")
    splits |= dict.fromkeys(order[validation : validation + tests], "test")
    return splits | dict.fromkeys(order[:validation], "val")


def _count(total: int, share: float, fewest: int) -> int:
    return max(1, round(share * total)) if share > 0 and total >= fewest else 0


def _said(left_out: dict[str, int]) -> str:
    return ", ".join(f"{name} leaves out {count}" for name, count in left_out.items()) or "there are no clips in it"
