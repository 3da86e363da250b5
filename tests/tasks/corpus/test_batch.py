import errno
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.contextvars import get_contextvars

from schemas.errors import StoreError
from schemas.jobs import BatchPlan
from schemas.reasons import Reason
from schemas.settings import IngestSettings
from tasks import places
from tasks.corpus import batch as batches
from tasks.corpus import layout
from tasks.corpus.batch import cut_by, publish_batch, write_batch
from tasks.corpus.clip import Clip, Reject
from tasks.corpus.plan import plan_batches
from tasks.corpus.store import CorpusStore
from tasks.corpus.verify import verify_store
from tasks.faces.detect import FaceFinder
from tasks.progress import silent
from tests.s3_server import s3_bucket
from tests.tasks.corpus.conftest import settings_for


@pytest.fixture
def settings(footage: Path, tmp_path: Path) -> IngestSettings:
    return settings_for(footage, tmp_path / "store", sources=(str(footage / "bert.mp4"), str(footage / "text.mp4")))


@pytest.fixture
def planned(settings: IngestSettings) -> BatchPlan:
    (planned,) = plan_batches(settings).batches
    return CorpusStore.open(settings.store).plan(planned.batch)


def files(store: str) -> dict[str, bytes]:
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in Path(store).rglob("*") if path.is_file()}


def full_disk(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_batch_is_given_by_its_name_or_its_plan(settings: IngestSettings, planned: BatchPlan, tmp_path: Path) -> None:
    by_name = write_batch(settings, planned.batch)
    other = settings.replaced(store=str(tmp_path / "other"))
    CorpusStore.create_or_open(other.store, other.format)
    assert write_batch(other, planned) == by_name
    assert files(other.store) == files(settings.store)
    assert not write_batch(settings, planned.batch).written


def test_pictures_have_their_checksums(settings: IngestSettings, planned: BatchPlan) -> None:
    write_batch(settings, planned.batch)
    store = CorpusStore.open(settings.store)
    (row,) = store.clips().to_pylist()
    ranges = zip(row["faces_offset"], row["faces_size"], strict=True)
    assert row["faces_crc32"] == [zlib.crc32(store.face_picture_bytes(row["faces_shard"], *where)) for where in ranges]


def test_a_batch_is_cut_as_its_plan_says(settings: IngestSettings, planned: BatchPlan) -> None:
    asked = settings.replaced(max_faces=2, speaker="all")
    assert cut_by(asked, planned.cutting).cutting == planned.cutting == settings.cutting
    without_cuts = planned.cutting.model_copy(update={"scene_threshold": None})
    assert cut_by(settings, without_cuts).scene_threshold is None


def test_a_guard_is_over_what_may_hang_and_not_over_measuring(settings: IngestSettings, planned: BatchPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    held = [0]

    @contextmanager
    def guard() -> Iterator[None]:
        held[0] += 1
        yield
        held[0] -= 1

    seen: dict[str, set[int]] = {"find": set(), "clip_row": set()}
    find, clip_row = FaceFinder.find, batches.clip_row
    monkeypatch.setattr(FaceFinder, "find", lambda self, *a: seen["find"].add(held[0]) or find(self, *a))
    monkeypatch.setattr(batches, "clip_row", lambda *a, **k: seen["clip_row"].add(held[0]) or clip_row(*a, **k))
    write_batch(settings, planned.batch, guard=guard)
    assert seen == {"find": {1}, "clip_row": {0}}


def test_a_clip_that_cannot_be_measured_is_turned_away_alone(footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_for(footage / "anna", tmp_path / "store", batch_sources=4)
    (planned,) = plan_batches(settings).batches
    measured: list[str] = []

    def clip_row(clip: Clip, *arguments: object) -> dict[str, object]:
        measured.append(clip.clip_id)
        if len(measured) == 1:
            raise RuntimeError("a fault of ours")
        return row_of(clip, *arguments)

    row_of = batches.clip_row
    monkeypatch.setattr(batches, "clip_row", clip_row)
    counts = write_batch(settings, planned.batch)
    assert (counts.clips, counts.rejects) == (len(measured) - 1, {"internal": 1})
    assert verify_store(settings.store, silent) == []


def test_log_lines_name_batch_source_and_clip(footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_for(footage / "anna", tmp_path / "store", batch_sources=4)
    (planned,) = plan_batches(settings).batches
    seen: list[dict[str, object]] = []

    def clip_row(clip: Clip, *arguments: object) -> dict[str, object]:
        seen.append(get_contextvars() | {"of": clip.source.uri, "is": clip.clip_id})
        return row_of(clip, *arguments)

    row_of = batches.clip_row
    monkeypatch.setattr(batches, "clip_row", clip_row)
    write_batch(settings, planned.batch)
    assert seen
    assert {(ids["batch"], ids["source"] == ids["of"], ids["clip_id"] == ids["is"]) for ids in seen} == {(planned.batch, True, True)}
    assert get_contextvars() == {}


def test_a_source_that_is_turned_away_has_a_line(footage: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = settings_for(footage / "text.mp4", tmp_path / "store")
    (planned,) = plan_batches(settings).batches
    with caplog.at_level("INFO"):
        write_batch(settings, planned.batch)
    assert "Turned away at probe: not-media" in caplog.text


def test_one_finder_serves_many_batches(footage: Path, tmp_path: Path) -> None:
    settings = settings_for(footage / "anna", tmp_path / "one by one", batch_sources=1)
    together = settings.replaced(store=str(tmp_path / "together"))
    with FaceFinder(settings.cutting, clips_a_mesh=1) as finder:
        for planned in plan_batches(together).batches:
            write_batch(together, planned.batch, finder=finder)
    for planned in plan_batches(settings).batches:
        write_batch(settings, planned.batch)
    assert files(together.store) == files(settings.store)


def test_sources_that_kill_are_not_touched(settings: IngestSettings, planned: BatchPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "cut_source", lambda *arguments: pytest.fail("touched"))
    deadly, stuck = [source.uri for source in planned.sources]
    guarded: list[int] = []

    @contextmanager
    def guard() -> Iterator[None]:
        guarded.append(1)
        yield

    write_batch(settings, planned.batch, lost=frozenset({deadly, stuck}), hung=frozenset({stuck}), guard=guard)
    rows = CorpusStore.open(settings.store).rejects().to_pylist()
    assert [(row["source"], row["reason"]) for row in rows] == [(deadly, "worker-lost"), (stuck, "time-limit")]
    assert guarded == []


def test_the_progress_tells_each_source_and_the_end(settings: IngestSettings, planned: BatchPlan) -> None:
    told: list[tuple[int, int | None]] = []
    write_batch(settings, planned.batch, lambda done, total=None, note="": told.append((done, total)))
    assert told == [(0, 2), (1, 2), (2, 2)]


def test_a_full_folder_of_temporary_files_is_one_sentence(settings: IngestSettings, planned: BatchPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(settings.store)
    monkeypatch.setattr(batches.ShardWriter, "write", full_disk)
    with pytest.raises(StoreError, match=r"^[^ ]+ cannot be written: No space left on device\.$"):
        write_batch(settings, planned.batch)
    assert files(settings.store) == before


@pytest.mark.parametrize(("detail", "free_bytes"), [("[Errno 28] No space left on device", 10**9), ("The connection broke off.", 1_000_000)])
def test_a_full_disk_is_no_source_s_fault(settings: IngestSettings, planned: BatchPlan, monkeypatch: pytest.MonkeyPatch, detail: str, free_bytes: int) -> None:
    refused = Reject(planned.sources[0].uri, None, "decode", Reason.UNREADABLE, detail)
    monkeypatch.setattr(batches, "cut_source", lambda *arguments: iter([refused]))
    monkeypatch.setattr(batches.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free_bytes))
    with pytest.raises(StoreError, match="is full; free some space"):
        write_batch(settings, planned.batch)
    assert not places.exists(layout.table_location(settings.store, layout.CLIPS, planned.batch))


def test_a_store_whose_disk_fills_up_gets_no_part_of_a_batch(settings: IngestSettings, planned: BatchPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    before, copied = files(settings.store), []

    def fills_up(origin: Path, target: Path) -> None:
        if len(copied) == 2:
            full_disk()
        copied.append(target)
        Path(target).write_bytes(Path(origin).read_bytes())

    monkeypatch.setattr(batches.shutil, "copyfile", fills_up)
    with pytest.raises(StoreError, match=r"cannot be written: No space left on device\.$"):
        write_batch(settings, planned.batch)
    assert files(settings.store) == before
    monkeypatch.undo()
    assert write_batch(settings, planned.batch).written
    assert verify_store(settings.store, silent) == []


def test_the_loser_of_a_race_leaves_the_batch_as_it_is(settings: IngestSettings, planned: BatchPlan, tmp_path: Path) -> None:
    write_batch(settings, planned.batch)
    before = files(settings.store)
    made = shutil.copytree(settings.store, tmp_path / "made")
    for path in (made / "landmarks").iterdir():
        path.write_bytes(b"another outcome")
    assert not publish_batch(str(made), settings.store, planned.batch)
    assert files(settings.store) == before


def test_shards_that_a_killed_run_left_are_removed(settings: IngestSettings, planned: BatchPlan) -> None:
    faces = Path(settings.store) / layout.FACES
    faces.mkdir()
    others = [layout.shard_name(planned.batch, number) for number in range(3)] + [layout.shard_name("ffff", 1)]
    for name in others:
        (faces / name).write_bytes(b"left")
    write_batch(settings, planned.batch)
    assert sorted(path.name for path in faces.iterdir()) == sorted([others[0], others[-1]])
    assert verify_store(settings.store, silent) == []


def test_a_run_that_is_overtaken_while_it_uploads_leaves_the_batch_as_it_is(footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slower one met a fault, so that its shard is another one."""
    writers = {"put": places.put, "write_once": places.write_once}
    with s3_bucket("overtaken") as bucket:
        settings = settings_for(footage, bucket, sources=(str(footage / "bert.mp4"), str(footage / "anna" / "day two")))
        (planned,) = plan_batches(settings).batches

        def overtaken(writer: str, *arguments: object) -> object:
            for name, write in writers.items():
                monkeypatch.setattr(places, name, write)
            assert write_batch(settings, planned.batch).written
            return writers[writer](*arguments)

        for name in writers:
            monkeypatch.setattr(places, name, partial(overtaken, name))
        lost = frozenset({str((footage / "bert.mp4").resolve())})
        assert not write_batch(settings, planned.batch, lost=lost).written
        assert verify_store(bucket, silent) == []


def test_shards_of_whoever_finished_it_are_not_removed_by_the_loser(settings: IngestSettings, planned: BatchPlan, tmp_path: Path) -> None:
    """It has fewer of them, and learns at its last step that another one was faster."""
    write_batch(settings, planned.batch)
    made = Path(shutil.copytree(settings.store, tmp_path / "made"))
    later = Path(settings.store) / layout.FACES / layout.shard_name(planned.batch, 1)
    later.write_bytes(b"the winner's")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "_is_finished", lambda *arguments: False)
        assert not publish_batch(str(made), settings.store, planned.batch)
    assert later.exists()
