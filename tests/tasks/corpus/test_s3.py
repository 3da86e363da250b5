"""The whole path on an S3 protocol server on loopback."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from schemas.errors import StoreError
from schemas.settings import SnapshotSettings
from tasks import places
from tasks.corpus.ingest import ingest_here
from tasks.corpus.plan import plan_batches
from tasks.corpus.snapshot import freeze_snapshot
from tasks.corpus.stats import corpus_stats
from tasks.corpus.store import CorpusStore
from tasks.corpus.verify import verify_store
from tasks.progress import silent
from tests.s3_server import s3_bucket
from tests.tasks.corpus.conftest import settings_for


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_bucket("corpus") as prefix:
        yield prefix


@pytest.fixture(scope="module")
def uploaded(bucket: str, footage: Path) -> str:
    prefix = f"{bucket}/raw footage"
    for name in ("anna/day two/gap.MP4", "anna/one.mp4", "mute.mp4", "text.mp4", "notes.txt", ".hidden.mp4"):
        places.write_bytes(f"{prefix}/{name}", (footage / name).read_bytes())
    return prefix


def objects(store: str) -> dict[str, str]:
    filesystem, path = fsspec.core.url_to_fs(store)
    filesystem.invalidate_cache()
    return {name: str(entry["LastModified"]) + entry["ETag"] for name, entry in filesystem.find(path, detail=True).items()}


def test_bucket_to_bucket(uploaded: str, bucket: str, tmp_path: Path) -> None:
    store = f"{bucket}/store"
    settings = settings_for(Path(), store, sources=(uploaded,), batch_sources=2)
    summary = ingest_here(settings, silent)
    assert (summary.sources, summary.clips, summary.rejects) == (4, 3, {"no-audio": 1, "not-media": 1})
    assert verify_store(store, silent) == []
    details = CorpusStore.open(store).rejects()["detail"].to_pylist()
    assert not any("dubmill-" in detail for detail in details), details

    before = objects(store)
    again = ingest_here(settings, silent)
    assert (again.known, again.batches) == (4, ())
    assert objects(store) == before

    local = ingest_here(settings.replaced(store=str(tmp_path / "local")), silent)
    remote_rows, local_rows = (CorpusStore.open(uri).clips().to_pylist() for uri in (store, str(tmp_path / "local")))
    assert local.batches == summary.batches
    assert remote_rows == local_rows


def test_reading_training_data_out_of_a_bucket(uploaded: str, bucket: str) -> None:
    store_uri = f"{bucket}/read"
    ingest_here(settings_for(Path(), store_uri, sources=(f"{uploaded}/anna",)), silent)
    store = CorpusStore.open(store_uri)
    snapshot = freeze_snapshot(store, SnapshotSettings(name="first", min_frames=5, min_face_px=0))
    clips = list(store.read_clips((clip.batch, clip.clip_id) for clip in snapshot.clips))
    picture = store.face_picture(clips[0].faces_shard, clips[0].faces_offset[1], clips[0].faces_size[1])
    assert picture.shape == (128, 128, 3)
    assert store.snapshot("first") == snapshot
    stats = corpus_stats(store_uri)
    assert (stats.clips, stats.speakers) == (3, {"one": 1, "day two": 2})
    assert stats.bytes > 100_000


def test_single_objects_and_missing_places(uploaded: str, bucket: str) -> None:
    settings = settings_for(Path(), f"{bucket}/planned", sources=(f"{uploaded}/anna/one.mp4",))
    (planned,) = plan_batches(settings).batches
    plan = CorpusStore.open(settings.store).plan(planned.batch)
    assert [(source.uri, source.speaker) for source in plan.sources] == [(f"{uploaded}/anna/one.mp4", "one")]
    assert len(plan.sources[0].version) == 32, "an ETag without its quotes"
    with pytest.raises(StoreError, match="nothing under it"):
        plan_batches(settings.replaced(sources=(f"{bucket}/nowhere",)))
    with pytest.raises(StoreError, match="There is no corpus store at"):
        CorpusStore.open(f"{bucket}/nowhere")


def test_a_store_that_cannot_be_reached_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    fsspec.filesystem("s3").clear_instance_cache()
    try:
        with pytest.raises(StoreError, match="cannot be reached"):
            CorpusStore.open("s3://corpus/store")
    finally:
        fsspec.filesystem("s3").clear_instance_cache()
