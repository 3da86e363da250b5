"""Contact sheets: the best clips, the worst, some that a snapshot leaves out by each setting, and what was turned away."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.errors import MediaError, StoreError
from schemas.reasons import Reason
from tasks import places
from tasks.corpus.store import ClipArrays, CorpusStore
from tasks.faces.sketch import draw_sketch
from tasks.report.funnel import Choice, LeftOut, example_rows
from tasks.report.measures import column, with_unit
from tasks.report.page import picture_uri, shortened
from tasks.report.rejects import RejectGroup
from tasks.report.video import moments

SHEET_CLIPS = 12
"""Clips on the sheet of the best and of the worst."""
REASON_CLIPS = 6
"""Clips on the sheet of a setting."""
REJECT_PICTURES = 3
"""Sources shown of a reason."""
PICTURE_PX = 128
"""Side of a face on the page, whatever the store holds."""
LONGEST_NAME = 40
"""Characters of a name under a picture, two lines of them: the whole name stands in the tables."""
CLOSED, OPEN = 0.05, 0.95
"""Which frames of a clip are shown, by the rank of their lips' opening: the outermost ones may be failed detections."""
SHOWN_AT_S = 0.4
"""The moment of a turned-away source that is shown: many films begin in black, and few are shorter."""
SEEN_REASONS = frozenset({Reason.NO_FACE, Reason.OTHER_FACE, Reason.NO_AUDIO, Reason.SILENT_AUDIO, Reason.TOO_SHORT})
"""Reasons whose sources ingest decoded without a fault: only these are decoded once more for the page."""
RANKED = {"face_px": 1, "sharpness": 1, "lip_activity": 1, "detected_share": 1, "yaw_extent_deg": -1}
"""What makes a clip good, and whether more or less of it does."""
RANKED_COLUMNS = ("source", "speaker", *RANKED)
RULE = "face size, sharpness, lip activity, share of frames with the face found, and a head turned to the camera"


@dataclass(frozen=True)
class SheetPicture:
    """What is to be seen of a clip or source, as an address; None and a sentence in the caption when it cannot be read."""

    uri: str | None
    caption: str


@dataclass(frozen=True)
class Sheet:
    """Pictures of one kind, and by what rule they were picked."""

    name: str
    rule: str
    pictures: list[SheetPicture]


def best_and_worst(store: CorpusStore, clips: pa.Table, chosen: frozenset[str]) -> list[Sheet]:
    """The two sheets, of the chosen clips (of all where none is chosen). clips: rows of `clips` with RANKED_COLUMNS and `batch`."""
    rows = clips.filter(pa.array([clip_id in chosen for clip_id in clips["clip_id"].to_pylist()], pa.bool_())) if chosen else clips
    if not len(rows):
        return []
    order = np.argsort(-_goodness(rows), kind="stable")
    best = _one_a_source(rows, order)
    worst = _one_a_source(rows, order[::-1], passed={row["clip_id"] for row in best})
    of = "of the clips that are taken" if chosen else "of all clips"
    told = [(f"The best {of}", "highest", best), (f"The worst {of}", "lowest", worst)]
    return [Sheet(name, _rule(end), [_shown(store, row, row["speaker"]) for row in picked]) for name, end, picked in told if picked]


def _rule(end: str) -> str:
    return f"Those with the {end} mean rank in {RULE}; one clip a source."


def _goodness(clips: pa.Table) -> npt.NDArray[np.float64]:
    """(n,) mean rank of each clip over RANKED, 0..1; equal values have one rank."""
    ranks = [_ranks(sign * np.nan_to_num(column(clips, name), nan=-sign * np.inf)) for name, sign in RANKED.items()]
    return np.asarray(np.mean(ranks, axis=0))


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    distinct, ranks = np.unique(values, return_inverse=True)
    return np.asarray(ranks / max(len(distinct) - 1, 1))


def _one_a_source(clips: pa.Table, order: npt.NDArray[np.int64], passed: Iterable[str] = ()) -> list[dict[str, Any]]:
    """The first clips in that order, each of another source, without those that are passed over."""
    sources = clips["source"].to_pylist()
    seen: set[str] = set()
    picked: list[dict[str, Any]] = []
    for index in order.tolist():
        if sources[index] not in seen:
            row = clips.slice(index, 1).to_pylist()[0]
            seen.add(sources[index])
            picked += [row] if row["clip_id"] not in passed else []
        if len(picked) == SHEET_CLIPS:
            break
    return picked


def left_out_sheets(store: CorpusStore, choice: Choice) -> dict[str, list[SheetPicture]]:
    """Some of the clips that each setting leaves out, from its threshold to the farthest; a twin beside the clip that is taken."""
    return {group.setting: _left_out_pictures(store, group) for group in choice.left_out}


def _left_out_pictures(store: CorpusStore, group: LeftOut) -> list[SheetPicture]:
    return [_shown(store, row, _value(row, group.unit)) for row in example_rows(group.rows, REASON_CLIPS)]


def _value(row: dict[str, Any], unit: str) -> str:
    if row["twin_of"]:
        return f"twin of {row['twin_of']}"
    if row["value"] is None:
        return "not measured"
    return with_unit(row["value"] * (100 if unit == "%" else 1), unit)


def reject_pictures(groups: list[RejectGroup]) -> dict[str, list[SheetPicture]]:
    """A picture of some sources of each reason that leaves something to see, where they still lie on this machine."""
    seen = {group.reason: [_source_picture(uri) for uri in group.files[:REJECT_PICTURES]] for group in groups if group.reason in SEEN_REASONS}
    return {reason: [picture for picture in pictures if picture] for reason, pictures in seen.items()}


def _source_picture(uri: str) -> SheetPicture | None:
    if places.is_remote(uri):
        return None
    try:
        shown = moments(uri, [SHOWN_AT_S], PICTURE_PX)
    except (MediaError, OSError):  # gone, or changed since: its name and detail are on the page
        return None
    return SheetPicture(picture_uri(shown[0]), shortened(places.name_of(uri), LONGEST_NAME)) if shown else None


def _shown(store: CorpusStore, row: dict[str, Any], said: str) -> SheetPicture:
    """A clip: its face with the lips closed and open, and the sketch of the latter."""
    caption = f"{shortened(said, LONGEST_NAME)} · {row['clip_id']}"
    try:
        [clip] = store.read_clips([(row["batch"], row["clip_id"])])
        return SheetPicture(picture_uri(_strip(store, clip)), caption)
    except StoreError as error:
        return SheetPicture(None, f"{caption}: {error}")


def _strip(store: CorpusStore, clip: ClipArrays) -> npt.NDArray[np.uint8]:
    """(PICTURE_PX, 3 PICTURE_PX, 3) BGR."""
    by_opening = np.argsort(clip.lip_opening, kind="stable")
    closed, opened = (int(by_opening[round(rank * (len(by_opening) - 1))]) for rank in (CLOSED, OPEN))
    x0, y0, x1, y1 = clip.boxes[opened]
    sketch = draw_sketch(clip.pose[opened], clip.content[opened], (float(y1 - y0), float(x1 - x0)), PICTURE_PX)
    return np.hstack((_face(store, clip, closed), _face(store, clip, opened), sketch))


def _face(store: CorpusStore, clip: ClipArrays, frame: int) -> npt.NDArray[np.uint8]:
    face = store.face_picture(clip.faces_shard, int(clip.faces_offset[frame]), int(clip.faces_size[frame]))
    return np.asarray(cv2.resize(face, (PICTURE_PX, PICTURE_PX), interpolation=cv2.INTER_AREA), np.uint8)
