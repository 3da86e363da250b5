import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from structlog.contextvars import get_contextvars

from schemas.errors import CheckpointError, DubmillError, MediaError, SettingsError
from schemas.job_log import DAG_RUN_VARIABLE
from schemas.jobs import DubJob, DubOrigin, DubSummary, Moment, Segment, SourceShown
from schemas.reasons import Reason
from schemas.settings import BulkDubSettings, DubSettings
from schemas.tables import DUB_RESULTS
from tasks import places
from tasks.dubbing import bulk as bulk_module
from tasks.dubbing.bulk import JobWorker, bulk_dub_here
from tasks.dubbing.bulk_plan import plan_bulk
from tasks.dubbing.inputs import FetchedAhead
from tasks.dubbing.results import read_results
from tasks.dubbing.time_limit import LEAST_S
from tasks.file_hash import file_hash
from tests.footage import make_speech, make_talking_clip
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


def test_faults_are_rows_and_what_is_done_is_not_done_again(bulk: BulkDubSettings, tmp_path: Path, clip: Path, speech: Path) -> None:
    said: list[tuple[int, int | None]] = []
    summary = bulk_dub_here(bulk, lambda done, total=None, note="": said.append((done, total)))
    assert (summary.jobs, summary.already_done, summary.done) == (5, 0, 2)
    assert summary.failed == {"missing": 1, "not-media": 1, "no-face": 1}
    assert sorted((job.job_id, job.reason) for job in summary.first_failed) == [("missing", "missing"), ("nobody", "no-face"), ("text", "not-media")]
    assert all(job.detail == read_results(bulk.out)[job.job_id]["detail"] for job in summary.first_failed)
    assert said == [(number, 5) for number in range(6)]
    rows = read_results(bulk.out)
    assert {name: row["status"] for name, row in rows.items()} == {"good": "done", "again": "done", "missing": "failed", "text": "failed", "nobody": "failed"}
    assert (rows["good"]["frames"], rows["good"]["dubbed_frames"], rows["good"]["duration_s"]) == (12, 12, 0.48)
    assert rows["again"]["output"] == f"{bulk.out}/deep/again.mp4"
    assert Path(str(rows["again"]["output"])).is_file()
    origin = {"video_sha256": clip, "speech_sha256": speech, "landmark_generator_sha256": bulk.landmark_generator, "renderer_sha256": bulk.renderer}
    assert {name: rows["good"][name] for name in origin} == {name: file_hash(Path(location)) for name, location in origin.items()}
    assert rows["good"]["renderer"] == str(rows["good"]["renderer_sha256"])[:16]
    assert summary.models == {network: rows["good"][f"{network}_sha256"] for network in ("landmark_generator", "renderer")}
    assert [rows["missing"][name] for name in origin] == [None] * 4
    assert rows["missing"]["output"] is None
    assert "none.mp4" in str(rows["missing"]["detail"])
    assert pq.read_schema(result_files(bulk)[0]) == DUB_RESULTS

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    again = bulk_dub_here(bulk)
    assert (again.already_done, again.done, again.failed) == (2, 0, summary.failed)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before

    Path(str(rows["again"]["output"])).unlink()
    assert [job.job_id for job in plan_bulk(bulk).jobs if rows[job.job_id]["status"] == "done"] == ["again"]


def test_a_dub_that_is_made_again_tells_of_itself_anew(bulk: BulkDubSettings, tmp_path: Path, clip: Path) -> None:
    """The speech was recorded again under its name, and the dub deleted: nothing in the list has changed."""
    said = tmp_path / "said.wav"
    Path(bulk.jobs).write_text(json.dumps({"job_id": "one", "video": str(clip), "speech": str(make_speech(said, seconds=0.3)), "out": "one.mp4"}))
    bulk_dub_here(bulk)
    first = read_results(bulk.out)["one"]
    make_speech(said, seconds=0.6)
    Path(str(first["output"])).unlink()
    bulk_dub_here(bulk)
    second = read_results(bulk.out)["one"]
    assert second["fingerprint"] == first["fingerprint"]
    assert second["speech_sha256"] == file_hash(said) != first["speech_sha256"]
    assert second["duration_s"] == pytest.approx(0.6, abs=0.05)


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

    monkeypatch.setattr(bulk_module, "dub_video", surprise)
    monkeypatch.setattr(bulk_module, "MOST_NAMED", 3)
    summary = bulk_dub_here(bulk)
    assert summary.failed == {"internal": 5}
    assert [job.detail for job in summary.first_failed] == 3 * ["RuntimeError: a surprise"]
    assert read_results(bulk.out)["good"]["detail"] == "RuntimeError: a surprise"


def test_the_run_ends_at_once_when_it_cannot_work(bulk: BulkDubSettings) -> None:
    with pytest.raises(CheckpointError):
        bulk_dub_here(bulk.replaced(renderer=bulk.landmark_generator))
    with pytest.raises(SettingsError):
        bulk_dub_here(bulk.replaced(jobs=bulk.jobs + ".csv"))
    assert not Path(bulk.out).exists()


SUMMARY = DubSummary(
    output="x.mp4",
    frames=50,
    dubbed_frames=40,
    duration_s=2.0,
    fps="25",
    width=64,
    height=64,
    source_shown=(SourceShown(start_s=0, end_s=0.5, reason="no-face"), SourceShown(start_s=1, end_s=1.25, reason="covered")),
    confidence=(0.25, 1.0),
    worst=(Moment(second=0, confidence=0.25, why="no face"),),
)


def test_a_row_says_of_what_its_dub_was_made_and_for_whom(bulk: BulkDubSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    models = {"landmark_generator": "1" * 64, "renderer": "2" * 64}
    made_of = DubOrigin(video="3" * 64, speech="4" * 64, models=models, snapshots={"renderer": "first"}, consent="contract 7")
    monkeypatch.setattr(bulk_module, "dub_video", lambda *_, **__: SUMMARY.replaced(made_of=made_of))
    monkeypatch.setenv(DAG_RUN_VARIABLE, "bulk_dubbing/monday/dub")
    bulk_dub_here(bulk)
    row = read_results(bulk.out)["good"]
    assert (row["landmark_generator_sha256"], row["renderer_sha256"], row["video_sha256"], row["speech_sha256"]) == tuple(f"{n}" * 64 for n in range(1, 5))
    assert (row["landmark_generator_snapshot"], row["renderer_snapshot"]) == (None, "first")
    assert (row["consent"], row["dag_run"]) == ("contract 7", "bulk_dubbing/monday/dub")


def test_a_log_line_of_a_job_names_it(bulk: BulkDubSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    seen: dict[str, object] = {}

    def dub(*_: object, **__: object) -> DubSummary:
        seen.update(get_contextvars())
        return SUMMARY

    monkeypatch.setattr(bulk_module, "dub_video", dub)
    told: list[DubSummary] = []
    worker = JobWorker(bulk, told.append)
    with caplog.at_level("INFO"):
        worker(DubJob(job_id="monday", video="v", speech=bulk.jobs, out="o.mp4"), 60.0)
    assert (seen, get_contextvars()) == ({"job_id": "monday"}, {})
    assert "done: x.mp4" in caplog.text
    assert told == [SUMMARY]


def test_a_row_says_when_the_source_shows_and_where_to_look_first(bulk: BulkDubSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_module, "dub_video", lambda *_, **__: SUMMARY)
    bulk_dub_here(bulk)
    row = read_results(bulk.out)["good"]
    assert (row["source_shown_s"], row["confidence"]) == (0.75, [0.25, 1.0])
    assert json.loads(str(row["source_shown"]))[1] == {"start_s": 1.0, "end_s": 1.25, "reason": "covered"}
    assert json.loads(str(row["worst"])) == [{"second": 0, "confidence": 0.25, "why": "no face"}]


def test_segments_reach_the_dub(bulk: BulkDubSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    segments = (Segment(start_s=0, end_s=1, speech="s"),)
    given: list[object] = []
    monkeypatch.setattr(bulk_module, "dub_video", lambda *values: given.extend(values) or SUMMARY)
    JobWorker(bulk)(DubJob(job_id="a", video="v", speech="s", out="o", segments=segments))
    assert segments in given


def canary_list(bulk: BulkDubSettings, tmp_path: Path, jobs: int, canary: int) -> BulkDubSettings:
    rows = [json.dumps({"job_id": f"{number:02}", "video": "v.mp4", "speech": "s.wav", "out": f"{number}.mp4"}) for number in range(jobs)]
    (tmp_path / "canary.jsonl").write_text("\n".join(rows))
    return bulk.replaced(jobs=str(tmp_path / "canary.jsonl"), canary=canary)


@pytest.mark.parametrize(("failing", "begun"), [(3, 4), (2, 10)])
def test_the_rest_is_not_begun_when_more_than_half_of_the_canary_fails(
    bulk: BulkDubSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int, begun: int
) -> None:
    calls: list[str] = []

    def dub(*_: object, **__: object) -> DubSummary:
        calls.append("begun")
        if len(calls) <= failing:
            raise MediaError(Reason.NO_FACE, "No face.")
        return SUMMARY

    monkeypatch.setattr(bulk_module, "dub_video", dub)
    settings = canary_list(bulk, tmp_path, jobs=10, canary=4)
    if begun == 4:
        with pytest.raises(DubmillError, match=r"3 of the first 4 jobs failed \(no-face 3\), so the other 6 were not begun"):
            bulk_dub_here(settings)
    else:
        assert bulk_dub_here(settings).done == 8
    assert len(calls) == len(read_results(settings.out)) == begun


def test_a_canary_that_is_the_whole_list_ends_nothing(bulk: BulkDubSettings, tmp_path: Path) -> None:
    assert bulk_dub_here(canary_list(bulk, tmp_path, jobs=2, canary=50)).failed == {"missing": 2}


class Dubs:
    """Stands for the dubs themselves: jobs of `bad` fail, the others leave an output."""

    def __init__(self, bulk: BulkDubSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings, self.folder = bulk, tmp_path
        self.bad: set[int] = set()
        self.begun: list[int] = []
        monkeypatch.setattr(bulk_module, "dub_video", self.dub)

    def dub(self, video: str, speech: str, out: str, *_: object) -> DubSummary:
        number = int(Path(video).stem)
        self.begun.append(number)
        if number in self.bad:
            raise MediaError(Reason.NO_FACE, "No face.")
        places.write_bytes(out, b"a dub")
        return SUMMARY

    def run(self, jobs: int, canary: int = 4, **changes: object) -> tuple[set[int], str]:
        """Runs over the first `jobs` jobs; which were begun, and the error it ended with."""
        rows = [json.dumps({"job_id": f"{number:02}", "video": f"{number:02}.mp4", "speech": "s.wav", "out": f"{number}.mp4"}) for number in range(jobs)]
        (self.folder / "canary.jsonl").write_text("\n".join(rows))
        self.begun, error = [], ""
        try:
            bulk_dub_here(self.settings.replaced(jobs=str(self.folder / "canary.jsonl"), canary=canary, **changes))
        except DubmillError as raised:
            error = str(raised)
        assert len(self.begun) == len(set(self.begun))
        return set(self.begun), error


@pytest.fixture
def dubs(bulk: BulkDubSettings, tmp_path: Path, speech: Path, monkeypatch: pytest.MonkeyPatch) -> Dubs:
    return Dubs(bulk, tmp_path, monkeypatch)


def test_a_finished_list_ends_well_however_many_of_its_jobs_are_bad_for_good(dubs: Dubs) -> None:
    dubs.bad = set(range(10, 20))
    assert dubs.run(20) == (set(range(20)), "")
    assert dubs.run(20) == (dubs.bad, ""), "tried again, and no canary"
    assert dubs.run(24) == (dubs.bad | set(range(20, 24)), ""), "new rows are judged by themselves"
    assert len(read_results(dubs.settings.out)) == 24


def test_only_jobs_that_have_not_failed_before_are_a_canary(dubs: Dubs) -> None:
    dubs.bad = set(range(10, 20))
    dubs.run(20)
    dubs.bad |= set(range(20, 40))
    begun, error = dubs.run(40)
    assert begun == {20, 21, 22, 23}
    assert error.startswith("4 of the first 4 jobs failed (no-face 4), so the other 26 were not begun; ")
    dubs.bad -= set(range(24, 40))
    assert dubs.run(40) == (set(range(10, 40)), "")


def test_settings_that_failed_their_canary_wear_out_no_more_jobs(dubs: Dubs) -> None:
    dubs.bad = set(range(20))
    assert dubs.run(20)[0] == {0, 1, 2, 3}
    for _ in range(3):
        begun, error = dubs.run(20)
        assert begun == set()
        assert error.startswith("With these settings 4 jobs have failed before (no-face 4) and none was ever done, so the other 16 were not begun; ")
        assert error.endswith("go on with `canary: 0` in the settings file (that of --settings, or the DAG's) until one job is done.")
    dubs.bad = set()
    assert dubs.run(20, canary=0) == (set(range(20)), ""), "once their files are mended"
    assert dubs.run(20) == (set(), "")


def test_mended_settings_have_a_canary_of_their_own(dubs: Dubs) -> None:
    dubs.bad = set(range(20))
    dubs.run(20)
    begun, error = dubs.run(20, references=2)
    assert len(begun) == 4
    assert error.startswith("4 of the first 4 jobs failed")
    dubs.bad = set()
    assert dubs.run(20, references=1) == (set(range(20)), "")


def test_a_list_that_failed_as_a_whole_is_tried_again(dubs: Dubs) -> None:
    dubs.bad = set(range(4))
    assert dubs.run(4) == dubs.run(4) == (dubs.bad, "")


def test_what_a_failed_canary_has_done_is_a_reason_to_go_on(dubs: Dubs) -> None:
    dubs.bad = {0, 1, 2}
    assert dubs.run(20)[0] == {0, 1, 2, 3}
    assert dubs.run(20) == (set(range(20)) - {3}, "")


def test_a_job_that_takes_longer_than_its_limit_is_ended_with_that_reason(bulk: BulkDubSettings, clip: Path, speech: Path) -> None:
    row = JobWorker(bulk)(DubJob(job_id="a", video=str(clip), speech=str(speech), out="a.mp4"), limit_s=1e-6)
    assert (row["status"], row["reason"]) == ("failed", "time-limit")
    assert "time limit" in str(row["detail"])
    assert not list(Path(bulk.out).rglob("*.mp4"))


def test_the_limit_goes_by_the_length_of_the_speech(bulk: BulkDubSettings, tmp_path: Path, speech: Path) -> None:
    def limit_s(path: Path, factor: float) -> float:
        return JobWorker(bulk.replaced(time_limit_factor=factor)).limit_s(DubJob(job_id="a", video="v", speech=str(path), out="a.mp4"))

    assert limit_s(speech, 4000.0) == pytest.approx(0.5 * 4000)
    assert limit_s(speech, 600.0) == LEAST_S
    assert limit_s(tmp_path / "none.wav", 4000.0) == LEAST_S


@pytest.mark.parametrize("speech", ["nosuch://bucket/speech.wav", "s3://"])
def test_a_speech_that_cannot_be_fetched_has_the_least_limit(bulk: BulkDubSettings, speech: str) -> None:
    assert JobWorker(bulk).limit_s(DubJob(job_id="a", video="v", speech=speech, out="a.mp4")) == LEAST_S


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each download from a remote place, in order."""
    seen: list[str] = []
    download = places._download
    monkeypatch.setattr(places, "_download", lambda location, path: seen.append(location) or download(location, path))
    return seen


@pytest.mark.parametrize("limit_comes_first", [True, False])
def test_a_remote_speech_is_fetched_once_a_job_and_not_kept_for_the_next(
    bulk: BulkDubSettings, clip: Path, speech: Path, downloads: list[str], limit_comes_first: bool
) -> None:
    locations = [f"memory://speeches/{name}.wav" for name in ("first", "second", "first")]
    for location in locations:
        places.write_bytes(location, speech.read_bytes())
    worker = JobWorker(bulk.replaced(time_limit_factor=4000.0))
    for number, location in enumerate(locations):
        job = DubJob(job_id="a", video=str(clip), speech=location, out=f"{number}.mp4")
        limit_s = worker.limit_s(job) if limit_comes_first else None  # as a worker of a cluster is asked
        assert worker(job, limit_s)["status"] == "done"
        assert limit_s in (None, pytest.approx(2000.0))
    assert downloads == locations


def test_a_remote_speech_that_is_no_good_goes_by_the_name_it_was_given(bulk: BulkDubSettings, clip: Path, downloads: list[str]) -> None:
    places.write_bytes("memory://speeches/text.wav", b"no sound")
    rows = [JobWorker(bulk)(DubJob(job_id="a", video=str(clip), speech=f"memory://speeches/{name}.wav", out="a.mp4")) for name in ("text", "none")]
    assert [row["reason"] for row in rows] == ["not-media", "missing"]
    assert [f"memory://speeches/{name}.wav" in str(row["detail"]) for name, row in zip(("text", "none"), rows, strict=True)] == [True, True]
    assert not any("dubmill-" in str(row["detail"]) for row in rows), "a temporary file's name"


def test_what_was_fetched_for_a_job_that_never_began_is_let_go(bulk: BulkDubSettings, speech: Path) -> None:
    places.write_bytes("memory://speeches/speech.wav", speech.read_bytes())
    ahead = FetchedAhead()
    fetched = ahead.fetch("memory://speeches/speech.wav")
    assert fetched.read_bytes() == speech.read_bytes()
    assert ahead.fetch(str(speech)) == speech
    assert not fetched.parent.exists()
    with ahead.taken(str(speech)) as taken:
        assert taken == speech
    assert speech.exists()


def test_a_worker_overrides_the_runs_settings_by_the_rows(bulk: BulkDubSettings, clip: Path, speech: Path) -> None:
    row = JobWorker(bulk)(DubJob(job_id="a", video=str(clip), speech=str(speech), out="a.mp4", settings={"fps": "25", "references": 1}))
    assert row["status"] == "done"


def test_settings_that_do_not_go_together_are_that_jobs_row(bulk: BulkDubSettings, clip: Path, speech: Path) -> None:
    row = JobWorker(bulk)(DubJob(job_id="a", video=str(clip), speech=str(speech), out="a.mp4", settings={"references": 0}))
    assert (row["status"], row["reason"]) == ("failed", "bad-settings")


def command_of(bulk: BulkDubSettings, ray: str) -> list[str]:
    """ray: as `--ray`, or `job` for the Ray job by itself."""
    file = Path(bulk.jobs).parent / "settings.yaml"
    file.write_text(json.dumps(bulk.model_dump(mode="json", exclude_none=True)))
    module = ["ray_jobs.dub"] if ray == "job" else ["dubmill", "bulk-dub", "--ray", ray]
    return [sys.executable, "-m", *module, "--settings", str(file)]


def wait_for_half_written(folder: Path, process: subprocess.Popen[str], at_least_bytes: int) -> None:
    while not any(path.stat().st_size >= at_least_bytes for path in folder.glob(".*.partial.mp4")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("ray", "sent", "half_written_bytes"),
    [
        ("none", signal.SIGTERM, 2_000),
        pytest.param("none", signal.SIGINT, 0, marks=pytest.mark.soak),
        ("local", signal.SIGTERM, 0),
        pytest.param("job", signal.SIGTERM, 0, marks=pytest.mark.soak),
    ],
)
def test_a_run_that_is_stopped_in_a_job_keeps_its_rows_and_goes_on_later(
    bulk: BulkDubSettings, tmp_path: Path, clip: Path, speech: Path, ray: str, sent: signal.Signals, half_written_bytes: int
) -> None:
    """half_written_bytes: more than none while frames are made, none while a video is looked at."""
    lasting = make_speech(tmp_path / "lasting.wav", seconds=120.0)
    make_talking_clip(tmp_path / "other.mp4", seconds=1.0)
    rows = [
        {"job_id": "bad", "video": "none.mp4", "speech": str(speech), "out": "bad.mp4", "priority": 3},
        {"job_id": "first", "video": str(clip), "speech": str(speech), "out": "first.mp4", "priority": 2},
        {"job_id": "second", "video": str(clip) if half_written_bytes else "other.mp4", "speech": str(lasting), "out": "deep/second.mp4", "priority": 1},
        {"job_id": "third", "video": str(clip), "speech": str(speech), "out": "third.mp4"},
    ]
    Path(bulk.jobs).write_text("\n".join(map(json.dumps, rows)))
    bulk = bulk.replaced(canary=2)
    with subprocess.Popen(command_of(bulk, ray), stderr=subprocess.PIPE, text=True) as process:
        wait_for_half_written(Path(bulk.out) / "deep", process, half_written_bytes)
        process.send_signal(sent)
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == 128 + sent
    how_to_go_on = "" if ray == "job" else "; give the same command again to go on"
    assert complaint.splitlines()[-1].endswith(f"Stopped after 2 of 4 jobs, whose rows are written{how_to_go_on}.")
    assert "Traceback" not in complaint
    assert {name: row["status"] for name, row in read_results(bulk.out).items()} == {"bad": "failed", "first": "done"}
    assert {path.name for path in Path(bulk.out).rglob("*") if path.is_file() and path.parent.name != "results"} == {"first.mp4"}

    make_speech(lasting, seconds=0.4)
    again = bulk_dub_here(bulk)
    assert (again.already_done, again.done, again.failed) == (1, 2, {"missing": 1})


def test_a_home_that_nobody_has_is_that_jobs_row(bulk: BulkDubSettings, clip: Path, speech: Path) -> None:
    nowhere = "~nobody-of-that-name/speech.wav"
    rows = [
        {"job_id": "good", "video": str(clip), "speech": str(speech), "out": "good.mp4"},
        {"job_id": "speech", "video": str(clip), "speech": nowhere, "out": "speech.mp4"},
        {"job_id": "video", "video": nowhere, "speech": str(speech), "out": "video.mp4"},
    ]
    Path(bulk.jobs).write_text("\n".join(map(json.dumps, rows)))
    summary = bulk_dub_here(bulk.replaced(canary=3))
    assert (summary.done, summary.failed) == (1, {"missing": 2})
    assert nowhere in str(read_results(bulk.out)["speech"]["detail"])


def test_a_surprise_in_a_speech_does_not_end_the_run_of_a_cluster(bulk: BulkDubSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    def surprise(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(bulk_module, "time_limit_s", surprise)
    assert JobWorker(bulk).limit_s(DubJob(job_id="a", video="v", speech=bulk.jobs, out="a.mp4")) == LEAST_S
