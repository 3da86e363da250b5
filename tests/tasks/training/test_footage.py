import logging
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import StoreError
from tasks.corpus.store import CorpusStore
from tasks.training import footage as footage_module
from tasks.training import mapped_arrays as mapped
from tasks.training.footage import Footage, Lessons, lay_end_to_end, read_lessons
from tests.training_corpus import BATCH, SNAPSHOT


def assert_same(one: Footage, other: Footage) -> None:
    for (name, ours), theirs in zip(vars(one).items(), vars(other).values(), strict=True):
        assert np.array_equal(ours, theirs) if isinstance(ours, np.ndarray) else ours == theirs, name


def read_mapped(corpus: CorpusStore, cache: Path) -> Lessons:
    return read_lessons(corpus, corpus.snapshot(SNAPSHOT), memory_limit_mb=0, cache=str(cache))


def test_footage_knows_its_clips(corpus: CorpusStore) -> None:
    train = read_lessons(corpus, corpus.snapshot(SNAPSHOT)).train
    assert train.clip_ids == tuple(f"{number:016x}-s0t0" for number in range(3))
    assert train.batches == (BATCH,) * 3
    for position, clip in enumerate(corpus.read_clips(zip(train.batches, train.clip_ids, strict=True))):
        rows = slice(train.first_frame[position], train.first_frame[position] + train.frames[position])
        np.testing.assert_array_equal(train.pose[rows], clip.pose)
        np.testing.assert_array_equal(train.boxes[rows], clip.boxes)
        np.testing.assert_array_equal(train.picture_offset[rows], clip.faces_offset)


def test_past_the_limit_footage_is_mapped_and_the_same(corpus: CorpusStore, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    held = read_lessons(corpus, corpus.snapshot(SNAPSHOT), memory_limit_mb=1, cache=str(tmp_path))
    assert not isinstance(held.train.pose, np.memmap)
    assert not list(tmp_path.iterdir())
    with caplog.at_level(logging.INFO):
        lessons = read_mapped(corpus, tmp_path)
    assert str(tmp_path) in caplog.text
    assert isinstance(lessons.train.pose, np.memmap)
    assert not lessons.train.pose.flags.writeable
    assert_same(held.train, lessons.train)
    assert_same(held.validation, lessons.validation)


def test_a_later_run_reads_no_clip_again(corpus: CorpusStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_mapped(corpus, tmp_path)
    monkeypatch.setattr(footage_module, "_fill", lambda *_: pytest.fail("it was there already"))
    assert_same(read_mapped(corpus, tmp_path).train, first.train)
    frozen = corpus.snapshot(SNAPSHOT)
    moved = frozen.replaced(clips=[clip.replaced(sound_shift_frames=2) for clip in frozen.clips])
    with pytest.raises(pytest.fail.Exception, match="there already"):
        read_lessons(corpus, moved, 0, str(tmp_path))


@pytest.mark.parametrize("damage", ["cut", "gone", "other"])
def test_damaged_files_are_made_again(corpus: CorpusStore, tmp_path: Path, damage: str) -> None:
    first = read_lessons(corpus, corpus.snapshot(SNAPSHOT)).train
    read_mapped(corpus, tmp_path)
    for path in tmp_path.glob("*/mel.npy"):
        if damage == "gone":
            path.unlink()
        elif damage == "cut":
            os.truncate(path, path.stat().st_size // 2)
        else:
            np.save(path, np.zeros((3, 80), np.float32))
    assert_same(read_mapped(corpus, tmp_path).train, first)


def test_one_that_was_killed_half_way_leaves_nothing_that_counts(corpus: CorpusStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(footage_module, "_fill", killed)
        with pytest.raises(KeyboardInterrupt):
            read_mapped(corpus, tmp_path)
    assert_same(read_mapped(corpus, tmp_path).train, read_lessons(corpus, corpus.snapshot(SNAPSHOT)).train)
    assert not list(tmp_path.glob("*.partial"))


def _make(folder: Path, made: Path) -> None:
    def fill(arrays: mapped.Arrays) -> None:
        with made.open("a") as file:
            file.write("made\n")
        time.sleep(0.3)
        arrays["numbers"][:] = 7

    arrays = mapped.mapped_arrays(folder, {"numbers": mapped.ArraySpec((1000,), np.float32)}, fill)
    assert (arrays["numbers"] == 7).all()


def test_of_several_processes_one_makes_the_files(tmp_path: Path) -> None:
    workers = [multiprocessing.get_context("fork").Process(target=_make, args=(tmp_path / "cache" / "a", tmp_path / "made")) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert (tmp_path / "made").read_text() == "made\n"


def test_arrays_that_nobody_opened_for_long_give_way_to_new_ones(tmp_path: Path) -> None:
    def folder(name: str) -> Path:
        mapped.mapped_arrays(tmp_path / name, {"numbers": mapped.ArraySpec((10,), np.float32)}, lambda arrays: None)
        return tmp_path / name

    long_ago = time.time() - mapped.UNUSED_STAYS_S - 60
    forgotten, opened_again, of_others = folder("footage-a"), folder("footage-b"), folder("faces-c")
    for one in (forgotten, opened_again, of_others):
        os.utime(one, (long_ago, long_ago))
    folder("footage-b")
    assert folder("footage-d").exists()
    assert [forgotten.exists(), opened_again.exists(), of_others.exists()] == [False, True, True]


def test_a_disk_that_is_full_is_one_sentence(corpus: CorpusStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StoreError, match="cannot be written: No space left on device"):
        read_mapped(corpus, tmp_path)
    assert not list(tmp_path.glob("*.partial")), "what was begun takes no room"


def test_a_cache_in_a_bucket_is_refused(corpus: CorpusStore) -> None:
    with pytest.raises(StoreError, match="remote"):
        read_lessons(corpus, corpus.snapshot(SNAPSHOT), 0, "s3://bucket/cache")


def test_a_clip_that_is_not_there_is_named(corpus: CorpusStore) -> None:
    frozen = corpus.snapshot(SNAPSHOT)
    lost = frozen.replaced(clips=[frozen.clips[0].replaced(clip_id="ffff-s0t0"), *frozen.clips[1:]])
    with pytest.raises(StoreError, match="no clip ffff-s0t0"):
        read_lessons(corpus, lost)


def test_mel_frames_that_no_window_reaches_are_left_out(corpus: CorpusStore) -> None:
    clip = next(iter(corpus.read_clips([(BATCH, f"{0:016x}-s0t0")])))
    longer = type(clip)(**{**vars(clip), "mel": np.concatenate([clip.mel, np.ones((500, 80), np.float32)])})
    whole, cut = lay_end_to_end([clip]), lay_end_to_end([longer])
    assert cut.mel_frames[0] == int(80 * (30 - 1 - 2) / 25) + 16
    frames = np.arange(27)
    np.testing.assert_array_equal(whole.mel_windows(frames * 0, frames)[:24], cut.mel_windows(frames * 0, frames)[:24])
