"""Which sources are new, how they become batches, and what a second run finds. The tables hold only what planning reads."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.errors import SettingsError, StoreError
from schemas.jobs import BatchPlan, PlannedSource
from schemas.reasons import Reason
from schemas.settings import CropSettings, CuttingSettings, FormatSettings, IngestSettings
from tasks import places
from tasks.corpus import known, layout
from tasks.corpus import plan as planning
from tasks.corpus.known import add_forgotten, source_digest
from tasks.corpus.plan import IngestPlan, PlannedBatch, plan_batch, plan_batches
from tasks.corpus.stats import corpus_stats
from tasks.corpus.store import CorpusStore
from tasks.report.corpus import corpus_facts
from tests.s3_server import s3_bucket
from tests.tasks.corpus.conftest import finish_batch

SHORT = ("abc-s0t0", Reason.TOO_SHORT)
"""A clip of a source, turned away for good."""
SOURCE = PlannedSource(uri="/footage/anna/a.mp4", size=10, version="1", speaker="anna")


@pytest.fixture
def settings(tmp_path: Path) -> IngestSettings:
    (tmp_path / "footage").mkdir()
    (tmp_path / "footage" / "a.mp4").write_bytes(b"a")
    return IngestSettings(sources=(str(tmp_path / "footage"),), store=str(tmp_path / "store"))


def add(settings: IngestSettings, *names: str, size: int = 1) -> None:
    """Puts files beside the first one."""
    for name in names:
        path = Path(settings.sources[0]) / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(size))


def read(settings: IngestSettings, batch: PlannedBatch) -> BatchPlan:
    return batch.retry or CorpusStore.open(settings.store).plan(batch.batch)


def finish(settings: IngestSettings, batch: PlannedBatch, *rejects: tuple[str | None, Reason]) -> None:
    finish_batch(settings.store, read(settings, batch), *rejects)


def finish_all(settings: IngestSettings, plan: IngestPlan) -> None:
    for batch in plan.batches:
        finish(settings, batch)


def names(settings: IngestSettings, plan: IngestPlan) -> list[list[str]]:
    """File names of the planned sources, batch by batch."""
    return [[Path(source.uri).name for source in read(settings, batch).sources] for batch in plan.batches]


def test_plans_are_in_the_store_before_any_work(settings: IngestSettings) -> None:
    add(settings, "b.mp4", "c.mp4")
    plan = plan_batches(settings.replaced(batch_sources=2, detector="both"))
    assert names(settings, plan) == [["a.mp4", "b.mp4"], ["c.mp4"]]
    assert (plan.sources, plan.known, [batch.sources for batch in plan.batches]) == (3, 0, [2, 1])
    assert [batch.to_write for batch in plan.batches] == [batch.batch for batch in plan.batches]
    written = CorpusStore.open(settings.store).plan(plan.batches[0].batch)
    assert (written.cutting.detector, written.format, written.attempt) == ("both", settings.format, 0)


@pytest.mark.parametrize(
    "other",
    [
        plan_batch([SOURCE.replaced(uri="/footage/b.mp4")], FormatSettings()),
        plan_batch([SOURCE.replaced(size=11)], FormatSettings()),
        plan_batch([SOURCE.replaced(version="2")], FormatSettings()),
        plan_batch([SOURCE.replaced(speaker="bert")], FormatSettings()),
        plan_batch([SOURCE.replaced(split="val")], FormatSettings()),
        plan_batch([SOURCE], FormatSettings(crop=CropSettings(anchor="all-points"))),
        plan_batch([SOURCE], FormatSettings(), CuttingSettings(scene_threshold=30)),
        plan_batch([SOURCE], FormatSettings(), attempt=1),
    ],
)
def test_a_batch_s_name_follows_from_all_that_its_rows_follow_from(other: BatchPlan) -> None:
    assert other.batch != plan_batch([SOURCE], FormatSettings()).batch
    assert plan_batch([SOURCE], FormatSettings()).batch == plan_batch([SOURCE], FormatSettings(), retry_of="whatever").batch


def test_batches_are_closed_by_number_and_by_megabytes(settings: IngestSettings) -> None:
    add(settings, "b.mp4", "c.mp4", "e.mp4", size=400_000)
    add(settings, "d.mp4", size=1_100_000)
    plan = plan_batches(settings.replaced(batch_mb=1))
    assert names(settings, plan) == [["a.mp4", "b.mp4", "c.mp4"], ["d.mp4"], ["e.mp4"]]


@pytest.mark.parametrize(("workers", "sizes"), [(1, [5, 5, 5, 5]), (2, [4, 4, 4, 4, 4]), (100, [4, 4, 4, 4, 4])])
def test_every_worker_gets_about_four_batches_of_no_fewer_than_four_sources(settings: IngestSettings, workers: int, sizes: list[int]) -> None:
    add(settings, *(f"b{number:02}.mp4" for number in range(19)))
    assert [batch.sources for batch in plan_batches(settings, lambda: workers).batches] == sizes


def test_nobody_is_asked_for_workers_when_nothing_is_new(settings: IngestSettings) -> None:
    finish_all(settings, plan_batches(settings))

    def never() -> int:
        raise AssertionError("a cluster was looked for")

    assert plan_batches(settings, never) == IngestPlan([], known=1, sources=1)


def test_only_new_and_changed_files_are_planned(settings: IngestSettings) -> None:
    add(settings, "b.mp4", "c.mp4")
    finish_all(settings, plan_batches(settings))
    add(settings, "d.mp4")
    os.utime(Path(settings.sources[0]) / "b.mp4", ns=(1, 1))
    (Path(settings.sources[0]) / "c.mp4").rename(Path(settings.sources[0]) / "renamed.mp4")
    plan = plan_batches(settings)
    assert names(settings, plan) == [["b.mp4", "d.mp4", "renamed.mp4"]], "a renamed file is a new source with content that is known"
    assert (plan.sources, plan.known) == (4, 1)


def test_a_file_under_two_names_and_in_two_roots_is_one_source(settings: IngestSettings) -> None:
    (Path(settings.sources[0]) / "link.mp4").symlink_to("a.mp4")
    plan = plan_batches(settings.replaced(sources=(settings.sources[0], f"{settings.sources[0]}/a.mp4")))
    assert (plan.sources, names(settings, plan)) == (1, [["a.mp4"]])


def test_unfinished_plans_are_taken_up_as_they_are_whatever_batches_and_cutting_are_now(settings: IngestSettings) -> None:
    add(settings, "b.mp4", "c.mp4", "d.mp4")
    first = plan_batches(settings.replaced(batch_sources=2, detector="dlib"))
    finish(settings, first.batches[0])
    add(settings, "e.mp4")
    second = plan_batches(settings.replaced(batch_sources=1))
    assert second.batches[0] == first.batches[1]
    assert names(settings, second) == [["c.mp4", "d.mp4"], ["e.mp4"]]
    assert [read(settings, batch).cutting.detector for batch in second.batches] == ["dlib", "mediapipe"]


def test_what_a_finished_batch_holds_is_not_cut_again_with_other_settings(settings: IngestSettings, tmp_path: Path) -> None:
    finish_all(settings, plan_batches(settings))
    (tmp_path / "speakers.csv").write_text("source,speaker\na.mp4,Anna\n")
    other = settings.replaced(detector="both", scene_threshold=20, clip_time_limit_s=5, speakers=str(tmp_path / "speakers.csv"))
    assert plan_batches(other).batches == []


def test_the_same_files_in_other_places_that_are_given_are_known(settings: IngestSettings, tmp_path: Path) -> None:
    add(settings, "anna/b.mp4")
    finish_all(settings, plan_batches(settings))
    (tmp_path / "linked").symlink_to(settings.sources[0])
    for sources in ((str(tmp_path / "footage" / "anna"),), (str(tmp_path / "linked"),), (f"{settings.sources[0]}/a.mp4", settings.sources[0])):
        assert plan_batches(settings.replaced(sources=sources)).batches == []


def test_two_runs_that_planned_at_the_very_same_moment_end_in_known_sources(settings: IngestSettings) -> None:
    one, other = (plan_batches(settings.replaced(store=f"{settings.store}-{detector}", detector=detector)) for detector in ("mediapipe", "both"))
    for detector, plan in (("mediapipe", one), ("both", other)):
        there = CorpusStore.open(f"{settings.store}-{detector}")
        finish_batch(f"{settings.store}-both", there.plan(plan.batches[0].batch))
    merged = settings.replaced(store=f"{settings.store}-both")
    assert len(CorpusStore.open(merged.store).batches()) == 2
    assert plan_batches(merged) == IngestPlan([], known=1, sources=1)


@pytest.mark.parametrize("change", ["content", "gone", "speaker"])
def test_an_unfinished_plan_is_left_where_a_source_of_it_is_not_as_planned(settings: IngestSettings, tmp_path: Path, change: str) -> None:
    add(settings, "b.mp4")
    (first,) = plan_batches(settings).batches
    path = Path(settings.sources[0]) / "b.mp4"
    if change == "content":
        path.write_bytes(b"other")
    elif change == "gone":
        path.unlink()
    else:
        (tmp_path / "speakers.csv").write_text("source,speaker\nfootage/b.mp4,Bert\n")
        settings = settings.replaced(speakers=str(tmp_path / "speakers.csv"))
    (again,) = plan_batches(settings).batches
    assert again.batch != first.batch
    assert "a.mp4" in names(settings, IngestPlan([again], 0, 0))[0]


def test_two_overlapping_runs_share_the_unfinished_batches_and_add_none(settings: IngestSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    add(settings, *(f"b{number}.mp4" for number in range(3)))
    first = plan_batches(settings.replaced(batch_sources=1)).batches
    monkeypatch.setattr(planning.secrets, "randbelow", lambda count: count - 1)
    beside = plan_batches(settings, lambda: 50).batches
    assert {batch.batch for batch in beside} == {batch.batch for batch in first}
    unrotated = sorted(beside, key=lambda batch: batch.batch)
    assert beside == [unrotated[-1], *unrotated[:-1]], "the second run begins elsewhere"


def test_a_forgotten_source_does_not_come_back(settings: IngestSettings) -> None:
    add(settings, "b.mp4")
    plan_batches(settings)
    forgotten = Path(settings.sources[0]) / "a.mp4"
    status = forgotten.stat()
    add_forgotten(settings.store, [source_digest(str(forgotten), status.st_size, str(status.st_mtime_ns))])
    plan = plan_batches(settings)
    assert (plan.sources, plan.known, names(settings, plan)) == (2, 1, [["b.mp4"]]), "not even by the plan of a run that was killed"


@pytest.mark.parametrize(
    ("rejects", "tried_again"),
    [
        ([(None, Reason.TIME_LIMIT)], True),
        ([SHORT, (None, Reason.TIME_LIMIT)], True),
        ([SHORT], False),
        ([SHORT, (None, Reason.DAMAGED)], False),
        ([(None, Reason.NO_FACE)], False),
        ([(None, Reason.TIME_LIMIT), (None, Reason.NO_FACE)], False),
    ],
)
def test_a_source_is_tried_again_when_its_own_reject_is_retryable(
    settings: IngestSettings, rejects: list[tuple[str | None, Reason]], tried_again: bool
) -> None:
    (first,) = plan_batches(settings).batches
    finish(settings, first, *rejects)
    again = plan_batches(settings).batches
    assert [batch.retry.retry_of for batch in again if batch.retry] == ([first.batch] if tried_again else [])
    assert [batch.to_write for batch in again] == [batch.retry for batch in again]
    assert not any((Path(settings.store) / "plans" / f"{batch.batch}.json").exists() for batch in again), "a retry that changes nothing leaves nothing"


def test_rejects_that_a_later_try_replaced_count_no_more(settings: IngestSettings) -> None:
    (first,) = plan_batches(settings).batches
    finish(settings, first, SHORT, (None, Reason.TIME_LIMIT))
    (second,) = plan_batches(settings).batches
    assert corpus_stats(settings.store).rejects == {"time-limit": 1, "too-short": 1}
    finish(settings, second, (None, Reason.UNREADABLE))
    (third,) = plan_batches(settings).batches
    assert third.retry is not None
    assert (third.retry.attempt, third.retry.retry_of) == (2, second.batch)
    finish(settings, third, (None, Reason.NO_FACE))
    assert plan_batches(settings).batches == []
    stats, facts = corpus_stats(settings.store), corpus_facts(settings.store)
    assert (stats.rejects, stats.retryable) == ({"no-face": 1}, 0)
    assert [(group.reason, group.sources, group.pieces) for group in facts.rejects] == [("no-face", 1, 0)]


def test_a_listed_speaker_and_a_layout_s_split_reach_the_plan(tmp_path: Path) -> None:
    for name in ("main/535/00001.mp4", "main/535/00002.mp4", "main/633/00003.mp4", "pretrain/535/00009.mp4"):
        path = tmp_path / "lrs2" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "lrs2" / "train.txt").write_text("535/00001\n")
    (tmp_path / "lrs2" / "test.txt").write_text("633/00003 NF\n")
    (tmp_path / "speakers.csv").write_text("source,speaker\nlrs2/main/535/00002.mp4,Bert\n")
    settings = IngestSettings(sources=(str(tmp_path / "lrs2"),), store=str(tmp_path / "store"), speakers=str(tmp_path / "speakers.csv"))
    (batch,) = plan_batches(settings).batches
    assert [(source.speaker, source.split) for source in read(settings, batch).sources] == [("535", "train"), ("Bert", None), ("633", "test")]


def test_another_format_is_refused_in_one_sentence(settings: IngestSettings) -> None:
    plan_batches(settings)
    with pytest.raises(StoreError, match=r"made with crop\.padding 0\.08, not 0\.2, picture png, not jpeg; use"):
        plan_batches(settings.replaced(crop=CropSettings(padding=0.2), picture="jpeg"))


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"sources": ()}, SettingsError, "nothing to ingest"),
        ({"sources": ("/nowhere/at all",)}, StoreError, "is not there"),
        ({"layout": "lrs2"}, SettingsError, "not arranged as lrs2"),
    ],
)
def test_wrong_sources_make_no_store(settings: IngestSettings, change: dict[str, object], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        plan_batches(settings.replaced(**change))
    assert not Path(settings.store).exists()


@pytest.mark.parametrize("index", ["made", "deleted", "damaged"])
def test_twenty_thousand_sources_are_planned_in_little_time_and_memory(tmp_path: Path, index: str, bench_store: Callable[[Path], Path]) -> None:
    store = bench_store(tmp_path / "store")
    (part,) = (store / "known").iterdir()
    if index == "deleted":
        part.unlink()
    elif index == "damaged":
        part.write_bytes(part.read_bytes()[:-100])
    command = [sys.executable, "-m", "tests.bench.planning", "--sources", "20000", "--plan-here", str(store)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[3], timeout=100)
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["sources"], result["known"], result["new"]) == (20_000, 19_800, 200)
    assert result["cpu_seconds"] < 6
    assert result["peak_mb"] < 500
    assert len(list((store / "known").iterdir())) == 1


@pytest.fixture(scope="module")
def bench_store(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """A copy of a store of 19 800 sources with its index, at the given path."""
    from tests.bench.planning import make_store, plan_here

    made = tmp_path_factory.mktemp("bench") / "store"
    make_store(made, 20_000, 0.01)
    plan_here(made, 20_000)
    return lambda path: Path(shutil.copytree(made, path))


def test_a_store_in_a_bucket_is_planned_and_indexed_as_one_on_disk(settings: IngestSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "INDEX_FROM_BATCHES", 2)
    add(settings, "b.mp4", "c.mp4", "d.mp4")
    with s3_bucket("planning") as bucket:
        remote = settings.replaced(store=f"{bucket}/store", batch_sources=1)
        first = plan_batches(remote)
        assert first == plan_batches(settings.replaced(batch_sources=1))
        finish(remote, first.batches[0], (None, Reason.TIME_LIMIT))
        finish(remote, first.batches[1])
        again = plan_batches(remote)
        assert {batch.batch for batch in again.batches[:2]} == {batch.batch for batch in first.batches[2:]}
        assert [batch.retry.retry_of for batch in again.batches[2:] if batch.retry] == [first.batches[0].batch]
        assert len(places.list_names(f"{bucket}/store/known")) == 1
        known.drop_index(remote.store)
        assert plan_batches(remote).known == again.known == 2


def test_what_a_run_beside_this_one_finishes_while_sources_are_listed_is_not_cut_again(settings: IngestSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    add(settings, "b.mp4", "c.mp4")
    first = plan_batches(settings.replaced(batch_sources=2))
    discover = planning.discover

    def finished_meanwhile(*arguments: object) -> Iterator[PlannedSource]:
        yield from discover(*arguments)
        finish(settings, first.batches[0])

    monkeypatch.setattr(planning, "discover", finished_meanwhile)
    beside = plan_batches(settings.replaced(batch_sources=1))
    assert {batch.batch for batch in beside.batches} == {batch.batch for batch in first.batches}


def test_a_retry_that_was_killed_is_no_plan_to_take_up(settings: IngestSettings) -> None:
    """Its earlier try may be gone: garbage is collected by age."""
    (first,) = plan_batches(settings).batches
    finish(settings, first, (None, Reason.TIME_LIMIT))
    (again,) = plan_batches(settings).batches
    assert again.retry is not None
    places.write_bytes(layout.plan_location(settings.store, again.batch), again.retry.model_dump_json().encode())
    assert plan_batches(settings).batches == [again]
    for folder in (*layout.TABLES, layout.PLANS):
        for path in (Path(settings.store) / folder).glob(f"{first.batch}.*"):
            path.unlink()
    assert plan_batches(settings).batches == [first]
