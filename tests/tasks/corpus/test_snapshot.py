import logging
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from schemas.errors import SettingsError, StoreError
from schemas.settings import FormatSettings, SnapshotSettings, check_settings
from tasks.corpus.snapshot import freeze_snapshot
from tasks.corpus.store import CorpusStore


class TableStore(CorpusStore):
    """A store in a folder with only the columns that a choice is made by."""

    rows: list[dict[str, object]]

    def clips(self, columns: object = None) -> pa.Table:
        return pa.Table.from_pylist(self.rows)


def store_of(folder: Path, speakers: int, clips_each: int = 3, **measures: object) -> TableStore:
    store = TableStore(str(folder), FormatSettings())
    usual = {"batch": "b", "frames": 50, "face_px": 100.0, "detected_share": 1.0}
    store.rows = [usual | {"clip_id": f"{who:03d}-{clip}", "speaker": f"speaker{who}"} | measures for who in range(speakers) for clip in range(clips_each)]
    return store


def test_splits_share_no_speaker(tmp_path: Path) -> None:
    snapshot = freeze_snapshot(store_of(tmp_path, 20), SnapshotSettings(name="a"))
    speakers = {split: {clip.speaker for clip in snapshot.clips if clip.split == split} for split in ("train", "val", "test")}
    assert {split: len(names) for split, names in speakers.items()} == {"train": 16, "val": 2, "test": 2}
    assert not speakers["train"] & speakers["val"]
    assert not speakers["test"] & (speakers["train"] | speakers["val"])
    assert snapshot.split_by == "speaker"


def test_few_speakers_are_split_by_clips_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        snapshot = freeze_snapshot(store_of(tmp_path, 2, 4), SnapshotSettings(name="a"))
    assert "fewer than 10" in caplog.text
    assert snapshot.split_by == "clip"
    assert Counter(clip.split for clip in snapshot.clips) == {"train": 6, "val": 1, "test": 1}


@pytest.mark.parametrize(("clips", "splits"), [(1, {"train": 1}), (2, {"train": 2}), (3, {"train": 2, "val": 1}), (5, {"train": 3, "val": 1, "test": 1})])
def test_train_is_never_empty(tmp_path: Path, clips: int, splits: dict[str, int]) -> None:
    snapshot = freeze_snapshot(store_of(tmp_path, 1, clips), SnapshotSettings(name="a", val_share=0.1))
    assert Counter(clip.split for clip in snapshot.clips) == splits


def test_half_for_each_leaves_one_to_train_on(tmp_path: Path) -> None:
    snapshot = freeze_snapshot(store_of(tmp_path, 10, 1), SnapshotSettings(name="a", val_share=0.5, test_share=0.5))
    assert Counter(clip.split for clip in snapshot.clips) == {"val": 5, "test": 4, "train": 1}


def test_the_seed_moves_the_splits_and_the_order_of_rows_does_not(tmp_path: Path) -> None:
    store = store_of(tmp_path, 20)
    first = freeze_snapshot(store, SnapshotSettings(name="a"))
    store.rows.reverse()
    assert freeze_snapshot(store, SnapshotSettings(name="b")).clips == first.clips
    assert freeze_snapshot(store, SnapshotSettings(name="c", seed=1)).clips != first.clips


def test_thresholds_leave_out_and_say_how_many(tmp_path: Path) -> None:
    store = store_of(tmp_path, 10)
    store.rows[0]["frames"] = 24
    store.rows[1]["face_px"] = 10.0
    store.rows[2]["detected_share"] = 0.5
    snapshot = freeze_snapshot(store, SnapshotSettings(min_face_px=64, min_detected_share=0.9))
    assert snapshot.left_out == {"min_detected_share": 1, "min_face_px": 1, "min_frames": 1}
    assert len(snapshot.clips) == 27


def test_nothing_left_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="min_frames leaves out 3"):
        freeze_snapshot(store_of(tmp_path, 1, frames=10), SnapshotSettings())
    with pytest.raises(StoreError, match="there are no clips in it"):
        freeze_snapshot(store_of(tmp_path, 0), SnapshotSettings())


def test_a_snapshot_never_changes(tmp_path: Path) -> None:
    store = store_of(tmp_path, 10)
    frozen = freeze_snapshot(store, SnapshotSettings(name="a"))
    written = (tmp_path / "snapshots" / "a.json").stat().st_mtime_ns
    assert freeze_snapshot(store, SnapshotSettings(name="a")) == frozen == store.snapshot("a")
    assert (tmp_path / "snapshots" / "a.json").stat().st_mtime_ns == written
    store.rows.pop()
    with pytest.raises(StoreError, match="another snapshot a already"):
        freeze_snapshot(store, SnapshotSettings(name="a"))


@pytest.mark.parametrize("name", [".v1", ".", "..", "a/b"])
def test_a_name_that_lists_pass_over_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="name"):
        check_settings(SnapshotSettings, {"name": name})


def test_without_a_name_it_is_named_by_its_content(tmp_path: Path) -> None:
    store = store_of(tmp_path, 10)
    first = freeze_snapshot(store, SnapshotSettings())
    assert freeze_snapshot(store, SnapshotSettings()) == first
    store.rows.pop()
    assert freeze_snapshot(store, SnapshotSettings()).name != first.name
    assert len(store.snapshots()) == 2
