import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import StoreError
from schemas.jobs import DubJob
from schemas.reasons import Reason
from schemas.settings import BulkDubSettings
from tasks.dubbing.bulk import failed_row
from tasks.dubbing.results import ResultWriter, Row, read_results

SETTINGS = BulkDubSettings(landmark_generator="l", renderer="r", jobs="jobs.csv", out="out")


def named_row(name: str, video: str) -> Row:
    return failed_row(
        DubJob(job_id=name, video=video, speech="s", out="o"), SETTINGS, {"landmark_generator": "1" * 16, "renderer": "2" * 16}, Reason.WORKER_LOST
    )


def test_two_runs_into_one_place_keep_both_their_rows(tmp_path: Path) -> None:
    with ResultWriter(str(tmp_path)) as one, ResultWriter(str(tmp_path)) as other:
        one.add(named_row("a", "a.mp4"))
        other.add(named_row("b", "b.mp4"))
    assert set(read_results(str(tmp_path))) == {"a", "b"}


def test_parts_count_by_their_number_whatever_their_token(tmp_path: Path) -> None:
    for video, name in (("late.mp4", "part-100000-00000000"), ("early.mp4", "part-99999-ffffffff")):
        with ResultWriter(str(tmp_path / video)) as writer:
            writer.add(named_row("a", video))
        (tmp_path / "results").mkdir(exist_ok=True)
        next((tmp_path / video / "results").iterdir()).rename(tmp_path / "results" / f"{name}.parquet")
    assert read_results(str(tmp_path))["a"]["video"] == "late.mp4"


def test_parts_are_few_and_later_rows_count(tmp_path: Path) -> None:
    rows = [named_row(str(number % 4), f"{number}.mp4") for number in range(7)]
    with ResultWriter(str(tmp_path), rows_a_part=3, every_s=0) as writer:
        for row in rows[:5]:
            writer.add(row)
    with ResultWriter(str(tmp_path), rows_a_part=3) as writer:
        for row in rows[5:]:
            writer.add(row)
    names = [path.name for path in sorted((tmp_path / "results").iterdir())]
    assert [name[:11] for name in names] == ["part-00000-", "part-00001-", "part-00002-"]
    assert names[0][11:] == names[1][11:] != names[2][11:]
    assert {name: row["video"] for name, row in read_results(str(tmp_path)).items()} == {"0": "4.mp4", "1": "5.mp4", "2": "6.mp4", "3": "3.mp4"}
    with ResultWriter(str(tmp_path / "nothing")):
        pass
    assert not (tmp_path / "nothing").exists()


def test_a_row_that_nothing_follows_is_written_all_the_same(tmp_path: Path) -> None:
    with ResultWriter(str(tmp_path), every_s=0.05) as writer:
        writer.add(named_row("a", "a.mp4"))
        assert read_results(str(tmp_path)) == {}
        ends_at = time.monotonic() + 10
        while not read_results(str(tmp_path)) and time.monotonic() < ends_at:
            time.sleep(0.02)
        assert set(read_results(str(tmp_path))) == {"a"}


def test_a_place_that_could_not_be_written_gets_the_rows_later(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("in the way")
    with ResultWriter(str(tmp_path), every_s=0.01) as writer:
        writer.add(named_row("a", "a.mp4"))
        time.sleep(0.2)
        (tmp_path / "results").unlink()
    assert set(read_results(str(tmp_path))) == {"a"}


def test_chosen_columns_and_tables_of_before(tmp_path: Path) -> None:
    row = named_row("a", "a.mp4")
    old = pa.Table.from_pylist([{name: row[name] for name in ("job_id", "video", "status", "fingerprint")}])
    (tmp_path / "results").mkdir()
    pq.write_table(old, tmp_path / "results" / "part-00000-00000000.parquet")
    assert read_results(str(tmp_path), ["job_id", "status"]) == {"a": {"job_id": "a", "status": "failed"}}
    assert read_results(str(tmp_path))["a"]["confidence"] is None


def test_an_output_folder_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(StoreError, match=r"^The results in .*/out/results cannot be read: Not a directory\.$"):
        read_results(str(tmp_path / "out"))
