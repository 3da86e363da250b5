import subprocess
import sys
import time

import pytest

from tasks.corpus.time_limits import OutOfTimeError, in_time, time_limit_s


def test_the_time_limit_grows_with_the_footage() -> None:
    assert time_limit_s(1800, None) == time_limit_s(1800, 3.0) == time_limit_s(1800, 600.0) == 1800
    assert time_limit_s(1800, 7200.0) == 12 * 1800


def test_what_comes_in_time_passes() -> None:
    assert list(in_time(range(3), time.monotonic(), limit_s=60.0)) == [0, 1, 2]


def test_what_comes_late_ends_it() -> None:
    late = in_time(range(3), time.monotonic() - 61.0, limit_s=60.0)
    with pytest.raises(OutOfTimeError, match="longer than 60 s"):
        next(late)


def in_a_process(code: str) -> subprocess.CompletedProcess[str]:
    code = f"import time\nfrom tasks.corpus.time_limits import hang_guard\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_a_process_that_hangs_is_ended_and_says_where() -> None:
    ended = in_a_process("def stuck():\n    time.sleep(50)\nwith hang_guard(0.3):\n    stuck()")
    assert ended.returncode == 1
    assert "Timeout" in ended.stderr
    assert "in stuck" in ended.stderr


def test_a_process_that_is_done_in_time_lives_on() -> None:
    code = """
with hang_guard(2.0):
    pass
try:
    with hang_guard(2.0):
        raise ValueError
except ValueError:
    pass
time.sleep(2.5)
print("alive")
"""
    ended = in_a_process(code)  # its own: a busy machine may take longer, and then the guard ends the process
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "alive\n", "")
