import asyncio
import contextlib
import json
import shlex
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from ray.job_submission import JobStatus

from ray_jobs.cluster import JobError, _command, _environment, _LogFollower, cluster_settings, connect, submit
from ray_jobs.job import job_main
from schemas.errors import SettingsError, StoreError
from schemas.job_log import CLUSTER_PYTHON_VARIABLE, LOG_VARIABLE, SUBMISSION_VARIABLE
from schemas.jobs import IngestSummary
from schemas.settings import IngestSettings, check_settings, read_settings, write_settings
from tasks.interruption import Interruption, interrupted_by_signals
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


@pytest.mark.parametrize(("sent", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_job_that_is_stopped_tidies_up_and_says_how_far_it_came(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sent: signal.Signals, exit_code: int
) -> None:
    tidied = []

    def be_stopped(settings: IngestSettings, progress: Progress) -> IngestSummary:
        try:
            signal.raise_signal(sent)
        except KeyboardInterrupt as interruption:
            interruption.add_note("Stopped after 1 of 2 sources")
            raise
        finally:
            tidied.append(True)
        return run(settings, progress)

    write_settings(SETTINGS, str(tmp_path / "settings.yaml"))
    before = signal.getsignal(sent)
    with pytest.raises(SystemExit) as ended:
        job_main(IngestSettings, be_stopped, ["--settings", str(tmp_path / "settings.yaml")])
    assert (ended.value.code, tidied) == (exit_code, [True])
    assert capsys.readouterr().err == "error Stopped after 1 of 2 sources.\n"
    assert signal.getsignal(sent) == before


def test_ray_leaves_sigterm_to_whoever_had_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "somewhere")
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda **_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    monkeypatch.setattr("ray.shutdown", lambda: None)
    with interrupted_by_signals():
        own = signal.getsignal(signal.SIGTERM)
        with connect():
            assert signal.getsignal(signal.SIGTERM) == own


@pytest.mark.parametrize(("sent", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_what_ray_makes_of_an_interruption_is_one_again(monkeypatch: pytest.MonkeyPatch, sent: signal.Signals, exit_code: int) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "somewhere")
    for name, value in (("is_initialized", lambda: False), ("init", lambda **_: None), ("shutdown", lambda: None)):
        monkeypatch.setattr(f"ray.{name}", value)

    def wait_in_ray() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(sent)
        plain = KeyboardInterrupt()
        plain.add_note("Stopped at step 3")
        raise plain

    with pytest.raises(Interruption) as stopped, interrupted_by_signals(), connect():
        wait_in_ray()
    assert (stopped.value.exit_code, stopped.value.sentence) == (exit_code, "Stopped at step 3")


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (LOG_VARIABLE, CLUSTER_PYTHON_VARIABLE):
        monkeypatch.setenv(name, "")
    assert _environment("job-1") == {SUBMISSION_VARIABLE: "job-1"}
    assert _command("ray_jobs.ingest", SETTINGS).startswith("python -m ray_jobs.ingest ")


def test_settings_travel_in_the_command_itself(capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(_command("ray_jobs.ingest", SETTINGS))
    assert words[1:4] == ["-m", "ray_jobs.ingest", "--settings"]
    told = []

    def tell(settings: IngestSettings, progress: Progress) -> IngestSummary:
        told.append(settings)
        return run(settings, progress)

    job_main(IngestSettings, tell, words[3:])
    assert told == [SETTINGS]


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


def test_a_ray_of_its_own_joins_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name in ("RAY_AUTH_MODE", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_DATA_DISABLE_PROGRESS_BARS", "PYTHONPATH"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda **options: asked.append(options))
    monkeypatch.setattr("ray.shutdown", lambda: None)
    with connect():
        assert asked[0]["address"] == "local"


SUMMARY_LINE = "result " + run(SETTINGS, silent).model_dump_json() + "\n"


class Cluster:
    """A job API: each time the log is followed, as many pieces of it as `breaks` says and then a broken or ended connection."""

    def __init__(self, pieces: list[str], breaks: list[tuple[int, Exception | BaseException | None]], statuses: list[str | Exception]) -> None:
        self.pieces, self.breaks, self.statuses = pieces, iter(breaks), iter(statuses)
        self.stopped: list[str] = []
        self.command = ""
        self.submission_ends_with: BaseException | None = None
        self.stops_in_vain: list[Exception] = []
        self.followed_s = 0.0

    def submit_job(self, entrypoint: str, submission_id: str, runtime_env: dict[str, dict[str, str]]) -> str:
        self.command, self.environment = entrypoint, runtime_env["env_vars"]
        if self.submission_ends_with is not None:
            raise self.submission_ends_with
        return submission_id

    async def tail_job_logs(self, name: str) -> AsyncIterator[str]:
        count, error = next(self.breaks)
        await asyncio.sleep(self.followed_s)
        for piece in self.pieces[:count]:
            yield piece
        if error is not None:
            raise error

    def get_job_status(self, name: str) -> JobStatus:
        status = next(self.statuses)
        if isinstance(status, Exception):
            raise status
        return JobStatus(status)

    def get_job_logs(self, name: str) -> str:
        return "".join(self.pieces)

    def stop_job(self, name: str) -> None:
        if self.stops_in_vain:
            raise self.stops_in_vain.pop()
        self.stopped.append(name)


def submit_to(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, progress: Progress = silent, settings: IngestSettings = SETTINGS) -> dict[str, object]:
    monkeypatch.setattr("ray_jobs.cluster._client", lambda address: cluster)
    monkeypatch.setattr("ray_jobs.cluster.FIRST_PAUSE_S", 0.01)
    return submit("http://127.0.0.1:8265", "ray_jobs.ingest", settings, progress, "job-1")


def test_a_connection_that_breaks_or_ends_early_is_made_again(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pieces = ["hello\nprogress 1/2 a", " b\nprogress 2", "/2\n", SUMMARY_LINE]
    cluster = Cluster(
        pieces,
        [(2, aiohttp.ClientConnectionError()), (2, None), (0, RuntimeError("WebSocket error")), (3, None), (4, None)],
        [ConnectionError("away"), "RUNNING", "PENDING", "RUNNING", "SUCCEEDED"],
    )
    seen: list[tuple[int, int | None, str]] = []
    summary = submit_to(cluster, monkeypatch, lambda done, total=None, note="": seen.append((done, total, note)))
    assert summary["clips"] == 3
    assert seen == [(1, 2, "a b"), (2, 2, "")], "no line is told twice"
    assert capsys.readouterr().err == "hello\n"
    assert cluster.stopped == []


def test_a_result_that_came_after_the_connection_broke_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(["progress 1/1\n", SUMMARY_LINE.removesuffix("\n")], [(1, OSError("reset"))], ["SUCCEEDED"])
    assert submit_to(cluster, monkeypatch)["clips"] == 3


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), SystemExit(1)])
def test_only_an_interrupt_stops_the_job(monkeypatch: pytest.MonkeyPatch, interrupt: BaseException) -> None:
    cluster = Cluster(["progress 1/2\n"], [(1, OSError("reset")), (1, interrupt)], ["RUNNING"])
    with pytest.raises(type(interrupt)):
        submit_to(cluster, monkeypatch)
    assert cluster.stopped == ["job-1"]


def test_a_failed_job_is_its_own_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(JobError, match=r"^The store is full\.$"):
        submit_to(Cluster(["error The store is full.\n"], [(1, None)], ["FAILED"]), monkeypatch)
    with pytest.raises(JobError, match=r"^The job job-1 on http://127\.0\.0\.1:8265 ended as STOPPED; its log there says why\.$"):
        submit_to(Cluster([], [(0, None)], ["STOPPED"]), monkeypatch)


def test_a_cluster_that_stays_away_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_jobs.cluster.PATIENCE_S", 0.05)
    cluster = Cluster([], [(0, OSError("reset"))] * 20, [ConnectionError("nobody answers.\nmore")] * 20)
    with pytest.raises(JobError, match=r"^The Ray cluster at .* no longer answers for the job job-1, which may still run: nobody answers\.$"):
        submit_to(cluster, monkeypatch)
    assert cluster.stopped == []


def test_a_break_after_a_log_was_followed_for_long_is_waited_for_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_jobs.cluster.PATIENCE_S", 0.5)
    cluster = Cluster(
        ["progress 1/2\n", SUMMARY_LINE], [(1, OSError("reset")), (1, None), (2, None)], [ConnectionError("away"), ConnectionError("away"), "SUCCEEDED"]
    )
    cluster.followed_s = 0.6
    assert submit_to(cluster, monkeypatch)["clips"] == 3


UNKNOWN = RuntimeError("Request failed with status code 404: Job job-1 does not exist.")
HALF_THERE = RuntimeError("Request failed with status code 500: Traceback (most recent call last):\n  ...\nTimeoutError.")


@pytest.mark.parametrize("answer", [HALF_THERE, ConnectionError("reset")])
@pytest.mark.parametrize("looks", [["RUNNING"], [ConnectionError("away"), HALF_THERE, "PENDING"]])
def test_a_job_that_was_taken_although_the_answer_was_none_is_followed(
    monkeypatch: pytest.MonkeyPatch, answer: Exception, looks: list[str | Exception]
) -> None:
    cluster = Cluster([SUMMARY_LINE], [(1, None)], [*looks, "SUCCEEDED"])
    cluster.submission_ends_with = answer
    assert submit_to(cluster, monkeypatch)["clips"] == 3


def test_a_job_that_was_not_taken_or_may_have_been_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_jobs.cluster.LOOK_UP_S", 0.05)
    cluster = Cluster([], [], [UNKNOWN])
    cluster.submission_ends_with = RuntimeError("Request failed with status code 400: no such package.")
    with pytest.raises(JobError, match=r"^The Ray cluster at http://127\.0\.0\.1:8265 did not take the job: .* 400: no such package\.$"):
        submit_to(cluster, monkeypatch)
    cluster = Cluster([], [], [ConnectionError("away")] * 20)
    cluster.submission_ends_with = ConnectionError("reset")
    with pytest.raises(JobError, match=r"does not say whether it took the job job-1, which may run: away\.$"):
        submit_to(cluster, monkeypatch)


@pytest.mark.parametrize("in_vain", [[], [UNKNOWN, ConnectionError("away")]], ids=["at once", "once it is known"])
def test_an_interrupt_while_the_cluster_takes_the_job_stops_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], in_vain: list[Exception]
) -> None:
    cluster = Cluster([], [], [])
    cluster.submission_ends_with, cluster.stops_in_vain = KeyboardInterrupt(), list(in_vain)
    with pytest.raises(KeyboardInterrupt):
        submit_to(cluster, monkeypatch)
    assert (cluster.stopped, capsys.readouterr().err) == (["job-1"], "")


@pytest.mark.parametrize(
    ("fault", "said"), [(UNKNOWN, ""), (OSError("away"), "The job job-1 on http://127.0.0.1:8265 could not be stopped and may still run: away.\n")]
)
def test_a_job_that_cannot_be_stopped_is_told_of_unless_it_was_never_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: Exception, said: str
) -> None:
    cluster = Cluster([], [], [])
    cluster.submission_ends_with, cluster.stops_in_vain = KeyboardInterrupt(), [fault] * 9
    with pytest.raises(KeyboardInterrupt):
        submit_to(cluster, monkeypatch)
    assert capsys.readouterr().err == said


RELATIVE = IngestSettings(sources=("films", "s3://b/p"), store="corpus", speakers="/speakers.csv")


def test_a_cluster_on_loopback_gets_absolute_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    cluster = Cluster([SUMMARY_LINE], [(1, None)], ["SUCCEEDED"])
    submit_to(cluster, monkeypatch, settings=RELATIVE)
    told = check_settings(IngestSettings, read_settings(shlex.split(cluster.command)[-1]))
    assert told == RELATIVE.replaced(sources=(f"{tmp_path}/films", "s3://b/p"), store=f"{tmp_path}/corpus")


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "http://localhost:8265", "http://[::1]:8265", "127.0.0.1:8265"])
def test_what_loopback_is(address: str) -> None:
    assert cluster_settings(address, RELATIVE).locations()["speakers"] == ("/speakers.csv",)


@pytest.mark.parametrize("address", ["http://ray.example:8265", "https://10.0.0.7", "ray.example:8265"])
def test_a_cluster_elsewhere_gets_no_relative_paths(address: str) -> None:
    with pytest.raises(SettingsError, match=r"relative ones: sources \(films\), store \(corpus\)\.$"):
        submit(address, "ray_jobs.ingest", RELATIVE, silent)
    with pytest.raises(SettingsError, match=r"store \(~/corpus\)"):
        cluster_settings(address, SETTINGS.replaced(store="~/corpus"))
    assert cluster_settings(address, SETTINGS) == SETTINGS
