"""What counts as lost, as doubled and as wrong: a table that finds nothing must be able to find something."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.settings import IngestSettings
from schemas.tables import DUB_RESULTS
from tasks.corpus.ingest import ingest_here
from tasks.dubbing.results import ResultWriter
from tasks.progress import silent
from tests.chaos.rows import Row, Undisturbed, compared, markdown
from tests.chaos.work import Work, kept
from tests.footage import make_talking_clip

TEXTS = [field.name for field in DUB_RESULTS if not field.nullable]
GOOD = Row(
    fault="a fault",
    states={"ingest_corpus": "success", "bulk_dubbing": "success"},
    told={},
    seconds={},
    recovered_s=3.4,
    submitted={"ingest_corpus": 1, "bulk_dubbing": 2},
    most_alive=1,
    overlap_s=0.0,
    lost={"clips": 0, "dubs": 0},
    doubled={"clips": 0, "dubs": 0},
    done_again={"batches": 0, "dubs": 1},
    faults=(),
    notes=("it was so",),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """A store with two clips and two finished dubs."""
    folder = tmp_path_factory.mktemp("whole")
    for seed in range(2):
        make_talking_clip(folder / "footage" / f"{seed}.mp4", seconds=0.4, size=(160, 160), seed=seed)
    work = Work("whole", str(folder / "corpus"), str(folder / "dubs"), {})
    ingest_here(IngestSettings(sources=(str(folder / "footage"),), store=work.store, batch_sources=1), silent)
    write_rows(work, "a", "b")
    for name in ("a", "b"):
        (folder / "dubs" / f"{name}.mp4").write_bytes(b"a video")
    return work


def write_rows(work: Work, *job_ids: str, status: str = "done", frames: int = 10) -> None:
    with ResultWriter(work.out) as results:
        for job_id in job_ids:
            facts = {"output": f"{work.out}/{job_id}.mp4", "frames": frames} if status == "done" else {"reason": "unreadable"}
            results.add(dict.fromkeys(TEXTS, "") | {"job_id": job_id, "status": status} | facts)


@pytest.fixture
def work(whole: Work, tmp_path: Path) -> Work:
    """A copy of it, to be harmed."""
    shutil.copytree(whole.store, tmp_path / "corpus")
    shutil.copytree(whole.out, tmp_path / "dubs")
    return Work("harmed", str(tmp_path / "corpus"), str(tmp_path / "dubs"), {})


def clip_files(work: Work) -> list[Path]:
    return sorted((Path(work.store) / "clips").glob("*.parquet"))


def test_what_is_whole_has_lost_and_doubled_nothing(whole: Work, work: Work) -> None:
    assert compared(kept(work), kept(whole)) == ({"clips": 0, "dubs": 0}, {"clips": 0, "dubs": 0}, ())


def test_a_missing_batch_and_a_missing_output_are_losses(whole: Work, work: Work) -> None:
    clip_files(work)[0].unlink()
    (Path(work.out) / "a.mp4").unlink()
    lost, doubled, _ = compared(kept(work), kept(whole))
    assert (lost, doubled) == ({"clips": 1, "dubs": 1}, {"clips": 0, "dubs": 0})


def test_the_same_clip_in_two_batches_and_two_rows_of_one_dub_are_doubled(whole: Work, work: Work) -> None:
    first = clip_files(work)[0]
    for file in Path(work.store).rglob(f"{first.stem}*.parquet"):
        shutil.copy(file, file.with_name(f"0000{file.name}"))
    write_rows(work, "b")
    lost, doubled, faults = compared(kept(work), kept(whole))
    assert (lost, doubled) == ({"clips": 0, "dubs": 0}, {"clips": 1, "dubs": 1})
    assert any(first.stem in fault for fault in faults), "`corpus verify` sees it too"


def test_a_dub_whose_last_row_says_failed_or_that_is_longer_is_told(whole: Work, work: Work) -> None:
    write_rows(work, "a", status="failed")
    write_rows(work, "b", frames=11)
    assert compared(kept(work), kept(whole))[2] == ("1 dubs of another length", "1 dubs failed: unreadable")


@pytest.mark.parametrize(
    "change",
    [
        {"lost": {"clips": 1, "dubs": 0}},
        {"doubled": {"clips": 0, "dubs": 1}},
        {"faults": ("1 clips of another content",)},
        {"states": {"ingest_corpus": "success", "bulk_dubbing": "running"}},
        {"most_alive": 2, "overlap_s": 2.5},
    ],
)
def test_a_row_is_as_promised_only_without_any_of_it(change: dict[str, object]) -> None:
    assert GOOD.is_as_promised
    row = replace(GOOD, **change)
    assert not row.is_as_promised
    assert "NOT as promised" in markdown([row], Undisturbed(kept(Work("none", "/nowhere", "/nowhere", {})), {}))


def test_the_table_has_a_line_for_each_scenario(whole: Work) -> None:
    table = markdown([GOOD, replace(GOOD, most_alive=2, overlap_s=0.8)], Undisturbed(kept(whole), {"ingest_corpus": 30.2, "bulk_dubbing": 41.7}))
    lines = table.splitlines()
    assert lines[0] == "An undisturbed run: ingest 30 s, dub 42 s, 2 clips, 2 dubs."
    good = "| a fault | as promised: ingest success, dub success; it was so | 3 | ingest 1, dub 2 | 1 | 0 | 0 | 0 batches, 1 dubs | its progress |"
    assert lines[4:] == [good, good.replace("| 1 |", "| 2 for 0.8 s |")]
