"""The whole path on an S3 server that throttles, answers late, drops connections and loses answers: the same store comes of it."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import StoreError
from tasks import places
from tasks.corpus import layout
from tasks.corpus.ingest import ingest_here
from tasks.corpus.store import CorpusStore
from tasks.corpus.verify import verify_store
from tasks.progress import silent
from tests.footage import make_talking_clip
from tests.s3_server import Request, s3_bucket, troubled_s3
from tests.tasks.corpus.conftest import settings_for


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_bucket("troubled") as prefix:
        yield prefix


@pytest.fixture(scope="module")
def origin(bucket: str) -> str:
    return os.environ["AWS_ENDPOINT_URL"]


@pytest.fixture(scope="module")
def uploaded(bucket: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("clips")
    for seed in (0, 1):
        clip = make_talking_clip(folder / f"{seed}.mp4", seconds=0.6, seed=seed)
        places.write_bytes(f"{bucket}/raw/{seed}.mp4", clip.read_bytes())
    places.write_bytes(f"{bucket}/raw/text.mp4", b"no video")
    return f"{bucket}/raw"


def arrays(store: CorpusStore) -> list[tuple[object, ...]]:
    """All that a store holds of its clips, read as a trainer does."""
    rows = store.clips().to_pylist()
    found = []
    for clip in store.read_clips((row["batch"], row["clip_id"]) for row in rows):
        pictures = [store.face_picture_bytes(clip.faces_shard, offset, size) for offset, size in zip(clip.faces_offset, clip.faces_size, strict=True)]
        found.append((clip.clip_id, clip.mel.tobytes(), clip.pose.tobytes(), clip.content.tobytes(), pictures))
    return [rows, store.rejects().to_pylist(), *found]


def now_and_then(request: Request) -> str:
    """Each kind of trouble, spread over what is asked; what is repeated meets with no trouble of its own kind."""
    if request.method == "PUT":
        return {1: "throttle", 4: "lose", 6: "slow", 9: "throttle"}.get(request.number, "")
    if request.method == "HEAD":
        return {2: "throttle"}.get(request.number, "")
    return {0: "throttle", 3: "cut", 5: "slow", 8: "cut", 9: "cut", 12: "throttle", 15: "lose", 20: "cut"}.get(request.number, "")


def test_troubles_change_nothing_of_the_store(uploaded: str, origin: str, bucket: str, tmp_path: Path) -> None:
    settings = settings_for(Path(), tmp_path / "quiet", sources=(uploaded,), batch_sources=4)
    quiet = ingest_here(settings, silent)
    with troubled_s3(origin, now_and_then) as seen:
        troubled = ingest_here(settings.replaced(store=f"{bucket}/troubled"), silent)
        store = CorpusStore.open(f"{bucket}/troubled")
        assert verify_store(store.uri, silent) == []
        assert arrays(store) == arrays(CorpusStore.open(str(tmp_path / "quiet")))
    assert troubled.model_dump(exclude={"store"}) == quiet.model_dump(exclude={"store"})
    assert all(seen.troubles[kind] for kind in ("throttle", "cut", "slow", "lose")), seen.troubles


def test_a_batch_is_few_requests(uploaded: str, origin: str, bucket: str) -> None:
    store = f"{bucket}/few"
    with troubled_s3(origin, lambda request: "") as seen:
        ingest_here(settings_for(Path(), store, sources=(uploaded,), batch_sources=4), silent)
    written = [places.name_of(request.path.partition("?")[0]) for request in seen.requests if request.method == "PUT"]
    (batch,) = CorpusStore.open(store).batches()
    assert sorted(written) == sorted(["settings.json", f"{batch}.json", layout.shard_name(batch, 0), *[f"{batch}.parquet"] * 4])
    assert written[-1] == f"{batch}.parquet"
    assert len(seen.requests) < 90, [f"{request.method} {request.path}" for request in seen.requests]


def test_a_clip_is_read_by_ranges_and_not_with_its_batch(bucket: str, origin: str) -> None:
    location, content = f"{bucket}/large.bin", np.random.default_rng(0).bytes(8 * places.READ_AHEAD_BYTES)
    places.write_bytes(location, content)
    with troubled_s3(origin, lambda request: "") as seen, places.open_to_read(location) as file:
        file.seek(3_000_000)
        assert file.read(1000) == content[3_000_000:3_001_000]
    assert seen.count("GET") == 1


@pytest.mark.parametrize("kind", ["cut", "lose"])
def test_a_download_is_whole_or_an_error(bucket: str, origin: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "PIECE_BYTES", 1000)
    content = np.random.default_rng(0).bytes(3500)
    places.write_bytes(f"{bucket}/clip.bin", content)

    def twice(request: Request) -> str:
        return kind if request.method == "GET" and request.number in (1, 2) else ""

    with troubled_s3(origin, twice) as seen, places.local_copy(f"{bucket}/clip.bin") as path:
        assert path.read_bytes() == content
    assert seen.count("GET") == 4 + 2


def test_what_never_ends_well_is_an_error_and_no_short_file(bucket: str, origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "PAUSES_S", (0.01,))
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    places.write_bytes(f"{bucket}/clip.bin", bytes(5000))
    with (
        troubled_s3(origin, lambda request: "cut" if request.method == "GET" else "") as seen,
        pytest.raises((OSError, StoreError)),
        places.local_copy(f"{bucket}/clip.bin"),
    ):
        pytest.fail("there is no whole copy")
    assert 2 <= seen.count("GET") <= 10


def test_an_answer_that_is_lost_does_not_hide_who_wrote(bucket: str, origin: str) -> None:
    def lose_first(request: Request) -> str:
        return "lose" if request.method == "PUT" and request.number == 0 else ""

    with troubled_s3(origin, lose_first) as seen:
        assert places.write_once(f"{bucket}/once", b"mine")
        assert seen.count("PUT") == 2
        assert not places.write_once(f"{bucket}/once", b"another's")
    assert places.read_bytes(f"{bucket}/once") == b"mine"


def test_a_wrong_secret_is_one_sentence_at_once(uploaded: str, bucket: str, origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2-and-more")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA-OF-SOMEBODY")
    settings = settings_for(Path(), f"{bucket}/refused", sources=(uploaded,))
    started_s = time.monotonic()
    with troubled_s3(origin, lambda request: "refuse") as seen:
        for work in (lambda: ingest_here(settings, silent), lambda: CorpusStore.open(settings.store), lambda: places.write_once(f"{bucket}/x", b"")):
            with pytest.raises(StoreError, match="the object store refuses the credentials; check") as refusal:
                work()
            assert not any(secret in str(refusal.value) for secret in ("hunter2", "AKIA", "\n", ". "))
    assert time.monotonic() - started_s < 20
    assert len(seen.requests) < 20
