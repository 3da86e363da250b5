"""What is kept of a source. A made-up detector: only when and why it ends matters here."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest

from schemas.errors import MediaError
from schemas.jobs import PlannedSource
from schemas.reasons import Reason
from schemas.settings import IngestSettings
from tasks.corpus.clip import Clip, Reject, cut_source, time_limit_s
from tasks.corpus.discover import discover
from tasks.corpus.speakers import SpeakerList
from tasks.media.decode import Frame, read_frames
from tests.footage import make_talking_clip

POINTS = np.random.default_rng(0).uniform(60, 180, (131, 2))


def find(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    return POINTS


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> PlannedSource:
    path = make_talking_clip(tmp_path_factory.mktemp("clip") / "long.mp4", seconds=2.4)
    return next(discover((str(path),), SpeakerList()))


def settings(source: PlannedSource, **changes: object) -> IngestSettings:
    return IngestSettings(sources=(source.uri,), store="unused", segment_s=1.0).replaced(**changes)


def outcome(pieces: Iterator[Clip | Reject]) -> list[int | Reason]:
    """Frames of clips, reasons of rejects."""
    return [len(piece.segment.frames) if isinstance(piece, Clip) else piece.reason for piece in pieces]


def frames_until(error: Exception, count: int) -> Callable[..., Iterator[Frame]]:
    """A stand-in for read_frames that fails after so many."""

    def frames(*arguments: object, **options: object) -> Iterator[Frame]:
        yield from read_frames(*arguments, **options, stop_frame=count)  # type: ignore[arg-type, misc]
        raise error

    return frames


def test_a_whole_source_gives_its_segments_in_order(source: PlannedSource) -> None:
    pieces = list(cut_source(source, settings(source), find))
    assert outcome(iter(pieces)) == [25, 25, 10]
    assert [(piece.segment.start_frame, piece.clip_id[16:]) for piece in pieces if isinstance(piece, Clip)] == [(0, "-s0t0"), (25, "-s1t0"), (50, "-s2t0")]


def test_a_time_limit_leaves_nothing_that_depends_on_the_load(source: PlannedSource, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr("tasks.corpus.clip.time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert outcome(cut_source(source, settings(source, clip_time_limit_s=40.0), find)) == [Reason.TIME_LIMIT]


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (MediaError(Reason.UNREADABLE, "the share went away"), [Reason.UNREADABLE]),
        (OSError(5, "Input/output error"), [Reason.UNREADABLE]),
        (RuntimeError("the detector fell over"), [Reason.INTERNAL]),
        (MediaError(Reason.DAMAGED, "the rest is noise"), [25, 15, Reason.DAMAGED]),
    ],
)
def test_only_what_a_later_try_would_not_better_is_kept(source: PlannedSource, monkeypatch: pytest.MonkeyPatch, error: Exception, kept: list[object]) -> None:
    monkeypatch.setattr("tasks.corpus.clip.read_frames", frames_until(error, 40))
    pieces = outcome(cut_source(source, settings(source), find))
    assert pieces == kept


def test_the_time_limit_grows_with_the_footage() -> None:
    assert time_limit_s(1800, None) == time_limit_s(1800, 3.0) == time_limit_s(1800, 600.0) == 1800
    assert time_limit_s(1800, 7200.0) == 12 * 1800


def test_an_actor_decodes_on_one_core(source: PlannedSource, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def frames(*arguments: object, threads: int | None = None) -> Iterator[Frame]:
        asked.append(threads)
        return read_frames(*arguments, threads=threads)  # type: ignore[arg-type]

    monkeypatch.setattr("tasks.corpus.clip.read_frames", frames)
    list(cut_source(source, settings(source), find))
    assert asked == [1]


def test_links_in_circles_and_names_that_are_not_utf8_are_missing(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").symlink_to(tmp_path / "a.mp4")
    Path(os.fsdecode(bytes(tmp_path) + b"/\xff.mp4")).touch()
    sources = list(discover((str(tmp_path),), SpeakerList()))
    rejects = [piece for source in sources for piece in cut_source(source, settings(source), find) if isinstance(piece, Reject)]
    assert [(reject.stage, reject.reason) for reject in rejects] == [("probe", Reason.MISSING)] * 2
    assert "leads in circles" in rejects[0].detail
    assert r"\xff.mp4 is not UTF-8; rename it" in rejects[1].detail
