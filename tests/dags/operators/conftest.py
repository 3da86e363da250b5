"""What the tests of the operators share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dags.operators.one_task import Run, one_task


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    with one_task(tmp_path, monkeypatch) as run:
        yield run
