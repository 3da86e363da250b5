"""The work of `ray_jobs.ingest` with sources that kill: in a module of its own, because Ray's workers import it by name.

A source called DEADLY ends whatever process cuts it, as a crash in a decoder would; one called ONCE does so only the first time, as a
machine that is taken away; one called STUCK never comes to an end.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ray_jobs import ingest
from schemas.jobs import PlannedSource
from schemas.settings import IngestSettings
from tasks.corpus import batch
from tasks.corpus.clip import Clip, Reject, cut_source
from tasks.faces.detect import FaceFinder

DEADLY, ONCE, STUCK = "deadly", "once", "stuck"
HANG_S = 60.0
BOARD_DIED = "DUBMILL_TEST_BOARD_DIED"
"""The environment variable that names a file which is there once a board has died."""


def arm() -> None:
    """In this process sources whose URIs hold one of the words end it."""
    batch.cut_source = cut_or_die


def cut_or_die(source: PlannedSource, settings: IngestSettings, finder: FaceFinder, forgotten: frozenset[str]) -> Iterator[Clip | Reject]:
    died = Path(source.uri + ".died")
    if DEADLY in source.uri or (ONCE in source.uri and not died.exists()):
        died.touch()
        os._exit(1)
    if STUCK in source.uri:
        time.sleep(HANG_S)
    yield from cut_source(source, settings, finder, forgotten)


class BatchActor(ingest.BatchActor):
    """Writes batches; some sources kill it."""

    def __init__(self, settings: str, board: Any = None) -> None:
        super().__init__(settings, board)
        arm()


class Board(ingest.Board):
    """A board whose process ends once: at the first source that is put on it."""

    def begin(self, batch: str, position: int) -> None:
        """As ingest.Board.begin."""
        died = Path(os.environ[BOARD_DIED])
        if not died.exists():
            died.touch()
            os._exit(1)
        super().begin(batch, position)
