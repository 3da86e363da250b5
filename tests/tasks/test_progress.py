"""Progress in a log: seldom, and always the last line of the work."""

import io

from tasks.progress import ProgressLines


def test_lines_are_seldom_and_the_last_is_always_there() -> None:
    log = io.StringIO()
    progress = ProgressLines("ingest", every_s=3600, stream=log)
    for done in range(4):
        progress(done, 3, "clips")
    assert log.getvalue().splitlines() == ["ingest 0/3 clips", "ingest 3/3 clips"]


def test_a_total_that_is_not_known_is_a_question_mark() -> None:
    log = io.StringIO()
    ProgressLines("ingest", stream=log)(7)
    assert log.getvalue() == "ingest 7/?\n"
