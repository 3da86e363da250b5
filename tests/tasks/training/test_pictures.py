import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import StoreError
from tasks import places
from tasks.corpus import layout
from tasks.corpus.store import CorpusStore
from tasks.training import picture_cache
from tasks.training.footage import Footage, read_lessons
from tasks.training.picture_cache import SUFFIX, choose_kept
from tasks.training.pictures import FacePictures, Reads
from tasks.training.samples import RendererSamples
from tests.s3_server import Request, s3_bucket, troubled_s3
from tests.training_corpus import SNAPSHOT

ROWS = [(0, 3), (1, 35), (2, 71), (0, 3), (1, 69), (2, 70), (0, 29)]
"""(clip, row) as they may be asked for."""


def footage_of(corpus: CorpusStore) -> Footage:
    return read_lessons(corpus, corpus.snapshot(SNAPSHOT)).train


def clip_mb(footage: Footage, clips: int) -> float:
    """Room for so many of the clips that are kept first, in megabytes."""
    names = [picture_cache._digest(f"{batch}/{clip}") for batch, clip in zip(footage.batches, footage.clip_ids, strict=True)]
    return float(picture_cache.clip_ranges(footage)[1][np.argsort(names)][:clips].sum() / 10**6)


def assert_read(pictures: FacePictures, corpus: CorpusStore, footage: Footage) -> None:
    for clip, row in ROWS:
        real = corpus.face_picture(footage.shards[clip], footage.picture_offset[row], footage.picture_size[row])
        np.testing.assert_array_equal(pictures.read(clip, row), real)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_pictures_of_this_machine_are_read_where_they_are(corpus: CorpusStore, tmp_path: Path) -> None:
    footage = footage_of(corpus)
    pictures = FacePictures(corpus, footage, str(tmp_path))
    assert_read(pictures, corpus, footage)
    assert pictures.reads == Reads(cached=0, direct=len(ROWS), fetched_clips=0)
    assert not list(tmp_path.iterdir())


def test_few_files_are_open_however_many_shards_there_are(corpus: CorpusStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.training.pictures.OPEN_FILES", 2)
    shutil.copytree(corpus.uri, tmp_path / "store")
    shard = tmp_path / "store" / layout.FACES / footage_of(corpus).shards[0]
    for number in range(3):
        shutil.copy(shard, shard.with_name(f"{number}.tar"))
    footage = Footage(**{**vars(footage_of(corpus)), "shards": tuple(f"{number}.tar" for number in range(3))})
    before = open_files()
    pictures = FacePictures(CorpusStore.open(str(tmp_path / "store")), footage)
    assert_read(pictures, CorpusStore.open(str(tmp_path / "store")), footage)
    assert open_files() <= before + 2
    del pictures
    assert open_files() == before


def test_a_damaged_shard_is_one_sentence(corpus: CorpusStore, tmp_path: Path) -> None:
    shutil.copytree(corpus.uri, tmp_path / "store")
    store = CorpusStore.open(str(tmp_path / "store"))
    footage = footage_of(store)
    shard = tmp_path / "store" / layout.FACES / footage.shards[0]
    content = bytearray(shard.read_bytes())
    content[:200] = bytes(200)
    shard.write_bytes(content[: footage.picture_offset[5]])
    pictures = FacePictures(store, footage)
    with pytest.raises(StoreError, match="is damaged"):
        pictures.read(0, 0)
    with pytest.raises(StoreError, match="ends before"):
        pictures.read(0, 9)
    shard.unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        FacePictures(store, footage).read(0, 0)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_bucket("faces") as prefix:
        yield prefix


@pytest.fixture(scope="module")
def remote(corpus: CorpusStore, bucket: str) -> CorpusStore:
    for path in sorted(Path(corpus.uri).rglob("*")):
        if path.is_file():
            places.put(path, f"{bucket}/store/{path.relative_to(corpus.uri)}")
    return CorpusStore.open(f"{bucket}/store")


def test_of_a_bucket_a_fixed_part_is_kept_and_the_rest_is_read_by_ranges(remote: CorpusStore, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    footage = footage_of(remote)
    with caplog.at_level(logging.INFO):
        pictures = FacePictures(remote, footage, str(tmp_path), cache_mb=clip_mb(footage, 2))
    assert "Pictures of 2 of 3 clips" in caplog.text
    for _ in range(3):
        assert_read(pictures, remote, footage)
    kept = {clip for clip in range(3) if pictures._cache._kept[clip]}
    asked = sum(clip in kept for clip, _ in ROWS)
    assert pictures.reads == Reads(cached=3 * asked, direct=3 * (len(ROWS) - asked), fetched_clips=2)
    assert sum(path.stat().st_size for path in tmp_path.rglob(f"*{SUFFIX}")) <= clip_mb(footage, 2) * 10**6 + 2 * 4


def test_a_clip_is_one_request_and_another_run_makes_none(remote: CorpusStore, bucket: str, tmp_path: Path) -> None:
    footage = footage_of(remote)
    gets: list[str] = []

    def seen(request: Request) -> str:
        gets.append(request.path) if request.method == "GET" and "/faces/" in request.path else None
        return ""

    with troubled_s3(os.environ["AWS_ENDPOINT_URL"], seen):
        first = FacePictures(remote, footage, str(tmp_path))
        for clip, row in ROWS:
            first.read(clip, row)
        assert len(gets) == first.reads.fetched_clips == 3
        again = FacePictures(remote, footage, str(tmp_path))
        for clip, row in ROWS:
            again.read(clip, row)
        assert len(gets) == 3
    assert again.reads == Reads(cached=len(ROWS), direct=0, fetched_clips=0)


@pytest.mark.parametrize("damage", ["cut", "other", "gone"])
@pytest.mark.parametrize("when", ["before the run", "during it"])
def test_damaged_files_of_the_cache_are_fetched_again(remote: CorpusStore, tmp_path: Path, damage: str, when: str) -> None:
    footage = footage_of(remote)
    pictures = FacePictures(remote, footage, str(tmp_path))
    assert_read(pictures, remote, footage)
    for path in tmp_path.rglob(f"*{SUFFIX}"):
        if damage == "gone":
            path.unlink()
        elif damage == "cut":
            os.truncate(path, 100)
        else:
            path.write_bytes(bytes(path.stat().st_size))
    if when == "before the run":
        pictures = FacePictures(remote, footage, str(tmp_path))
    assert_read(pictures, remote, footage)
    assert_read(pictures, remote, footage)
    if when == "before the run":
        assert pictures.reads == Reads(cached=2 * len(ROWS), direct=0, fetched_clips=3), "what is wrong is seen before it is used"
    if damage != "gone" or when == "before the run":  # a file that is open can still be read when its name is gone
        assert all(path.stat().st_size > 100 for path in tmp_path.rglob(f"*{SUFFIX}"))
        assert len(list(tmp_path.rglob(f"*{SUFFIX}"))) == 3


def test_threads_and_workers_share_the_folder(remote: CorpusStore, tmp_path: Path) -> None:
    footage = footage_of(remote)
    workers = [FacePictures(remote, footage, str(tmp_path)) for _ in range(3)]
    real = {row: remote.face_picture(footage.shards[clip], footage.picture_offset[row], footage.picture_size[row]) for clip, row in ROWS}
    with ThreadPoolExecutor(12) as threads:
        asked = [(worker, clip, row) for clip, row in ROWS * 4 for worker in workers]
        for (_, _, row), picture in zip(asked, threads.map(lambda one: one[0].read(*one[1:]), asked), strict=True):
            np.testing.assert_array_equal(picture, real[row])
    assert all(worker.reads.fetched_clips <= 3 for worker in workers), "no clip is fetched twice by one worker"
    assert len(list(tmp_path.rglob("*.*"))) == 3, "nothing half-made is left"


def test_a_folder_that_is_full_does_not_end_a_run(
    remote: CorpusStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    footage = footage_of(remote)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    pictures = FacePictures(remote, footage, str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert_read(pictures, remote, footage)
    assert pictures.reads.cached == 0
    assert caplog.text.count("no longer kept") == 1


def test_what_nobody_reads_any_more_makes_room(remote: CorpusStore, tmp_path: Path) -> None:
    footage = footage_of(remote)
    FacePictures(remote, footage, str(tmp_path)).read(0, 0)
    folder = next(tmp_path.iterdir())
    old, young = folder / f"old{SUFFIX}", folder / f"young{SUFFIX}"
    for path in (old, young):
        path.write_bytes(bytes(10**6))
    week_ago = time.time() - 7 * 86400
    os.utime(old, (week_ago, week_ago))
    FacePictures(remote, footage, str(tmp_path), cache_mb=20)
    assert old.exists(), "there is room enough"
    FacePictures(remote, footage, str(tmp_path), cache_mb=1)
    assert not old.exists()
    assert young.exists(), "another run may read it"


def test_what_another_worker_takes_away_meanwhile_is_no_error(remote: CorpusStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    footage = footage_of(remote)
    FacePictures(remote, footage, str(tmp_path)).read(0, 3)
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: [*listed(folder), folder / f"0{SUFFIX}", folder / "1.7-7.partial"])
    pictures = FacePictures(remote, footage, str(tmp_path))
    pictures.read(0, 3)
    assert pictures.reads == Reads(cached=1, direct=0, fetched_clips=0)


def test_which_clips_are_kept_does_not_depend_on_their_order() -> None:
    names, lengths = [f"{number * 7919 % 1000:03}" for number in range(50)], np.arange(1, 51)
    kept = choose_kept(names, lengths, 400)
    order = np.random.default_rng(0).permutation(50)
    np.testing.assert_array_equal(choose_kept([names[clip] for clip in order], lengths[order], 400), kept[order])
    assert 300 < lengths[kept].sum() <= 400
    more = choose_kept(names, lengths, 600)
    assert (more | ~kept).all(), "with more room the same stay"


def test_batches_of_a_bucket_are_those_of_a_folder(corpus: CorpusStore, remote: CorpusStore, tmp_path: Path) -> None:
    stores = ((corpus, footage_of(corpus)), (remote, footage_of(remote)))
    one, other = (RendererSamples(footage, 3, 128, FacePictures(store, footage, str(tmp_path))).batch(0, 0, 4) for store, footage in stores)
    assert all((ours == theirs).all() for ours, theirs in zip(one, other, strict=True))


def test_without_room_nothing_is_kept(remote: CorpusStore, tmp_path: Path) -> None:
    footage = footage_of(remote)
    pictures = FacePictures(remote, footage, str(tmp_path), cache_mb=0)
    assert_read(pictures, remote, footage)
    assert pictures.reads.direct == len(ROWS)
    assert not list(tmp_path.iterdir())
    assert threading.active_count() < 100
