"""Garbage: what no snapshot names and what killed runs left behind goes once it is old, and nothing else."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.settings import FormatSettings, SnapshotSettings
from tasks import places
from tasks.corpus import layout
from tasks.corpus.collect import DAY_S, collect_garbage
from tasks.corpus.ingest import ingest_here
from tasks.corpus.snapshot import freeze_snapshot, write_snapshot
from tasks.corpus.store import CorpusStore
from tasks.corpus.verify import verify_store
from tasks.progress import silent
from tests.s3_server import s3_bucket
from tests.tasks.corpus.conftest import settings_for

GRACE_DAYS = 30.0


def age(folder: Path, days: float = 2 * GRACE_DAYS, name: str = "*") -> None:
    for path in folder.rglob(name):
        if path.is_file():
            os.utime(path, (time.time() - days * DAY_S,) * 2)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def files_of(folder: Path, batch: str) -> set[str]:
    return {name for name in files(folder) if batch in name}


@pytest.fixture
def named(store: Path) -> str:
    """The one batch that a snapshot names; all of the store is old."""
    opened = CorpusStore.open(str(store))
    batch = next(name for name in opened.batches() if len(opened.table(layout.CLIPS, name)))
    snapshot = freeze_snapshot(opened, SnapshotSettings(name="first", min_frames=5, min_face_px=0))
    clips = tuple(clip for clip in snapshot.clips if clip.batch == batch)
    assert clips
    write_snapshot(opened, snapshot.model_copy(update={"clips": clips}), opened.left_out("first"))
    age(store)
    return batch


def test_batches_that_no_snapshot_names_go_when_they_are_old(store: Path, named: str) -> None:
    before = CorpusStore.open(str(store)).batches()
    kept = files_of(store, named)
    summary = collect_garbage(str(store), GRACE_DAYS)
    assert summary.batches == tuple(batch for batch in before if batch != named) != ()
    assert CorpusStore.open(str(store)).batches() == [named]
    assert files_of(store, named) == kept
    assert not any(files_of(store, batch) for batch in summary.batches)
    assert summary.freed_bytes > 0 < summary.sources_new_again
    assert verify_store(str(store), silent) == []


def test_young_batches_stay(store: Path, named: str) -> None:
    young = next(batch for batch in CorpusStore.open(str(store)).batches() if batch != named)
    age(store / layout.CLIPS, GRACE_DAYS / 2, f"{young}.parquet")
    assert young not in collect_garbage(str(store), GRACE_DAYS).batches
    assert young in CorpusStore.open(str(store)).batches()


def test_a_dry_run_says_the_same_and_deletes_nothing(store: Path, named: str) -> None:
    before = files(store)
    said = collect_garbage(str(store), GRACE_DAYS, dry_run=True)
    assert files(store) == before
    assert collect_garbage(str(store), GRACE_DAYS).replaced(dry_run=True) == said


def test_a_store_without_snapshots_keeps_its_batches(store: Path) -> None:
    age(store)
    batches = CorpusStore.open(str(store)).batches()
    summary = collect_garbage(str(store), GRACE_DAYS)
    assert (summary.batches, summary.kept_for_lack_of_snapshots) == ((), len(batches))
    assert CorpusStore.open(str(store)).batches() == batches


def test_what_killed_runs_left_goes_when_its_plan_and_its_files_are_old(store: Path, named: str) -> None:
    collect_garbage(str(store), GRACE_DAYS)
    sound = files(store)
    for name in ("plans/dead.json", "faces/dead-000.tar", "audio/dead.parquet", f"faces/{named}-007.tar", f"clips/.{named}.ab12.partial.parquet"):
        shutil.copy(store / "settings.json", store / name)
    age(store)
    shutil.copy(store / "settings.json", store / "plans" / "fresh.json")
    shutil.copy(store / "settings.json", store / "faces" / "fresh-000.tar")
    age(store / "plans", name="fresh.json")
    summary = collect_garbage(str(store), GRACE_DAYS)
    assert summary.leftovers == ("dead",)
    assert len(summary.stray_files) == 2
    assert files(store) == sound | {"plans/fresh.json", "faces/fresh-000.tar"}


def test_a_kill_at_any_moment_leaves_a_sound_store_and_the_next_run_finishes(store: Path, named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wanted, before = None, CorpusStore.open(str(store)).batches()
    for removals in range(100):
        copy = Path(shutil.copytree(store, tmp_path / f"copy{removals}"))
        monkeypatch.setattr(places, "remove", killed_after(removals, places.remove))
        try:
            collect_garbage(str(copy), GRACE_DAYS)
            break
        except KeyboardInterrupt:
            monkeypatch.undo()
        left = CorpusStore.open(str(copy)).batches()
        assert [fault for fault in verify_store(str(copy), silent) if any(batch in fault for batch in left)] == []
        age(copy)
        collect_garbage(str(copy), GRACE_DAYS)
        wanted = wanted or files(copy)
        assert files(copy) == wanted
    assert removals > len(before)


def killed_after(removals: int, remove: Callable[[str], None]) -> Callable[[str], None]:
    left = iter([True] * removals)

    def remove_or_die(location: str) -> None:
        if not next(left, False):
            raise KeyboardInterrupt
        remove(location)

    return remove_or_die


def test_sources_of_deleted_batches_are_new_again(footage: Path, store: Path, named: str) -> None:
    gone = collect_garbage(str(store), GRACE_DAYS)
    summary = ingest_here(settings_for(footage, store), silent)
    assert summary.sources - summary.known == gone.sources_new_again
    assert verify_store(str(store), silent) == []


def test_an_object_store_tells_ages_too(store: Path, named: str) -> None:
    with s3_bucket("garbage") as bucket:
        for name in files(store):
            places.put(store / name, places.join(bucket, name))
        assert collect_garbage(bucket, GRACE_DAYS).batches == ()
        time.sleep(1.1)  # S3's times are whole seconds
        summary = collect_garbage(bucket, 0.0)
        assert summary.batches
        assert CorpusStore(bucket, FormatSettings()).batches() == [named]
        assert verify_store(bucket, silent) == []


def test_a_leftover_that_is_finished_since_it_was_listed_stays(store: Path, named: str) -> None:
    clips = store / layout.CLIPS / f"{named}.parquet"
    content = clips.read_bytes()
    clips.unlink()

    def finish(*arguments: object) -> None:
        clips.write_bytes(content)

    assert collect_garbage(str(store), GRACE_DAYS, progress=finish).leftovers == (named,)
    assert named in CorpusStore.open(str(store)).batches()
    assert [fault for fault in verify_store(str(store), silent) if named in fault] == []
