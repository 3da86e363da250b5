"""The job that keeps a store in order: garbage goes, batches are read back over a local Ray, and faults end it after all was looked at."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_jobs import maintain_store
from ray_jobs.cluster import connect
from schemas.errors import StoreError
from schemas.jobs import CollectedCounts, VerifiedCounts
from schemas.settings import IngestSettings, MaintainSettings, SnapshotSettings
from tasks.corpus.collect import DAY_S
from tasks.corpus.ingest import ingest_here
from tasks.corpus.snapshot import freeze_snapshot
from tasks.corpus.store import CorpusStore
from tasks.progress import silent
from tests.footage import make_talking_clip

VERIFY = ("verify",)


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    """One Ray for all: starting it takes longer than the tests."""
    with connect():
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of one batch, made as it is made in earnest, which its snapshot names."""
    folder = tmp_path_factory.mktemp("made")
    make_talking_clip(folder / "footage" / "anna" / "one.mp4", seconds=1.2)
    ingest_here(IngestSettings(sources=(str(folder / "footage"),), store=str(folder / "corpus")), silent)
    freeze_snapshot(CorpusStore.open(str(folder / "corpus")), SnapshotSettings(name="first", min_frames=5, min_face_px=0))
    return folder / "corpus"


@pytest.fixture
def store(made: Path, tmp_path: Path) -> CorpusStore:
    """A copy of it with two leftovers: one old, one young."""
    store = CorpusStore.open(str(shutil.copytree(made, tmp_path / "corpus")))
    for name, days in (("old", 60), ("young", 1)):
        leftover = tmp_path / "corpus" / "faces" / f"{name}-000.tar"
        leftover.write_bytes(b"cut off")
        os.utime(leftover, (time.time() - days * DAY_S,) * 2)
    return store


def damage(store: CorpusStore, folder: str) -> None:
    path = next((Path(store.uri) / folder).iterdir())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def test_garbage_goes_and_what_is_left_is_read_back(store: CorpusStore) -> None:
    summary = maintain_store.run(MaintainSettings(store=store.uri), silent)
    assert summary.gc == CollectedCounts(
        dry_run=False, batches=0, clips=0, sources_new_again=0, leftovers=1, stray_files=0, freed_bytes=7, kept_for_lack_of_snapshots=0
    )
    assert summary.verify == VerifiedCounts(batches=1, of_batches=1, unfinished=0)
    assert sorted(path.stem for path in (Path(store.uri) / "faces").glob("*-000.tar") if path.stat().st_size == 7) == ["young-000"]


def test_a_dry_run_counts_and_deletes_nothing(store: CorpusStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    before = sorted(Path(store.uri).rglob("*"))
    summary = maintain_store.run(MaintainSettings(store=store.uri, steps=("gc",), dry_run=True), silent)
    assert summary.gc is not None
    assert (summary.gc.leftovers, summary.verify) == (1, None)
    assert sorted(Path(store.uri).rglob("*")) == before
    assert "Would delete leftover old" in caplog.text


def test_faults_are_counted_once_all_was_looked_at_and_each_is_in_the_log(store: CorpusStore, caplog: pytest.LogCaptureFixture) -> None:
    for folder in ("audio", "landmarks"):
        damage(store, folder)
    with pytest.raises(StoreError, match=r"corpus has 2 faults, the first of them: Batch .*audio.* can be ingested again into a new store\.$"):
        maintain_store.run(MaintainSettings(store=store.uri, steps=VERIFY), silent)
    assert [f"Its table {folder}" in caplog.text for folder in ("audio", "landmarks")] == [True, True]


def test_a_store_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no corpus store"):
        maintain_store.run(MaintainSettings(store=str(tmp_path), steps=VERIFY), silent)


def test_a_sample_is_drawn_by_the_day_and_meets_every_batch_in_time() -> None:
    batches = [f"batch {number}" for number in range(20)]
    drawn = [maintain_store.sample(batches, 5, day) for day in range(60)]
    assert {len(day) for day in drawn} == {5}
    assert maintain_store.sample(batches, 5, 0) == drawn[0] != drawn[1]
    assert set().union(*drawn) == set(batches)
    assert maintain_store.sample(batches, None, 0) == maintain_store.sample(batches, 20, 0) == set(batches)
