"""Which clips a snapshot trains on, validates with and tests with."""

import hashlib
import logging
from collections import Counter
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.jobs import Split
from schemas.settings import SnapshotSettings
from tasks.corpus.twins import lowest_of_each_group

logger = logging.getLogger(__name__)

SplitBy = Literal["speaker", "clip", "layout"]

FEWEST_SPEAKERS = 10
"""With fewer, a tenth of the speakers is less than one: splits are made of clips."""
FEWEST_FOR_VALIDATION = 3
FEWEST_FOR_TESTS = 5
"""Below these numbers of speakers or clips that split stays empty, so that training has at least two."""
STRICTEST_FIRST: tuple[Split, ...] = ("test", "val", "train")
"""Twins that lists put into different splits go together into the first of these: a published test set stays whole."""


def choose_splits(clips: pa.Table, stand_in: npt.NDArray[np.int64], settings: SnapshotSettings) -> tuple[SplitBy, list[Split]]:
    """What clips are split by, and the split of each.

    By the layout's lists where there are any; a clip on none is then trained on, which is said. Without lists, or where they leave
    nothing to train on, disjoint in speakers; with fewer than FEWEST_SPEAKERS by clip, with a warning. Twins are in one split always,
    and so are speakers who share twins: also where only one of them is chosen afterwards, lest the twin of a listed test be trained on.
    clips: columns clip_id, speaker, split; n rows, at least one. stand_in: (n,) the same row for all twins of one footage.
    """
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
