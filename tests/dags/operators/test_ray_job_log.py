"""Each line of a job's log once, whatever the log does, and little of it read at each look."""

import asyncio
import itertools
import random
import re
import time
from typing import cast

import pytest

from dags.operators import ray_job_log
from dags.operators.ray_job_log import JobLog
from dags.operators.ray_jobs_api import RayJob, RayJobsApi

RUNNING, OVER = RayJob("job", "RUNNING", node="n"), RayJob("job", "SUCCEEDED", node="n")


class Log:
    """A log that grows, and Ray's answer about it: its last so many lines."""

    def __init__(self, content: bytes = b"") -> None:
        self.content = content
        self.asked: list[int] = []
        self.sent = 0
        self.is_away = False

    async def log_end(self, _: RayJob, lines: int) -> bytes | None:
        self.asked.append(lines)
        if self.is_away:
            return None
        answer = b"".join(re.findall(rb"[^\n]*\n|[^\n]+$", self.content)[-lines:])
        self.sent += len(answer)
        return answer

    def reader(self, shown_bytes: int = 0) -> JobLog:
        return JobLog(cast(RayJobsApi, self), shown_bytes)


def look(reader: JobLog, job: RayJob = RUNNING) -> list[str] | None:
    reader._due_at = 0.0
    return asyncio.run(reader.new_lines(job))


def numbered(first: int, last: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(first, last))


def test_lines_come_once_each_and_a_half_one_when_it_is_whole() -> None:
    log = Log(b"one\ntwo\nthr")
    reader = log.reader()
    assert look(reader) == ["one", "two"]
    log.content += b"ee\nfo"
    assert look(reader) == ["three"]
    assert look(reader) == []
    log.content += b"ur"
    assert look(reader, OVER) == ["four"]


def test_a_long_log_is_read_whole_once_and_then_its_end_alone() -> None:
    log = Log(numbered(0, 20_000))
    reader = log.reader()
    assert len(look(reader) or []) == 20_000
    whole = log.sent
    for first in range(20_000, 20_050, 10):
        log.content += numbered(first, first + 10)
        assert look(reader) == [f"line {number}" for number in range(first, first + 10)]
    assert log.asked[1:] == [200] * 5
    assert log.sent - whole < whole / 10


def test_what_came_since_is_found_even_when_it_is_more_than_the_first_window() -> None:
    log = Log(numbered(0, 300))
    reader = log.reader()
    look(reader)
    log.content += numbered(300, 1500)
    assert look(reader) == [f"line {number}" for number in range(300, 1500)]
    assert log.asked[1:] == [200, 5000]


def test_lines_that_are_all_alike_are_counted() -> None:
    log = Log(b"tick\n" * 7_000)
    reader = log.reader()
    assert len(look(reader) or []) == 7_000
    log.content += b"tick\n" * 3
    assert look(reader) == ["tick"] * 3


def test_another_reader_goes_on_from_where_one_has_left_and_then_reads_the_end_alone() -> None:
    log = Log(numbered(0, 6_000))
    first = log.reader()
    look(first)
    log.content += numbered(6_000, 6_005) + b"half"
    second = log.reader(first.shown_bytes)
    assert look(second) == [f"line {number}" for number in range(6_000, 6_005)]
    third = log.reader(second.shown_bytes)
    assert look(third) == []
    log.content += b" a line\n"
    assert look(third) == ["half a line"]
    assert log.asked[-1] == 200


def test_a_log_beyond_all_windows_says_that_lines_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_job_log, "WINDOWS_LINES", (5, 20))
    monkeypatch.setattr(ray_job_log, "ANCHOR_BYTES", 16)
    log = Log(numbered(0, 10))
    reader = log.reader()
    look(reader)
    log.content += numbered(10, 60)
    lines = look(reader) or []
    assert lines[0].startswith("(The job has printed more than can be followed")
    assert lines[1:] == [f"line {number}" for number in range(40, 60)]
    log.content += b"next\n"
    assert look(reader) == ["next"]


def test_another_reader_of_a_log_beyond_all_windows_does_not_show_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_job_log, "WINDOWS_LINES", (5, 20))
    monkeypatch.setattr(ray_job_log, "ANCHOR_BYTES", 16)
    monkeypatch.setattr(ray_job_log, "RESUMED_LINES", 3)
    log = Log(numbered(0, 60) + b"half")
    reader = log.reader(shown_bytes=200)
    lines = look(reader) or []
    assert lines[0].startswith("(Another process follows the job from here")
    assert lines[1:] == ["line 57", "line 58", "line 59"]
    log.content += b" a line\nnext\n"
    assert look(reader) == ["half a line", "next"]
    assert log.asked == [20, 5]


def test_of_a_progress_bar_the_last_state_is_shown_and_bytes_that_are_no_text_do_no_harm() -> None:
    log = Log(b" 10%\r 50%\r100%\nwindows\r\nbr\xffken\n")
    assert look(log.reader()) == ["100%", "windows", "br�ken"]


def test_a_log_that_is_away_is_none_and_nothing_of_it_is_lost() -> None:
    log = Log(b"one\n")
    reader = log.reader()
    log.is_away = True
    assert look(reader) is None
    log.is_away = False
    assert look(reader) == ["one"]


def test_a_job_that_prints_nothing_is_looked_at_less_and_less_often() -> None:
    log = Log(b"one\n")
    reader = JobLog(cast(RayJobsApi, log), pause_s=0.05)
    until = time.monotonic() + 1.5

    async def follow() -> None:
        while time.monotonic() < until:
            await reader.new_lines(RUNNING)
            await asyncio.sleep(0.01)

    asyncio.run(follow())
    assert 3 <= len(log.asked) <= 6  # after 0.05, 0.1, 0.2, 0.4, 0.8 s


def test_a_look_that_brought_much_is_followed_by_a_pause() -> None:
    log = Log(b"a\n" * 50_000)
    reader = log.reader()

    async def two_looks() -> list[str] | None:
        await reader.new_lines(RUNNING)
        return await reader.new_lines(RUNNING)

    asyncio.run(two_looks())
    assert len(log.asked) == 1
    assert 0.5 < reader._due_at - time.monotonic() <= 1.0  # 100 kB at 100 kB a second


@pytest.mark.parametrize("seed", range(20))
def test_a_random_log_seen_by_readers_that_come_and_go_is_shown_line_by_line(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_job_log, "WINDOWS_LINES", (3, 12, 100_000))
    monkeypatch.setattr(ray_job_log, "ANCHOR_BYTES", 40)
    chance = random.Random(seed)
    log = Log()
    reader, shown = log.reader(), list[str]()
    for number in range(60):
        pieces = ["ä", "\n", "\n", "tick\n", f"line {number}\n", f"half a line {number}"]
        log.content += "".join(chance.choice(pieces) for _ in range(chance.choice([0, 1, 5, 40]))).encode()
        if chance.random() < 0.1:
            reader = log.reader(reader.shown_bytes)
        shown += look(reader) or []
    shown += look(reader, OVER) or []
    assert shown == log.content.decode().removesuffix("\n").split("\n")


def test_ray_reads_the_end_of_a_file_as_it_is_taken_for_here() -> None:
    """The one thing that is assumed of Ray: a last line without an end counts as a line. Its own test is the one against a real head."""
    for content, lines in itertools.product((b"", b"a", b"a\n", b"a\nb", b"a\nb\n"), (1, 2, 3)):
        answer = asyncio.run(Log(content).log_end(RUNNING, lines))
        assert answer is not None
        assert ray_job_log._line_count(answer) <= lines
