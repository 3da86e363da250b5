import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from schemas.errors import CheckpointError, SettingsError
from schemas.jobs import DubJob
from schemas.settings import BulkDubSettings, DubSettings
from schemas.tables import DUB_RESULTS
from tasks.dubbing.bulk import JobWorker, bulk_dub_here, grouped, lost_row, plan_bulk
from tasks.dubbing.results import ResultWriter, Row, read_results
from tests.footage import make_talking_clip
from tests.tasks.dubbing.random_networks import write_random_networks


def job_list(folder: Path, clip: Path, speech: Path) -> Path:
    (folder / "text.mp4").write_text("no video")
    make_talking_clip(folder / "nobody.mp4", seconds=0.2, hidden_frames=range(100))
    videos = {"good": clip, "missing": "none.mp4", "text": "text.mp4", "nobody": "nobody.mp4"}
    rows = [{"job_id": name, "video": str(video), "speech": str(speech), "out": f"{name}.mp4"} for name, video in videos.items()]
    rows.append({"job_id": "again", "video": str(clip), "speech": str(speech), "out": "deep/again.mp4", "fps": "25"})
    path = folder / "jobs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def bulk(tmp_path: Path, settings: DubSettings, clip: Path, speech: Path) -> BulkDubSettings:
    return BulkDubSettings(**settings.model_dump(), jobs=str(job_list(tmp_path, clip, speech)), out=str(tmp_path / "dubs"))


def result_files(bulk: BulkDubSettings) -> list[Path]:
    return sorted((Path(bulk.out) / "results").iterdir())


def test_faults_are_rows_and_what_is_done_is_not_done_again(bulk: BulkDubSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[int, int | None]] = []
    summary = bulk_dub_here(bulk, lambda done, total=None, note="": said.append((done, total)))
    assert (summary.jobs, summary.already_done, summary.done) == (5, 0, 2)
    assert summary.failed == {"missing": 1, "not-media": 1, "no-face": 1}
    assert said == [(number, 5) for number in range(1, 6)]
    rows = read_results(bulk.out)
    assert {name: row["status"] for name, row in rows.items()} == {"good": "done", "again": "done", "missing": "failed", "text": "failed", "nobody": "failed"}
    assert (rows["good"]["frames"], rows["good"]["dubbed_frames"], rows["good"]["duration_s"]) == (12, 12, 0.48)
    assert rows["again"]["output"] == f"{bulk.out}/deep/again.mp4"
    assert Path(str(rows["again"]["output"])).is_file()
    assert rows["missing"]["output"] is None
    assert "none.mp4" in str(rows["missing"]["detail"])
    assert pq.read_schema(result_files(bulk)[0]) == DUB_RESULTS

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    again = bulk_dub_here(bulk)
    assert (again.already_done, again.done, again.failed) == (2, 0, summary.failed)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before

    Path(str(rows["again"]["output"])).unlink()
    assert [job.job_id for job in plan_bulk(bulk).jobs if rows[job.job_id]["status"] == "done"] == ["again"]


def test_other_models_or_settings_are_other_dubs(bulk: BulkDubSettings, tmp_path: Path) -> None:
    bulk_dub_here(bulk)
    assert plan_bulk(bulk).already_done == 2
    assert plan_bulk(bulk.replaced(device="auto", batch_frames=2)).already_done == 2
    assert plan_bulk(bulk.replaced(references=2)).already_done == 0
    other = write_random_networks(tmp_path / "other", seed=1)
    assert plan_bulk(bulk.replaced(renderer=other.renderer)).already_done == 0


def test_a_surprise_is_that_jobs_row(bulk: BulkDubSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    def surprise(*_: object, **__: object) -> None:
        raise RuntimeError("a surprise")

    monkeypatch.setattr("tasks.dubbing.bulk.dub_video", surprise)
    summary = bulk_dub_here(bulk)
    assert summary.failed == {"internal": 5}
    assert read_results(bulk.out)["good"]["detail"] == "RuntimeError: a surprise"


def test_the_run_ends_at_once_when_it_cannot_work(bulk: BulkDubSettings) -> None:
    with pytest.raises(CheckpointError):
        bulk_dub_here(bulk.replaced(renderer=bulk.landmark_generator))
    with pytest.raises(SettingsError):
        bulk_dub_here(bulk.replaced(jobs=bulk.jobs + ".csv"))
    assert not Path(bulk.out).exists()


def named_row(bulk: BulkDubSettings, name: str, video: str) -> Row:
    return lost_row(DubJob(job_id=name, video=video, speech="s", out="o"), bulk, {"landmark_generator": "1" * 16, "renderer": "2" * 16})


def test_two_runs_into_one_place_keep_both_their_rows(tmp_path: Path, bulk: BulkDubSettings) -> None:
    with ResultWriter(str(tmp_path)) as one, ResultWriter(str(tmp_path)) as other:
        one.add(named_row(bulk, "a", "a.mp4"))
        other.add(named_row(bulk, "b", "b.mp4"))
    assert set(read_results(str(tmp_path))) == {"a", "b"}


def test_parts_count_by_their_number_whatever_their_token(tmp_path: Path, bulk: BulkDubSettings) -> None:
    for video, name in (("late.mp4", "part-100000-00000000"), ("early.mp4", "part-99999-ffffffff")):
        with ResultWriter(str(tmp_path / video)) as writer:
            writer.add(named_row(bulk, "a", video))
        (tmp_path / "results").mkdir(exist_ok=True)
        next((tmp_path / video / "results").iterdir()).rename(tmp_path / "results" / f"{name}.parquet")
    assert read_results(str(tmp_path))["a"]["video"] == "late.mp4"


def test_parts_are_few_and_later_rows_count(tmp_path: Path, bulk: BulkDubSettings) -> None:
    rows = [named_row(bulk, str(number % 4), f"{number}.mp4") for number in range(7)]
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


def test_jobs_of_one_video_stay_together() -> None:
    jobs = [DubJob(job_id=str(number), video=video, speech="s", out=str(number)) for number, video in enumerate("aaabbc")]
    assert [[job.job_id for job in group] for group in grouped(jobs, most=2)] == [["0", "1"], ["2"], ["3", "4"], ["5"]]


def test_a_worker_overrides_the_runs_settings_by_the_rows(bulk: BulkDubSettings, clip: Path, speech: Path) -> None:
    row = JobWorker(bulk)(DubJob(job_id="a", video=str(clip), speech=str(speech), out="a.mp4", fps="25", references=1))
    assert row["status"] == "done"
