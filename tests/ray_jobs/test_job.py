import json
from pathlib import Path

import pytest

from ray_jobs.cluster import JobError, _command, _LogFollower, submit
from ray_jobs.job import JobProgress, job_main
from schemas.errors import StoreError
from schemas.jobs import IngestSummary
from schemas.settings import IngestSettings, write_settings
from tasks.progress import Progress, silent

SETTINGS = IngestSettings(sources=("/footage of 李", "s3://b/p"), store="/store")


def run(settings: IngestSettings, progress: Progress) -> IngestSummary:
    progress(2, 2, "sources")
    return IngestSummary(store=settings.store, sources=2, known=0, batches=("a",), clips=3, frames=75, rejects={})


def refuse(settings: IngestSettings, progress: Progress) -> IngestSummary:
    raise StoreError("The source /footage is not there.")


def test_a_job_reads_settings_and_leaves_its_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_settings(SETTINGS, str(tmp_path / "settings.yaml"))
    job_main(IngestSettings, run, ["--settings", str(tmp_path / "settings.yaml"), "--result", str(tmp_path / "new" / "result.json")])
    summary = IngestSummary.model_validate_json((tmp_path / "new" / "result.json").read_bytes())
    assert (summary.store, summary.frames) == ("/store", 75)
    progress, result = capsys.readouterr().out.splitlines()
    assert progress == "progress 2/2 sources"
    assert IngestSummary.model_validate_json(result.removeprefix("result ")) == summary


@pytest.mark.parametrize("text", ["sources: [a]\nstore: s\nworkers: many\n", "store: s\nunknown: 1\n", "- a\n", None])
def test_settings_that_cannot_be_used_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None) -> None:
    if text is not None:
        (tmp_path / "settings.yaml").write_text(text)
    with pytest.raises(SystemExit) as ended:
        job_main(IngestSettings, run, ["--settings", str(tmp_path / "settings.yaml")])
    captured = capsys.readouterr()
    assert ended.value.code == 1
    assert captured.err.startswith("error ")
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""


def test_an_error_of_the_work_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_settings(SETTINGS, str(tmp_path / "settings.yaml"))
    with pytest.raises(SystemExit):
        job_main(IngestSettings, refuse, ["--settings", str(tmp_path / "settings.yaml"), "--result", str(tmp_path / "result.json")])
    assert capsys.readouterr().err == "error The source /footage is not there.\n"
    assert not (tmp_path / "result.json").exists()


def test_settings_travel_in_the_command_itself(capsys: pytest.CaptureFixture[str]) -> None:
    import shlex

    words = shlex.split(_command("ray_jobs.ingest", SETTINGS))
    assert words[1:4] == ["-m", "ray_jobs.ingest", "--settings"]
    told = []

    def tell(settings: IngestSettings, progress: Progress) -> IngestSummary:
        told.append(settings)
        return run(settings, progress)

    job_main(IngestSettings, tell, words[3:])
    assert told == [SETTINGS]


def test_progress_lines_are_seldom_and_the_last_is_always_there(capsys: pytest.CaptureFixture[str]) -> None:
    progress = JobProgress(every_s=3600)
    for done in range(4):
        progress(done, 3, "x")
    JobProgress()(7)
    assert capsys.readouterr().out.splitlines() == ["progress 0/3 x", "progress 3/3 x", "progress 7/?"]


def test_a_followed_log_gives_progress_result_and_error(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[int, int | None, str]] = []
    follower = _LogFollower(lambda done, total=None, note="": seen.append((done, total, note)))
    for line in ("progress 1/3 batch a", "progress 5/?", "progress nonsense", "INFO x: hello", 'result {"clips": 1}', "error The store is full."):
        follower.read(line)
    assert seen == [(1, 3, "batch a"), (5, None, "")]
    assert follower.result == {"clips": 1}
    assert follower.error == "The store is full."
    assert capsys.readouterr().err == "INFO x: hello\n"


def test_no_cluster_there_is_one_sentence() -> None:
    with pytest.raises(JobError, match=r"^There is no Ray job API at http://127\.0\.0\.1:9: .*$"):
        submit("http://127.0.0.1:9", "ray_jobs.ingest", SETTINGS, silent)


def test_a_summary_is_plain_json() -> None:
    assert json.loads(run(SETTINGS, silent).model_dump_json())["batches"] == ["a"]
