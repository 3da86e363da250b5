"""What is kept of a source. Mostly a made-up detector: only when and why it ends matters here."""

import os
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from schemas.errors import MediaError
from schemas.jobs import PlannedSource
from schemas.reasons import Reason
from schemas.settings import IngestSettings
from tasks.corpus.clip import CONTENT_HASH_LENGTH, Clip, Reject, cut_source
from tasks.corpus.discover import discover
from tasks.corpus.speakers import SpeakerList
from tasks.faces.detect import FaceFinder
from tasks.file_hash import file_hash
from tasks.media.decode import Frame, read_frames
from tasks.media.encode import Sound, VideoWriter
from tests.footage import SAMPLE_RATE, loudness, make_talking_clip, portrait, speech_like_sound, talking_picture

POINTS = np.random.default_rng(0).uniform(60, 180, (131, 2))


class MadeUpFinder:
    """Finds the same faces in every picture."""

    def __init__(self, *faces: npt.NDArray[np.float64]) -> None:
        self.faces = list(faces or (POINTS,))
        self.clips = 0

    def find(self, picture: npt.NDArray[np.uint8], known: Sequence[npt.NDArray[np.float64]]) -> list[npt.NDArray[np.float64]]:
        return self.faces

    def forget(self) -> None:
        pass

    def count_clip(self) -> None:
        self.clips += 1


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
    pieces = list(cut_source(source, settings(source), MadeUpFinder()))
    assert outcome(iter(pieces)) == [25, 25, 10]
    assert [(piece.segment.start_frame, piece.clip_id[16:]) for piece in pieces if isinstance(piece, Clip)] == [(0, "-s0t0"), (25, "-s1t0"), (50, "-s2t0")]


def test_a_time_limit_leaves_nothing_that_depends_on_the_load(source: PlannedSource, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr("tasks.corpus.clip.time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr("tasks.corpus.time_limits.time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert outcome(cut_source(source, settings(source, clip_time_limit_s=40.0), MadeUpFinder())) == [Reason.TIME_LIMIT]


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
    pieces = outcome(cut_source(source, settings(source), MadeUpFinder()))
    assert pieces == kept


def test_an_actor_decodes_on_one_core(source: PlannedSource, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def frames(*arguments: object, threads: int | None = None) -> Iterator[Frame]:
        asked.append(threads)
        return read_frames(*arguments, threads=threads)  # type: ignore[arg-type]

    monkeypatch.setattr("tasks.corpus.clip.read_frames", frames)
    list(cut_source(source, settings(source), MadeUpFinder()))
    assert asked == [1]


def test_links_in_circles_and_names_that_are_not_utf8_are_missing(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").symlink_to(tmp_path / "a.mp4")
    Path(os.fsdecode(bytes(tmp_path) + b"/\xff.mp4")).touch()
    sources = list(discover((str(tmp_path),), SpeakerList()))
    rejects = [piece for source in sources for piece in cut_source(source, settings(source), MadeUpFinder()) if isinstance(piece, Reject)]
    assert [(reject.stage, reject.reason) for reject in rejects] == [("probe", Reason.MISSING)] * 2
    assert "leads in circles" in rejects[0].detail
    assert r"\xff.mp4 is not UTF-8; rename it" in rejects[1].detail


def test_a_forgotten_source_is_turned_away_before_it_is_decoded(source: PlannedSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.corpus.clip.read_frames", frames_until(RuntimeError("decoded"), 0))
    forgotten = frozenset({file_hash(Path(source.uri))[:CONTENT_HASH_LENGTH]})
    assert outcome(cut_source(source, settings(source), MadeUpFinder(), forgotten)) == [Reason.FORGOTTEN]


def test_a_single_forgotten_clip_does_not_come_back_and_the_others_do(source: PlannedSource) -> None:
    whole = list(cut_source(source, settings(source), MadeUpFinder()))
    forgotten = frozenset({str(whole[1].clip_id)})
    left = list(cut_source(source, settings(source), MadeUpFinder(), forgotten))
    assert outcome(iter(left)) == [25, Reason.FORGOTTEN, 10]
    assert [piece.clip_id for piece in left] == [piece.clip_id for piece in whole]
    assert left[2].segment.start_frame == whole[2].segment.start_frame == 50
    assert left[2].segment.frames[0].picture == whole[2].segment.frames[0].picture


def test_a_clip_knows_its_file_and_each_is_counted(source: PlannedSource) -> None:
    finder = MadeUpFinder()
    pieces = [piece for piece in cut_source(source, settings(source), finder) if isinstance(piece, Clip)]
    assert [piece.path for piece in pieces] == [Path(source.uri)] * 3
    assert finder.clips == 3


LARGE, SMALL = POINTS * 0.5 + (100.0, 100.0), POINTS * 0.3


@pytest.mark.parametrize(
    ("speaker", "expected"),
    [
        ("largest", [25, Reason.OTHER_FACE, 25, Reason.OTHER_FACE, 10, Reason.OTHER_FACE]),
        ("all", [25, 25, 25, 25, 10, 10]),
    ],
)
def test_of_two_faces_as_many_become_clips_as_asked_for(source: PlannedSource, speaker: str, expected: list[object]) -> None:
    pieces = list(cut_source(source, settings(source, speaker=speaker), MadeUpFinder(LARGE, SMALL)))
    assert outcome(iter(pieces)) == expected
    assert [(piece.clip_id or "")[16:] for piece in pieces] == ["-s0t0", "-s0t1", "-s1t0", "-s1t1", "-s2t0", "-s2t1"]
    assert all(piece.stage == "clip" for piece in pieces if isinstance(piece, Reject))


def test_of_two_faces_the_one_whose_lips_move_with_the_sound_speaks(tmp_path: Path) -> None:
    """A large face whose mouth moves at its own pace beside a smaller one that moves with the sound."""
    path, seconds, sound_seed = tmp_path / "pair.mp4", 3.0, 0
    sound = Sound(speech_like_sound(seconds, sound_seed)[:, None], SAMPLE_RATE)
    large, small = portrait((256, 256)), portrait((200, 200))
    with VideoWriter(str(path), 512, 256, Fraction(25), sound) as writer:
        for index in range(round(seconds * 25)):
            picture = np.full((256, 512, 3), 90, dtype=np.uint8)
            picture[:, :256] = talking_picture(large, 0.5 + 0.5 * float(np.sin(index * 0.31)), 0.0)
            picture[20:220, 280:480] = talking_picture(small, 2 * float(loudness(np.array(index / 25), sound_seed)), 0.0)
            writer.write(picture)
    (pair,) = discover((str(path),), SpeakerList())
    middles = {}
    for speaker in ("largest", "moving-lips"):
        chosen = settings(pair, speaker=speaker, segment_s=10.0)
        with FaceFinder(chosen.cutting) as finder:
            (clip,) = [piece for piece in cut_source(pair, chosen, finder) if isinstance(piece, Clip)]
        middles[speaker] = (clip.segment.frames[0].box.x0 + clip.segment.frames[0].box.x1) / 2
    assert middles["largest"] < 256 < middles["moving-lips"]


def with_a_cut(path: Path) -> PlannedSource:
    """A face for 30 frames, then after a cut the same face on another ground for 30."""
    sound = Sound(speech_like_sound(2.4)[:, None], SAMPLE_RATE)
    with VideoWriter(str(path), 256, 256, Fraction(25), sound) as writer:
        for index in range(60):
            head = portrait((256, 256))
            writer.write(head if index < 30 else cv2.bitwise_not(head))
    return next(discover((str(path),), SpeakerList()))


def test_no_clip_crosses_a_cut_unless_none_are_looked_for(tmp_path: Path) -> None:
    source = with_a_cut(tmp_path / "cut.mp4")
    starts = [piece.segment.start_frame for piece in cut_source(source, settings(source, segment_s=10.0), MadeUpFinder()) if isinstance(piece, Clip)]
    assert starts == [0, 30]
    uncut = IngestSettings(sources=(source.uri,), store="unused", scene_threshold=None)
    assert outcome(cut_source(source, uncut, MadeUpFinder())) == [60]


def test_two_speakers_of_an_interview_are_two_tracks_throughout(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.corpus.clip.read_frames", partial(read_frames, stop_frame=60))
    (source,) = discover((str(shared / "data/hard/x02_two_faces_interview.mp4"),), SpeakerList())
    chosen = settings(source, segment_s=10.0, speaker="all")
    with FaceFinder(chosen.cutting) as finder:
        pieces = list(cut_source(source, chosen, finder))
    assert outcome(iter(pieces)) == [60, 60]
