"""Which clips a snapshot trains on, validates with and tests with."""

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.jobs import Split
from schemas.settings import SnapshotSettings
from tasks.corpus.twins import lowest_of_each_group

logger = logging.getLogger(__name__)

SplitBy = Literal["speaker", "clip", "layout", "ending"]

FEWEST_SPEAKERS = 10
"""With fewer, a tenth of the speakers is less than one: splits are made of clips."""
FEWEST_FOR_VALIDATION = 3
FEWEST_FOR_TESTS = 5
"""Below these numbers of speakers or clips that split stays empty, so that training has at least two."""
SAME_TIME_S = 0.001
"""A clip that begins where another one ends does not overlap it, whatever the last digits of the two times are."""
STRICTEST_FIRST: tuple[Split, ...] = ("test", "val", "train")
"""Twins that lists put into different splits go together into the first of these: a published test set stays whole."""


def choose_splits(clips: pa.Table, stand_in: npt.NDArray[np.int64], settings: SnapshotSettings) -> tuple[SplitBy, list[Split]]:
    """What clips are split by, and the split of each.

    By the ends of sources where the settings say so: then neither lists nor speakers are looked at (see `_endings`).
    Otherwise by the layout's lists where there are any; a clip on none is then trained on, which is said. Without lists, or where they leave
    nothing to train on, disjoint in speakers; with fewer than FEWEST_SPEAKERS by clip, with a warning. Twins are in one split always,
    and so are speakers who share twins: also where only one of them is chosen afterwards, lest the twin of a listed test be trained on.
    clips: columns clip_id, speaker, split, segment_start_s, segment_end_s; n rows, at least one.
    stand_in: (n,) the same row for all twins of one footage.
    """
    if settings.hold_out == "endings":
        return "ending", _endings(clips, stand_in, settings)
    listed: list[Split | None] = _strictest_of_twins(clips["split"].to_pylist(), stand_in) if settings.layout_splits else []
    if any(listed):
        splits: list[Split] = [split or "train" for split in listed]
        if "train" in splits:
            _warn_of_lists(listed)
            return "layout", splits
        logger.warning("The layout's lists leave no clip to train on: they are not used.")
    speakers = _units(clips["speaker"], stand_in)
    if len(set(speakers)) >= FEWEST_SPEAKERS:
        return "speaker", _spread(speakers, settings)
    logger.warning("There are %d speakers, fewer than %d: clips are split, so one person may be in two splits.", len(set(speakers)), FEWEST_SPEAKERS)
    return "clip", _spread(_units(clips["clip_id"], stand_in), settings)


def _endings(clips: pa.Table, stand_in: npt.NDArray[np.int64], settings: SnapshotSettings) -> list[Split]:
    """In each source first what is trained on, then what validates, then what tests: nothing is chosen by the tests, so they lie farthest away.

    A source is what one file's content gave, by the clip_ids; its clips are taken in order of time, and clips that share a moment (two faces
    that hear one sound) go together. Each share is of the source's length in clips, met as nearly as whole clips allow; of two clips or more
    that do not overlap at least one validates, and one is always trained on. Twins go where the strictest of them goes. Where that
    leaves nothing to train on, the first clip is trained on, and its twins with it.
    """
    sources = _moments_of_sources(clips)
    splits: list[Split | None] = ["train"] * len(clips)
    for moments in sources:
        for moment, split in zip(moments, _in_order(moments, settings), strict=True):
            for row in moment.rows:
                splits[row] = split
    if alone := sum(len(moments) == 1 for moments in sources):
        logger.warning("%d sources are of one clip each: nothing of them is held out.", alone)
    held = [split or "train" for split in _strictest_of_twins(splits, stand_in)]
    if "train" in held:
        return held
    first = sources[0][0].rows[0]
    return ["train" if released else split for released, split in zip(stand_in == stand_in[first], held, strict=True)]


class Moment(NamedTuple):
    """A piece of a source that has clips: one, or several that overlap."""

    start_s: float
    end_s: float
    rows: tuple[int, ...]


def _moments_of_sources(clips: pa.Table) -> list[list[Moment]]:
    """The moments of each source in order of time; clips that overlap share one."""
    names = [clip_id.rpartition("-")[0] for clip_id in clips["clip_id"].to_pylist()]
    times = zip(names, clips["segment_start_s"].to_pylist(), clips["segment_end_s"].to_pylist(), range(len(names)), strict=True)
    sources: defaultdict[str, list[Moment]] = defaultdict(list)
    for name, start, end, row in sorted(times):
        moments = sources[name]
        last = moments[-1] if moments else None
        if last and start < last.end_s - SAME_TIME_S:
            moments[-1] = Moment(last.start_s, max(end, last.end_s), (*last.rows, row))
        else:
            moments.append(Moment(start, end, (row,)))
    return list(sources.values())


def _in_order(moments: Sequence[Moment], settings: SnapshotSettings) -> list[Split]:
    """The split of each moment of a source: first those to train on, one at least, then validation, then tests."""
    lengths_s = [moment.end_s - moment.start_s for moment in moments]
    total_s, others = sum(lengths_s), len(lengths_s) - 1
    tests = _last_of(lengths_s, settings.test_share * total_s, others - (settings.val_share > 0))
    validation = _last_of(lengths_s[: len(lengths_s) - tests], settings.val_share * total_s, others - tests)
    counts: dict[Split, int] = {"train": len(lengths_s) - validation - tests, "val": validation, "test": tests}
    return [split for split, count in counts.items() for _ in range(count)]


def _last_of(lengths_s: Sequence[float], wanted_s: float, most: int) -> int:
    """How many of the last lengths, at least one and not more than `most`, come nearest to what is wanted; 0: none is, or none is allowed."""
    if wanted_s <= 0 or most < 1:
        return 0
    sums_s = np.cumsum(lengths_s[::-1])[:most]
    return int(np.argmin(np.abs(sums_s - wanted_s).round(3))) + 1


def _strictest_of_twins(listed: list[Split | None], stand_in: npt.NDArray[np.int64]) -> list[Split | None]:
    order: tuple[Split | None, ...] = (*STRICTEST_FIRST, None)
    ranks = np.array([order.index(split) for split in listed])
    strictest = np.full(len(ranks), len(STRICTEST_FIRST))
    np.minimum.at(strictest, stand_in, ranks)
    return [order[rank] for rank in strictest[stand_in].tolist()]


def _warn_of_lists(listed: list[Split | None]) -> None:
    counts = Counter(listed)
    if counts[None]:
        logger.warning("%d clips are on no list of the layout: they are trained on.", counts[None])
    for split in ("val", "test"):
        if not counts[split]:
            logger.warning("The layout's lists leave the split %s empty.", split)


def _units(names: pa.ChunkedArray, stand_in: npt.NDArray[np.int64]) -> list[str]:
    """(n,) what each row is split with: its name, or the lowest name of those that it shares twins with."""
    encoded = names.combine_chunks().dictionary_encode()
    labels, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)
    by_name = sorted(range(len(labels)), key=labels.__getitem__)
    rank = np.empty(len(labels), dtype=np.int64)
    rank[by_name] = np.arange(len(labels))
    pairs = np.stack([rank[codes], rank[codes[stand_in]]], axis=1)
    groups = lowest_of_each_group(len(labels), np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0))
    return [labels[by_name[unit]] for unit in groups[rank[codes]].tolist()]


def _spread(units: list[str], settings: SnapshotSettings) -> list[Split]:
    """Validation, then tests, then training, in an order of the units that depends on the seed and their names alone."""
    order = sorted(set(units), key=lambda name: hashlib.sha256(f"{settings.seed}:{name}".encode()).hexdigest())
    validation = _count(len(order), settings.val_share, FEWEST_FOR_VALIDATION)
    tests = min(_count(len(order), settings.test_share, FEWEST_FOR_TESTS), len(order) - validation - 1)
    splits: dict[str, Split] = dict.fromkeys(order, "train")
    splits |= dict.fromkeys(order[validation : validation + tests], "test")
    splits |= dict.fromkeys(order[:validation], "val")
    return [splits[unit] for unit in units]


def _count(total: int, share: float, fewest: int) -> int:
    return max(1, round(share * total)) if share > 0 and total >= fewest else 0
