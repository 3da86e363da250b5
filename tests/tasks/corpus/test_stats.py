from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import StoreError
from schemas.settings import FormatSettings, SnapshotSettings
from schemas.tables import CLIPS
from tasks.corpus.snapshot import freeze_snapshot
from tasks.corpus.stats import StoredFiles, corpus_state, corpus_stats, show_clip, stats_table
from tasks.corpus.store import CorpusStore

ALL_LENGTHS = SnapshotSettings(min_frames=5, min_face_px=0, min_detected_share=0, max_yaw_deg=180)


@pytest.fixture
def empty(tmp_path: Path) -> CorpusStore:
    (tmp_path / "clips").mkdir()
    return CorpusStore.create_or_open(str(tmp_path), FormatSettings())


def add_batch(store: CorpusStore, batch: str, clips: int) -> Path:
    plain = {field.name: _plain(field.type) for field in CLIPS}
    rows = [plain | {"clip_id": f"{batch}-{number}"} for number in range(clips)]
    path = Path(store.uri) / "clips" / f"{batch}.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=CLIPS), path)
    return path


def _plain(kind: pa.DataType) -> object:
    if pa.types.is_fixed_size_list(kind):
        return [0] * kind.list_size
    return [] if pa.types.is_list(kind) else "" if pa.types.is_string(kind) else 0


def test_the_version_changes_exactly_with_the_batches_that_hold_clips(empty: CorpusStore) -> None:
    nothing = corpus_state(empty)
    add_batch(empty, "b1", 2)
    one = corpus_state(empty)
    assert (nothing[:2], one[:2]) == ((0, 0), (1, 2))
    assert nothing.version != one.version
    add_batch(empty, "b2", 0)
    assert corpus_state(empty) == one, "a batch whose sources were all turned away brings nothing new"
    path = add_batch(empty, "b0", 1)
    assert corpus_state(empty)[:2] == (2, 3)
    assert corpus_state(empty).version not in (one.version, nothing.version)
    path.unlink()
    assert corpus_state(empty) == one


def test_the_way_from_sources_to_snapshots(store: Path) -> None:
    frozen = freeze_snapshot(CorpusStore.open(str(store)), ALL_LENGTHS.replaced(name="all"))
    freeze_snapshot(CorpusStore.open(str(store)), ALL_LENGTHS.replaced(name="long", min_frames=25))
    stats = corpus_stats(str(store))
    assert (stats.batches, stats.unfinished, stats.sources, stats.clips, stats.frames) == (3, 0, 8, 3, 50)
    assert (stats.sources_kept, stats.sources_turned_away, stats.copies) == (3, 5, 1)
    assert stats.hours == pytest.approx(50 / 25 / 3600)
    assert stats.speakers["day two"] == 2
    assert sum(stats.hours_by_speaker.values()) == pytest.approx(stats.hours)
    assert sum(stats.rejects.values()) == 5
    assert [(snapshot.name, snapshot.clips, snapshot.left_out) for snapshot in stats.snapshots] == [("all", 3, {}), ("long", 1, {"min_frames": 2})]
    assert sum(stats.snapshots[0].splits.values()) == len(frozen.clips)


def test_storage_is_counted_by_folder(store: Path) -> None:
    stats = corpus_stats(str(store))
    files = [path for path in store.rglob("*") if path.is_file()]
    assert (stats.files, stats.bytes) == (len(files), sum(path.stat().st_size for path in files))
    assert stats.storage["clips"] == StoredFiles(files=3, bytes=sum(path.stat().st_size for path in (store / "clips").iterdir()))
    assert stats.storage["settings.json"].files == 1
    assert stats.bytes_a_frame == stats.bytes / 50


def test_the_table_says_it_all_in_words(store: Path) -> None:
    freeze_snapshot(CorpusStore.open(str(store)), ALL_LENGTHS.replaced(name="long", min_frames=25))
    table = dict(stats_table(corpus_stats(str(store))))
    assert table["sources"] == "8: 3 gave clips, 5 gave none"
    assert table["clips"] == "3 (50 frames, 2.0 s)"
    assert "no sound" in table["  turned away: no-audio"]
    assert table["  left out by min_frames"] == "2 clips"
    assert table["  turned away: no-face"].startswith("1 source: ")
    assert table["snapshot long"].startswith("1 clip (1 train, 0 val, 0 test")
    assert all("\n" not in value for value in table.values())


def test_an_empty_store_has_numbers_too(empty: CorpusStore) -> None:
    stats = corpus_stats(empty.uri)
    assert (stats.clips, stats.bytes_a_frame, stats.files) == (0, None, 1)
    assert ("sources", "0: 0 gave clips, 0 gave none") in stats_table(stats)


def test_a_clip_is_shown_without_endless_lists(store: Path) -> None:
    row = CorpusStore.open(str(store)).clips().to_pylist()[0]
    shown = show_clip(str(store), row["clip_id"])
    assert {name: shown[name] for name in ("clip_id", "batch", "frames", "face_px")} == {name: row[name] for name in ("clip_id", "batch", "frames", "face_px")}
    assert (shown["pictures"], shown["pictures_bytes"]) == (row["frames"], sum(row["faces_size"]))
    assert not any(isinstance(value, list) for value in shown.values())
    assert shown["face_hash"].split()[0] == f"{row['face_hash'][0]:016x}"
    with pytest.raises(StoreError, match="has no clip x"):
        show_clip(str(store), "x")
