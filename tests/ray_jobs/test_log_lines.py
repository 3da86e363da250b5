"""Log lines of jobs: the ids of what they belong to, no secrets, and nothing in the way of a job's own lines."""

import json
import logging
import sys
from datetime import datetime, timedelta
from io import StringIO

import pytest
from structlog.contextvars import bound_contextvars

from ray_jobs.cluster import _LogFollower
from ray_jobs.job import job_main
from ray_jobs.log_lines import configure_logs, formatter
from schemas.job_log import DAG_RUN_VARIABLE, ERROR_PREFIX, LOG_VARIABLE, PROGRESS_PREFIX, RESULT_PREFIX, SUBMISSION_VARIABLE
from schemas.settings import IngestSettings
from tasks.progress import silent
from tests.ray_jobs import test_job

JOB = {SUBMISSION_VARIABLE: "ingest_corpus.ingest.0a1b.g0.a1", DAG_RUN_VARIABLE: "ingest_corpus/scheduled__2026/ingest"}
AS_JSON = JOB | {LOG_VARIABLE: "json"}


class Lines:
    """A logger whose lines are kept."""

    def __init__(self, environment: dict[str, str], job: str = "ingest") -> None:
        self.stream = StringIO()
        handler = logging.StreamHandler(self.stream)
        handler.setFormatter(formatter(job, environment))
        self.logger = logging.Logger("tasks.corpus.batch", logging.INFO)  # noqa: LOG001 - one that no other test meets
        self.logger.addHandler(handler)

    def all(self) -> list[str]:
        return self.stream.getvalue().splitlines()


def test_a_json_line_says_when_how_grave_where_what_and_of_which_job_and_clip() -> None:
    lines = Lines(AS_JSON)
    with bound_contextvars(batch="b0", clip_id="0123456789abcdef-s0t0"):
        lines.logger.warning("%d frames of %s", 3, "李")
    lines.logger.info("after it")
    first, second = map(json.loads, lines.all())
    told = datetime.fromisoformat(first.pop("timestamp"))
    assert abs(datetime.now(told.tzinfo) - told) < timedelta(minutes=1)
    assert told.utcoffset() == timedelta(0)
    of_job = {"submission": JOB[SUBMISSION_VARIABLE], "dag_run": JOB[DAG_RUN_VARIABLE], "job": "ingest"}
    assert first == of_job | {
        "level": "warning", "logger": "tasks.corpus.batch", "event": "3 frames of 李", "batch": "b0", "clip_id": "0123456789abcdef-s0t0",
    }  # fmt: skip
    assert second.keys() - {"timestamp"} == of_job.keys() | {"level", "logger", "event"}


def test_a_plain_line_is_for_people_and_ends_with_the_piece_of_work() -> None:
    lines = Lines(JOB)
    with bound_contextvars(job_id="monday"):
        lines.logger.warning("It took long.")
    lines.logger.info("Done.")
    assert lines.all() == ["WARNING tasks.corpus.batch: It took long. [job_id=monday]", "INFO tasks.corpus.batch: Done."]


def fetch() -> None:
    raise OSError("s3://key:hidden@bucket/film.mp4 is away")


def fail(lines: Lines) -> None:
    try:
        fetch()
    except OSError:
        lines.logger.exception("It failed")


@pytest.mark.parametrize("environment", [JOB, AS_JSON])
def test_secrets_in_uris_are_in_no_line(environment: dict[str, str]) -> None:
    lines = Lines(environment)
    with bound_contextvars(source="s3://key:hidden@bucket/a.mp4", tried={"at": ["https://films/b.mp4?X-Signature=hidden"]}):
        lines.logger.info("%s and %s", "s3://key:hidden@bucket/c.mp4", {"d": "https://films/d.mp4?token=hidden"})
        fail(lines)
    said = lines.stream.getvalue()
    assert "hidden" not in said
    assert "s3://bucket/a.mp4" in said
    assert "s3://bucket/film.mp4 is away" in said


def test_a_trace_is_a_part_of_its_json_line_and_stands_below_a_plain_one() -> None:
    as_json, plain = Lines(AS_JSON), Lines(JOB)
    fail(as_json)
    fail(plain)
    [line] = as_json.all()
    assert "Traceback" in json.loads(line)["exception"]
    assert plain.all()[1].startswith("Traceback")


def test_no_log_line_is_taken_for_a_line_of_the_job() -> None:
    seen: list[object] = []
    follower = _LogFollower(lambda *told: seen.append(told))
    for environment in (JOB, AS_JSON):
        lines = Lines(environment)
        for prefix in (PROGRESS_PREFIX, RESULT_PREFIX, ERROR_PREFIX):
            lines.logger.info('%s1/2 {"a": 1}', prefix)
        for line in lines.all():
            follower.read(line)
    assert (seen, follower.result, follower.error) == ([], None, None)


def test_ray_s_own_handlers_give_way_and_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private.log import PlainRayHandler

    other = logging.NullHandler()
    monkeypatch.setattr(logging.getLogger(), "handlers", [PlainRayHandler(), other])
    configure_logs("dub")
    assert logging.getLogger().handlers[0] is other
    assert [type(handler).__module__ for handler in logging.getLogger().handlers[1:]] == ["ray_jobs.log_lines"]


def test_a_job_sets_up_its_own_lines_once_and_names_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in AS_JSON.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])

    def run(settings: IngestSettings, progress: object) -> object:
        configure_logs("ingest")  # as an actor in the same process would
        logging.getLogger("tasks").info("at work")
        return test_job.run(settings, silent)

    job_main(IngestSettings, run, ["--settings", "data:text/yaml,store: s"])
    out, err = capsys.readouterr()
    [line] = err.splitlines()
    assert (json.loads(line)["event"], json.loads(line)["job"]) == ("at work", "test_log_lines")
    assert out.splitlines()[-1].startswith(RESULT_PREFIX)
    assert sys.stderr is not None
