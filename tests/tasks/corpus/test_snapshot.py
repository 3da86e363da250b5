import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from schemas.errors import SettingsError, StoreError
from schemas.jobs import Snapshot
from schemas.settings import FormatSettings, SnapshotSettings, check_settings
from schemas.tables import AUDIO_HASHES, CLIPS, FACE_HASHES
from tasks.corpus.snapshot import freeze_snapshot
from tasks.corpus.store import CorpusStore


class TableStore(CorpusStore):
    """A store in a folder with only the columns that a choice is made by."""

    rows: list[dict[str, object]]

    def clips(self, columns: Sequence[str] | None = None) -> pa.Table:
        fields = [CLIPS.field(name) for name in ("clip_id", *(name for name in columns or () if name != "clip_id"))]
        return pa.Table.from_pylist(self.rows, schema=pa.schema([*fields, pa.field("batch", pa.string())]))


def store_of(folder: Path, speakers: int, clips_each: int = 3, **measures: object) -> TableStore:
    store = TableStore(str(folder), FormatSettings())
    names = [(who, clip) for who in range(speakers) for clip in range(clips_each)]
    store.rows = [clip_row(f"{who:03d}-{clip}", speaker=f"speaker{who}", **measures) for who, clip in names]
    return store


def clip_row(clip_id: str, **measures: object) -> dict[str, object]:
    """A clip that every setting lets pass, with fingerprints that no other clip has."""
    words = [int.from_bytes(hashlib.sha256(f"{clip_id}{number}".encode()).digest()[:8], "big") for number in range(FACE_HASHES + AUDIO_HASHES)]
    usual = {"clip_id": clip_id, "batch": "b", "frames": 50, "duration_s": 2.0, "face_px": 100.0, "sharpness": 50.0, "detected_share": 1.0}
    return usual | {"yaw_extent_deg": 10.0, "face_hash": words[:FACE_HASHES], "audio_hash": words[FACE_HASHES:]} | measures


def chosen_ids(snapshot: Snapshot) -> list[str]:
    return [clip.clip_id for clip in snapshot.clips]


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
    assert [tuple(row.values()) for row in store.left_out(snapshot.name).to_pylist()] == [
        ("000-0", "b", "min_frames", 24.0, None),
        ("000-1", "b", "min_face_px", 10.0, None),
        ("000-2", "b", "min_detected_share", 0.5, None),
    ]


@pytest.mark.parametrize(
    ("measures", "setting"),
    [
        ({"frames": 24}, "min_frames"),
        ({"duration_s": 10.1}, "max_duration_s"),
        ({"face_px": 95.0}, "min_face_px"),
        ({"face_px": float("nan")}, "min_face_px"),
        ({"detected_share": 0.94}, "min_detected_share"),
        ({"yaw_extent_deg": 41.0}, "max_yaw_deg"),
        ({"av_offset_frames": -6.0, "av_confidence": 0.5}, "max_offset_frames"),
        ({"av_offset_frames": -6.0, "av_confidence": 0.4}, None),
        ({"av_offset_frames": None, "av_confidence": None}, None),
        ({"frames": 25, "duration_s": 10.0, "face_px": 96.0, "detected_share": 0.95, "yaw_extent_deg": 40.0}, None),
        ({"av_offset_frames": 5.0, "av_confidence": 1.0}, None),
        ({"frames": 24, "face_px": 1.0, "yaw_extent_deg": 90.0}, "min_frames"),
        ({"face_px": 1.0, "yaw_extent_deg": 90.0}, "min_face_px"),
    ],
)
def test_a_clip_is_left_out_by_the_first_setting_it_fails(tmp_path: Path, measures: dict[str, object], setting: str | None) -> None:
    store = store_of(tmp_path, 4)
    store.rows[5].update(measures)
    snapshot = freeze_snapshot(store, SnapshotSettings(name="a"))
    assert snapshot.left_out == ({setting: 1} if setting else {})
    assert len(snapshot.clips) + len(store.left_out("a")) == 12


def test_sound_is_shifted_where_its_offset_is_believed(tmp_path: Path) -> None:
    store = store_of(tmp_path, 1, 5)
    offsets = [(2.6, 0.9), (-3.4, 0.5), (2.6, 0.4), (None, None), (0.0, 0.9)]
    for row, (offset, confidence) in zip(store.rows, offsets, strict=True):
        row |= {"av_offset_frames": offset, "av_confidence": confidence}
    shifted = freeze_snapshot(store, SnapshotSettings(name="a"))
    assert [clip.sound_shift_frames for clip in shifted.clips] == [3, -3, 0, 0, 0]
    left = freeze_snapshot(store, SnapshotSettings(name="b", shift_sound=False))
    assert [clip.sound_shift_frames for clip in left.clips] == [0] * 5


def test_of_twins_that_pass_one_is_taken(tmp_path: Path) -> None:
    store = store_of(tmp_path, 2)
    hashes = {name: store.rows[0][name] for name in ("face_hash", "audio_hash")}
    store.rows[4] |= hashes | {"face_px": 200.0}
    store.rows[5] |= hashes | {"face_px": 300.0, "yaw_extent_deg": 80.0}
    snapshot = freeze_snapshot(store, SnapshotSettings(name="a"))
    assert chosen_ids(snapshot) == ["000-1", "000-2", "001-0", "001-1"]
    assert snapshot.left_out == {"max_yaw_deg": 1, "twins": 1}
    assert store.left_out("a").to_pylist()[0] == {"clip_id": "000-0", "batch": "b", "setting": "twins", "value": None, "twin_of": "001-1"}
    assert len(freeze_snapshot(store, SnapshotSettings(name="b", twins="all")).clips) == 5


def with_twins(store: TableStore) -> TableStore:
    """Each clip of the first half has a twin, of another speaker, in the second."""
    half = len(store.rows) // 2
    for one, other in zip(store.rows[:half], store.rows[half:], strict=True):
        other |= {name: one[name] for name in ("face_hash", "audio_hash")}
    return store


@pytest.mark.parametrize(("speakers", "split_by"), [(40, "speaker"), (8, "clip")])
def test_twins_are_never_in_different_splits(tmp_path: Path, speakers: int, split_by: str) -> None:
    snapshot = freeze_snapshot(with_twins(store_of(tmp_path, speakers)), SnapshotSettings(name="a", twins="all", val_share=0.3, test_share=0.3))
    assert snapshot.split_by == split_by
    half = len(snapshot.clips) // 2
    assert {clip.split for clip in snapshot.clips} == {"train", "val", "test"}
    assert [clip.split for clip in snapshot.clips[:half]] == [clip.split for clip in snapshot.clips[half:]]


def listed_store(folder: Path, *splits: str | None) -> TableStore:
    store = store_of(folder, 1, len(splits))
    for row, split in zip(store.rows, splits, strict=True):
        row["split"] = split
    return store


def test_the_lists_of_the_layout_split_and_what_is_on_none_is_trained_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = listed_store(tmp_path, "test", "train", "val", "train", None)
    snapshot = freeze_snapshot(store, SnapshotSettings(name="a"))
    assert (snapshot.split_by, [clip.split for clip in snapshot.clips]) == ("layout", ["test", "train", "val", "train", "train"])
    assert "1 clips are on no list of the layout: they are trained on." in caplog.text
    assert freeze_snapshot(store, SnapshotSettings(name="c", layout_splits=False)).split_by == "clip"
    assert "empty" not in caplog.text


def test_a_store_without_lists_is_not_split_by_them(tmp_path: Path) -> None:
    assert freeze_snapshot(listed_store(tmp_path, None, None, None), SnapshotSettings(name="a")).split_by == "clip"


def test_lists_without_validation_leave_it_empty_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    snapshot = freeze_snapshot(listed_store(tmp_path, "train", "test", "train"), SnapshotSettings(name="a"))
    assert [clip.split for clip in snapshot.clips] == ["train", "test", "train"]
    assert "leave the split val empty" in caplog.text


def test_lists_that_leave_nothing_to_train_on_are_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    snapshot = freeze_snapshot(listed_store(tmp_path, "test", "test", "val"), SnapshotSettings(name="a"))
    assert snapshot.split_by == "clip"
    assert "train" in {clip.split for clip in snapshot.clips}
    assert "no clip to train on" in caplog.text


def test_listed_twins_go_to_the_strictest_split_of_them(tmp_path: Path) -> None:
    snapshot = freeze_snapshot(with_twins(listed_store(tmp_path, "train", "val", "train", "test", "train", "train")), SnapshotSettings(name="a", twins="all"))
    assert [clip.split for clip in snapshot.clips] == ["test", "val", "train"] * 2


def test_the_twin_of_a_listed_test_is_not_trained_on_in_its_place(tmp_path: Path) -> None:
    store = with_twins(listed_store(tmp_path, "train", "val", "train", "test", None, "train"))
    snapshot = freeze_snapshot(store, SnapshotSettings(name="a"))
    assert len(snapshot.clips) == 3
    assert (snapshot.split_by, [clip.split for clip in snapshot.clips]) == ("layout", ["test", "val", "train"])


def test_files_do_not_depend_on_who_came_first(tmp_path: Path) -> None:
    def files(folder: Path, order: int) -> list[bytes]:
        store = with_twins(store_of(folder, 20))
        store.rows[7]["frames"] = 3
        store.rows = store.rows[::order]
        freeze_snapshot(store, SnapshotSettings())
        return [path.read_bytes() for path in sorted((folder / "snapshots").iterdir())]

    assert files(tmp_path / "one", 1) == files(tmp_path / "other", -1)
    assert [path.suffix for path in sorted((tmp_path / "one" / "snapshots").iterdir())] == [".json", ".parquet"]


def test_nothing_left_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="min_frames 25 leaves out 3"):
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
