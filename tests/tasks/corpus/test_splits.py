"""Which end of a source is held out."""

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.settings import FormatSettings, SnapshotSettings
from tasks.corpus.snapshot import freeze_snapshot
from tasks.corpus.splits import choose_splits
from tests.tasks.corpus.test_snapshot import TableStore, clip_row

ENDINGS = SnapshotSettings(hold_out="endings", val_share=0.2, test_share=0.0)
ORDER = {"train": 0, "val": 1, "test": 2}


def clips_of(sources: dict[str, list[float]], split: str | None = None) -> pa.Table:
    """Clips that follow each other, so many seconds long, in each source."""
    rows = []
    for source, lengths_s in sources.items():
        ends = np.cumsum(lengths_s).tolist()
        for number, (length_s, end) in enumerate(zip(lengths_s, ends, strict=True)):
            times = {"segment_start_s": end - length_s, "segment_end_s": end}
            rows.append({"clip_id": f"{source}-s{number}t0", "speaker": source, "split": split, **times})
    return pa.Table.from_pylist(rows)


def splits_of(clips: pa.Table, settings: SnapshotSettings = ENDINGS, stand_in: list[int] | None = None) -> list[str]:
    by, splits = choose_splits(clips, np.array(stand_in or range(len(clips)), dtype=np.int64), settings)
    assert by == "ending"
    return splits


def test_the_last_fifth_of_each_source_validates() -> None:
    clips = clips_of({"a": [2.0] * 5, "b": [1.0] * 10})
    assert splits_of(clips) == ["train"] * 4 + ["val"] + ["train"] * 8 + ["val"] * 2


def test_tests_lie_behind_what_validates() -> None:
    assert splits_of(clips_of({"a": [1.0] * 10}), ENDINGS.replaced(test_share=0.1)) == ["train"] * 7 + ["val"] * 2 + ["test"]


def test_shares_are_of_seconds_not_of_clips() -> None:
    assert splits_of(clips_of({"a": [10.0, 10.0, 1.0, 1.0, 3.0]})) == ["train", "train", "val", "val", "val"]
    assert splits_of(clips_of({"a": [1.0, 1.0, 10.0]})) == ["train", "train", "val"]


def test_time_decides_and_not_the_names_of_clips() -> None:
    clips = clips_of({"a": [1.0] * 12}).sort_by("clip_id")  # s10 comes before s2
    held = [clip_id for clip_id, split in zip(clips["clip_id"].to_pylist(), splits_of(clips), strict=True) if split == "val"]
    assert held == ["a-s10t0", "a-s11t0"]


def test_a_source_of_one_clip_is_trained_on_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert splits_of(clips_of({"a": [3.0], "b": [1.0, 1.0]})) == ["train", "train", "val"]
    assert "1 sources are of one clip each" in caplog.text
    assert splits_of(clips_of({"a": [3.0]})) == ["train"]


def test_two_faces_of_one_moment_go_together() -> None:
    clips = clips_of({"a": [2.0, 2.0]})
    other_face = [{"clip_id": "a-s0t1", "speaker": "a", "split": None, "segment_start_s": 1.5, "segment_end_s": 2.5}]
    assert splits_of(pa.Table.from_pylist([*clips.to_pylist(), *other_face])) == ["train"] * 3


def test_lists_and_the_seed_do_not_matter() -> None:
    clips = clips_of({"a": [1.0] * 5}, split="test")
    assert splits_of(clips) == splits_of(clips, ENDINGS.replaced(seed=7)) == ["train"] * 4 + ["val"]


def test_a_twin_of_what_is_held_out_is_held_out() -> None:
    clips = clips_of({"a": [1.0] * 5, "b": [1.0] * 5})
    stand_in = list(range(10))
    stand_in[5] = 4  # b begins with what a ends with
    assert splits_of(clips, stand_in=stand_in) == ["train"] * 4 + ["val", "val"] + ["train"] * 3 + ["val"]


def test_one_thing_again_and_again_is_trained_on() -> None:
    assert splits_of(clips_of({"a": [1.0] * 4}), stand_in=[2, 2, 2, 2]) == ["train"] * 4
    crossed = clips_of({"a": [1.0, 1.0], "b": [1.0, 1.0]})
    assert splits_of(crossed, stand_in=[0, 1, 1, 0]) == ["train", "val", "val", "train"]


seconds = st.floats(1.0, 10.0).map(lambda value: round(value * 25) / 25)
shares = st.floats(0.0, 0.5)


@given(sources=st.lists(st.lists(seconds, min_size=1, max_size=12), min_size=1, max_size=5), val=shares, test=shares, seed=st.integers(0, 9))
def test_endings_are_endings_whatever_the_footage(sources: list[list[float]], val: float, test: float, seed: int) -> None:
    clips = clips_of({f"{number}": lengths for number, lengths in enumerate(sources)})
    order = np.random.default_rng(seed).permutation(len(clips))
    settings = SnapshotSettings(hold_out="endings", val_share=val, test_share=test)
    shuffled = splits_of(clips.take(order), settings)
    splits = np.array(splits_of(clips, settings))
    assert splits[order].tolist() == shuffled
    for lengths, of_source in zip(sources, np.split(splits, np.cumsum([len(lengths) for lengths in sources])[:-1]), strict=True):
        places = [ORDER[split] for split in of_source]
        assert places == sorted(places)
        assert of_source[0] == "train"
        held_s = sum(length for length, split in zip(lengths, of_source, strict=True) if split == "val")
        if len(lengths) > 1 and val > 0:
            assert "val" in of_source
            # A whole clip more or less cannot be nearer: the share is missed by half of the longest clip at most, where one clip does not do.
            assert np.count_nonzero(of_source == "val") == 1 or held_s <= val * sum(lengths) + max(lengths) / 2 + 0.01
        assert ("val" in of_source) <= (val > 0)
        assert ("test" in of_source) <= (test > 0)


@given(data=st.data(), sources=st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_twins_are_on_one_side_whatever_the_footage(data: st.DataObject, sources: list[int]) -> None:
    clips = clips_of({f"{number}": [1.0] * count for number, count in enumerate(sources)})
    drawn = data.draw(st.lists(st.integers(0, len(clips) - 1), min_size=len(clips), max_size=len(clips)))
    stand_in = [drawn.index(group) for group in drawn]
    splits = splits_of(clips, ENDINGS.replaced(test_share=0.2), stand_in)
    assert "train" in splits
    assert [splits[row] for row in stand_in] == splits
    if max(sources) > 1 and len(set(stand_in)) == len(clips):
        assert "val" in splits


def test_a_snapshot_says_that_it_holds_out_endings(tmp_path: Path) -> None:
    store = TableStore(str(tmp_path), FormatSettings())
    store.rows = [clip_row(f"one-s{number}t0", speaker="one", segment_start_s=2.0 * number, segment_end_s=2.0 * number + 2) for number in range(12)]
    snapshot = freeze_snapshot(store, ENDINGS)
    assert snapshot.split_by == "ending"
    assert Counter(clip.split for clip in snapshot.clips) == {"train": 10, "val": 2}
    assert {clip.clip_id for clip in snapshot.clips if clip.split == "val"} == {"one-s10t0", "one-s11t0"}
    assert freeze_snapshot(store, SnapshotSettings()).split_by == "clip"
