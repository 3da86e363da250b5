"""Frames made ahead and written behind: in order, bounded, with the errors' own types, and no thread left over."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.dubbing.pipeline import Behind, ahead


class OwnError(Exception):
    """No error that the pipeline knows of."""


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def frames(count: int, fails_at: int | None = None, begun: list[int] | None = None) -> Iterator[int]:
    for number in range(count):
        if begun is not None:
            begun.append(number)
        if number == fails_at:
            raise OwnError(number)
        yield number


def rendered(number: int, fails_at: int | None) -> int:
    if number == fails_at:
        raise OwnError(number)
    return number


def run(count: int, depths: tuple[int, int], reading_fails: int | None, writing_fails: int | None, rendering_fails: int | None) -> tuple[list[int], int | None]:
    """What was written, and at which frame an error came out."""
    written: list[int] = []

    def write(number: int) -> None:
        if number == writing_fails:
            raise OwnError(number)
        written.append(number)

    try:
        with Behind(write, depths[1]) as behind:
            for number in ahead(frames(count, reading_fails), depths[0]):
                behind.put(rendered(number, rendering_fails))
    except OwnError as error:
        return written, error.args[0]
    return written, None


places = st.none() | st.integers(0, 20)


@settings(max_examples=200, deadline=5000)
@given(count=st.integers(0, 20), depths=st.tuples(st.integers(1, 5), st.integers(1, 5)), reading=places, writing=places, rendering=places)
def test_whichever_side_fails_the_error_comes_out_and_nothing_hangs(
    count: int, depths: tuple[int, int], reading: int | None, writing: int | None, rendering: int | None
) -> None:
    written, failed_at = run(count, depths, reading, writing, rendering)
    faults = [place for place in (reading, writing, rendering) if place is not None and place < count]
    assert written == list(range(len(written)))
    if not faults:
        assert (written, failed_at) == (list(range(count)), None)
    else:
        assert failed_at in faults
        assert len(written) <= min(place for place in (reading, writing, rendering, count) if place is not None)


def test_everything_before_an_error_comes_first() -> None:
    items = ahead(frames(10, fails_at=4), 3)
    assert [next(items) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(OwnError):
        next(items)


def test_no_more_than_the_depth_is_made_ahead() -> None:
    begun: list[int] = []
    items = ahead(frames(100, begun=begun), 3)
    for number in range(5):
        assert next(items) == number
        time.sleep(0.02)
        assert max(begun) <= number + 3
    items.close()


def test_who_leaves_early_ends_the_thread_and_closes_the_source() -> None:
    ended = threading.Event()

    def source() -> Iterator[int]:
        try:
            yield from frames(1000)
        finally:
            ended.set()

    for _ in ahead(source(), 4):
        break
    assert ended.is_set()


def test_reading_goes_on_while_the_taker_is_busy() -> None:
    begun: list[int] = []
    items = ahead(frames(9, begun=begun), 4)
    next(items)
    waited_until = time.monotonic() + 5
    while len(begun) < 5 and time.monotonic() < waited_until:
        time.sleep(0.001)
    assert begun == [0, 1, 2, 3, 4]
    items.close()


def test_what_waits_to_be_written_is_bounded() -> None:
    free, written = threading.Event(), []

    def write(number: int) -> None:
        free.wait(5)
        written.append(number)

    with Behind(write, 2) as behind:
        behind.put(0)
        behind.put(1)
        third = threading.Thread(target=behind.put, args=(2,))
        third.start()
        third.join(0.05)
        assert third.is_alive()  # there are two already
        free.set()
        third.join()
    assert written == [0, 1, 2]


def test_a_writers_error_comes_out_of_a_later_put() -> None:
    put: list[int] = []

    def write(number: int) -> None:
        raise OwnError(number)

    def put_all() -> None:
        with Behind(write, 2) as behind:
            for number in range(10):
                behind.put(number)
                put.append(number)

    with pytest.raises(OwnError) as caught:
        put_all()
    assert caught.value.args == (0,)
    assert len(put) <= 2


def test_a_writers_last_error_is_not_lost() -> None:
    def write(number: int) -> None:
        raise OwnError(number)

    with pytest.raises(OwnError), Behind(write, 5) as behind:
        behind.put(0)


def test_ctrl_c_leaves_what_waits_unwritten() -> None:
    free, written = threading.Event(), []

    def write(number: int) -> None:
        free.wait(5)
        written.append(number)

    def interrupted() -> None:
        with Behind(write, 5) as behind:
            for number in range(5):
                behind.put(number)
            threading.Timer(0.05, free.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert written == [0]


@settings(max_examples=200, deadline=5000)
@given(count=st.integers(0, 20), depths=st.tuples(st.integers(1, 5), st.integers(1, 5)), pasting=places, writing=places, rendering=places)
def test_one_behind_another_ends_as_one(count: int, depths: tuple[int, int], pasting: int | None, writing: int | None, rendering: int | None) -> None:
    """Rendered, pasted and written on three threads: the errors of each come out, and what was written is without a gap."""
    written: list[int] = []
    failed_at = None

    def write(number: int) -> None:
        written.append(rendered(number, writing))

    try:
        with Behind(write, depths[0]) as encoded, Behind[int](lambda number: encoded.put(rendered(number, pasting)), depths[1]) as composed:
            for number in range(count):
                composed.put(rendered(number, rendering))
    except OwnError as error:
        failed_at = error.args[0]
    faults = [place for place in (pasting, writing, rendering) if place is not None and place < count]
    assert written == list(range(len(written)))
    assert len(written) <= min([count, *faults])
    assert failed_at in (faults or [None])
    assert faults or len(written) == count


@pytest.mark.parametrize("depth", [0, -1])
def test_a_depth_of_nothing_is_refused(depth: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ahead([], depth)
    with pytest.raises(ValueError, match="at least 1"):
        Behind(print, depth)


ENDLESS_DUB = """
import itertools, sys
from fractions import Fraction
import numpy as np
from tasks.dubbing.pipeline import Behind, ahead
from tasks.interruption import Interruption, interrupted_by_signals
from tasks.media.encode import VideoWriter

pictures = (np.full((48, 64, 3), number % 256, np.uint8) for number in itertools.count())
try:
    with interrupted_by_signals(), VideoWriter(sys.argv[1], 64, 48, Fraction(25)) as writer, Behind(writer.write, 4) as behind:
        for number, picture in enumerate(ahead(pictures, 4)):
            behind.put(picture)
            if number == 20:
                print("at work", flush=True)
except Interruption as interruption:
    sys.exit(interruption.exit_code)
"""


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_dub_that_is_stopped_leaves_nothing(tmp_path: Path, sent: signal.Signals) -> None:
    command = [sys.executable, "-c", ENDLESS_DUB, str(tmp_path / "dub.mp4")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        assert [path.name.startswith(".dub.") for path in tmp_path.iterdir()] == [True]
        process.send_signal(sent)
        _, complaint = process.communicate(timeout=30)
    assert (process.returncode, complaint) == (128 + sent, "")
    assert list(tmp_path.iterdir()) == []
