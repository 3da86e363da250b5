import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from schemas.jobs import IngestSummary
from schemas.settings import CropSettings
from tasks.corpus import layout
from tasks.corpus.ingest import ingest_here, plan_batches, write_batch
from tasks.corpus.stats import corpus_state
from tasks.corpus.store import CorpusStore
from tasks.corpus.verify import verify_store
from tasks.progress import silent
from tests.tasks.corpus.conftest import settings_for

Made = tuple[Path, IngestSummary]


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in [folder, *folder.rglob("*")]}


def tables(store: Path) -> dict[str, bytes]:
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()}


def test_every_source_is_kept_or_turned_away_with_a_reason(footage: Path, made: Made) -> None:
    store = CorpusStore.open(str(made[0]))
    kept = Counter(Path(source).name for source in store.clips()["source"].to_pylist())
    all_rows = [row for batch in store.batches() for row in store.table(layout.CLIPS, batch, ["source"]).to_pylist()]
    refused = {Path(row["source"]).name: (row["stage"], row["reason"], row["retryable"]) for row in store.rejects().to_pylist()}
    assert refused == {
        "mute.mp4": ("probe", "no-audio", False),
        "nobody.mp4": ("faces", "no-face", False),
        "text.mp4": ("probe", "not-media", False),
        "empty.mkv": ("probe", "damaged", False),
        "nowhere.mov": ("probe", "missing", False),
    }
    assert kept["gap.MP4"] == 2
    assert kept["one.mp4"] + kept["bert.mp4"] == 1, "one content under two names is one clip for a reader"
    assert {Path(row["source"]).name for row in all_rows} == {"one.mp4", "gap.MP4", "bert.mp4"}


def test_the_summary_counts_what_was_written(made: Made) -> None:
    summary = made[1]
    assert (summary.sources, summary.known, len(summary.batches), summary.clips, summary.frames) == (8, 0, 3, 4, 30 + 30 + 20)
    assert sum(summary.rejects.values()) == 5
    assert (summary.corpus_batches, summary.corpus_clips, summary.corpus_version) == corpus_state(CorpusStore.open(str(made[0])))


def test_the_second_run_finds_nothing_to_do_and_writes_nothing(footage: Path, made: Made) -> None:
    before = listing(made[0])
    summary = ingest_here(settings_for(footage, made[0]), silent)
    assert (summary.sources, summary.known, summary.batches, summary.clips) == (8, 8, (), 0)
    assert listing(made[0]) == before


def test_clips_hold_what_the_tables_promise(made: Made) -> None:
    clips = {Path(row["source"]).name + row["clip_id"][16:]: row for row in CorpusStore.open(str(made[0])).clips().to_pylist()}
    whole, second = next(row for row in clips.values() if row["frames"] == 30), clips["gap.MP4-s0t1"]
    assert (whole["segment_start_s"], whole["segment_end_s"], whole["duration_s"]) == (0.0, 1.2, 1.2)
    assert (second["segment_start_s"], second["segment_end_s"], second["frames"], second["speaker"]) == (0.8, 1.2, 10, "day two")
    assert (whole["width"], whole["height"], whole["source_fps"]) == (256, 256, 25.0)
    assert 60 < whole["face_px"] < 256
    assert whole["detected_share"] == 1
    assert whole["lip_activity"] > 0
    assert -60 < whole["loudness_db"] < 0
    assert whole["av_offset_frames"] is None


def test_the_same_plan_gives_the_same_files_on_any_worker(footage: Path, made: Made, tmp_path: Path) -> None:
    other = settings_for(footage, tmp_path / "other")
    for batch in reversed(plan_batches(other).batches):
        write_batch(other, batch.to_write)
    assert tables(tmp_path / "other") == tables(made[0])


def test_a_slower_run_beside_it_does_not_change_a_finished_batch(footage: Path, tmp_path: Path) -> None:
    settings = settings_for(footage / "anna", tmp_path / "store")
    plan = plan_batches(settings).batches[0].batch
    finished: dict[str, bytes] = {}

    def finish_first(done: int, total: int | None = None, note: str = "") -> None:
        if not finished:
            write_batch(settings, plan)
            finished.update({name: content for name, content in tables(tmp_path / "store").items() if ".partial" not in name})

    slower = write_batch(settings, plan, finish_first, lost=frozenset(map(str, footage.rglob("*"))))
    assert (slower.written, slower.clips) == (False, 0)
    assert tables(tmp_path / "store") == finished
    assert CorpusStore.open(str(tmp_path / "store")).clips().num_rows > 0


def test_a_killed_run_is_taken_up_where_it_stopped(footage: Path, made: Made, store: Path) -> None:
    lost = made[1].batches[1]
    (store / "clips" / f"{lost}.parquet").unlink()
    (store / "landmarks" / f"{lost}.parquet").write_bytes(b"half")
    summary = ingest_here(settings_for(footage, store, batch_sources=2), silent)
    assert summary.batches == (lost,)
    assert tables(store) == tables(made[0])


@pytest.mark.parametrize("sources_before", [0, 2, 5])
def test_an_interrupted_run_leaves_only_whole_batches_and_the_next_one_makes_the_same_store(
    footage: Path, made: Made, tmp_path: Path, sources_before: int
) -> None:
    def interrupt(done: int, total: int | None = None, note: str = "") -> None:
        if done > sources_before:
            raise KeyboardInterrupt

    settings = settings_for(footage, tmp_path / "store")
    with pytest.raises(KeyboardInterrupt):
        ingest_here(settings, interrupt)
    left = CorpusStore.open(settings.store)
    assert len(list(left.plans())) == 3, "every plan is written before any work"
    assert len(left.batches()) == sources_before // 3
    assert verify_store(settings.store, silent) == []
    ingest_here(settings.replaced(batch_sources=1, detector="both"), silent)
    assert tables(tmp_path / "store") == tables(made[0])


def test_two_runs_at_the_same_time_make_the_store_of_one(footage: Path, made: Made, tmp_path: Path) -> None:
    settings = settings_for(footage, tmp_path / "store")
    beside: list[IngestSummary] = []

    def run_beside(done: int, total: int | None = None, note: str = "") -> None:
        if done == 4 and not beside:
            beside.append(ingest_here(settings.replaced(batch_sources=2), silent))

    summary = ingest_here(settings, run_beside)
    assert sorted(summary.batches + beside[0].batches) == sorted(made[1].batches), "each batch is written by one of them"
    assert len(beside[0].batches) == 2
    assert tables(tmp_path / "store") == tables(made[0])


def test_an_unfinished_plan_is_left_when_a_source_of_it_changed(footage: Path, made: Made, store: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(footage, tmp_path / "changed", symlinks=True))
    settings = settings_for(changed, tmp_path / "new")
    ingest_here(settings, silent)
    plans = CorpusStore.open(settings.store).plans()
    (unfinished,) = [plan.batch for plan in plans if any(source.uri.endswith("one.mp4") for source in plan.sources)]
    for folder in ("clips", "landmarks"):
        (tmp_path / "new" / folder / f"{unfinished}.parquet").unlink()
    os.utime(changed / "anna" / "one.mp4", ns=(1, 1))
    again = ingest_here(settings, silent)
    assert (again.known, len(again.batches)) == (5, 1)
    assert unfinished not in again.batches
    assert verify_store(str(tmp_path / "new"), silent) == []


def test_a_new_file_makes_one_new_batch(footage: Path, made: Made, store: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "new.mp4").write_bytes(b"no video")
    before = set(CorpusStore.open(str(store)).batches())
    summary = ingest_here(settings_for(footage, store, sources=(str(footage), str(tmp_path / "more"))), silent)
    assert (summary.sources, summary.known, len(summary.batches), summary.rejects) == (9, 8, 1, {"not-media": 1})
    assert set(CorpusStore.open(str(store)).batches()) == before | set(summary.batches)


def test_a_time_limit_is_tried_again_and_writes_only_what_is_new(footage: Path, tmp_path: Path) -> None:
    store, one = tmp_path / "store", str(footage / "anna" / "one.mp4")
    hurried = settings_for(footage, store, sources=(one,), clip_time_limit_s=1e-6)
    first = ingest_here(hurried, silent)
    assert (first.clips, first.rejects) == (0, {"time-limit": 1})
    before = listing(store)
    second = ingest_here(hurried, silent)
    assert (second.known, second.batches) == (1, ())
    assert listing(store) == before
    third = ingest_here(hurried.replaced(clip_time_limit_s=600), silent)
    assert (third.clips, third.rejects, len(third.batches)) == (1, {}, 1)
    assert ingest_here(hurried, silent).batches == ()
    assert verify_store(str(store), silent) == []


def test_an_error_of_ours_is_a_reject_that_says_so(footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("the detector fell over")

    monkeypatch.setattr("tasks.corpus.batch.FaceFinder.find", broken)
    summary = ingest_here(settings_for(footage, tmp_path / "store", sources=(str(footage / "bert.mp4"),)), silent)
    (reject,) = CorpusStore.open(str(tmp_path / "store")).rejects().to_pylist()
    assert summary.rejects == {"internal": 1}
    assert (reject["stage"], reject["detail"], reject["retryable"]) == ("worker", "RuntimeError: the detector fell over", True)


@pytest.mark.parametrize("picture", ["webp", "jpeg"])
def test_other_codings_and_short_segments(footage: Path, tmp_path: Path, picture: str) -> None:
    settings = settings_for(footage, tmp_path, sources=(str(footage / "bert.mp4"),), picture=picture, segment_s=1.0)
    ingest_here(settings, silent)
    store = CorpusStore.open(str(tmp_path))
    rows = store.clips().to_pylist()
    assert [(row["clip_id"][16:], row["frames"], row["segment_start_s"]) for row in rows] == [("-s0t0", 25, 0.0), ("-s1t0", 5, 1.0)]
    clip = next(store.read_clips([(rows[1]["batch"], rows[1]["clip_id"])]))
    assert clip.mel.shape == (17, 80)
    assert store.face_picture(clip.faces_shard, clip.faces_offset[4], clip.faces_size[4]).shape == (128, 128, 3)
    assert verify_store(str(tmp_path), silent) == []


def test_small_shards_are_filled_clip_by_clip(footage: Path, tmp_path: Path) -> None:
    ingest_here(settings_for(footage, tmp_path, sources=(str(footage / "anna"),), shard_mb=1, crop=CropSettings(size=256)), silent)
    shards = pq.read_table(tmp_path / "clips")["faces_shard"].to_pylist()
    assert len(set(shards)) == 2, "a shard of a megabyte is full after a clip of 30 pictures"
    assert verify_store(str(tmp_path), silent) == []


def test_the_sound_of_a_clip_begins_at_its_first_frame(made: Made) -> None:
    from tasks.audio import decode_flac, mel_spectrogram, read_waveform

    store = CorpusStore.open(str(made[0]))
    row = next(row for row in store.clips().to_pylist() if row["clip_id"].endswith("-s0t1"))
    audio = next(entry for entry in store.table(layout.AUDIO, row["batch"]).to_pylist() if entry["clip_id"] == row["clip_id"])
    waveform = read_waveform(row["source"], 0.0)[20 * 640 : 30 * 640]
    np.testing.assert_allclose(decode_flac(audio["flac"]), np.pad(waveform, (0, 6400 - len(waveform))), atol=1 / 32768)
    clip = next(store.read_clips([(row["batch"], row["clip_id"])]))
    np.testing.assert_allclose(clip.mel, mel_spectrogram(decode_flac(audio["flac"])), atol=1e-2)
