"""A bulk run's page finds the dubs wherever the run's folder is named from."""

from pathlib import Path

import pytest

from tasks.report.dubs import _found


@pytest.mark.parametrize("said", ["dubs/good.mp4", "good.mp4", "/elsewhere/dubs/good.mp4"])
def test_a_dub_is_found_below_its_run(tmp_path: Path, said: str) -> None:
    (tmp_path / "dubs").mkdir()
    (tmp_path / "dubs" / "good.mp4").touch()
    assert Path(_found(said, str(tmp_path / "dubs"))) == tmp_path / "dubs" / "good.mp4"


def test_a_relative_place_that_is_there_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "good.mp4").touch()
    monkeypatch.chdir(tmp_path)
    assert _found("good.mp4", "dubs") == "good.mp4"
