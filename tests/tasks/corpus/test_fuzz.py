"""Damaged files: whatever a file is like, a source ends in readable clips and typed rejects, in bounded time and memory."""

import json
import multiprocessing
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import numpy as np
import pytest

from schemas.jobs import PlannedSource
from schemas.reasons import Reason
from schemas.settings import IngestSettings
from tasks.corpus.clip import Clip, Reject, cut_source
from tests.damage import KINDS, damage, make_originals

POINTS = np.random.default_rng(0).uniform(60, 180, (131, 2))
SOURCE_LIMIT_S = 10.0
"""The time limit of a source; TIME_LIMIT is an answer like others, but a rare one is asked for."""
HANG_S = 60.0
"""A worker that takes longer hangs. A source that goes over its own limit of 10 s is turned away long before."""
MEMORY_BYTES = 2 * 2**30
"""What a worker may take besides the libraries it has loaded."""
MOST_TIME_LIMITS = 0.02
"""Share of variants that may run into the time limit."""
EVERY_DAY = 12
SOAK_VARIANTS = 500
SOAK_PARTS = 10
SHARED_CLIPS = (
    "corpus/c24_woman_white_512_24fps.mp4",
    "corpus/c25_man_glasses_syncnet_example_224.avi",
    "corpus/c26_vidtimit_fadg0_512x384.mp4",
    "corpus/c28_grid_bbaf2n_360x288.mpg",
    "corpus/c30_grid_lbax4n_360x288.mpg",
    "hard/x15_50fps_two_seconds.mp4",
    "hard/x16_one_second_clip.mp4",
)
"""Short ones of every container, since all of a clip is decoded."""
OFTEN = ("absurd_header", "header_bits_flipped", "body_bits_flipped", "truncated")
VARIANT_KINDS = (*KINDS, *OFTEN, *OFTEN, "absurd_header", "absurd_header", "wrong_extension")

multiprocessing_context = multiprocessing.get_context("forkserver")
multiprocessing_context.set_forkserver_preload(["tests.tasks.corpus.test_fuzz"])


@dataclass
class Outcome:
    """What became of a variant."""

    name: str
    pieces: list[str] = field(default_factory=list)
    seconds: float = 0.0
    memory_mb: float = 0.0
    fault: str = ""


class FixedFace:
    """A face that is there in every picture: the decoder is what is tried here."""

    def find(self, picture: np.ndarray, known: object = ()) -> list[np.ndarray]:
        return [POINTS]

    def forget(self) -> None:
        """Nothing is remembered."""

    def count_clip(self) -> None:
        """Never made anew."""


def variant(originals: list[Path], number: int, folder: Path) -> Path:
    """The damaged file of that number; its name says how to have it again."""
    original = originals[number % len(originals)]
    kind = VARIANT_KINDS[(number // len(originals)) % len(VARIANT_KINDS)]
    content, suffix = damage(original.read_bytes(), kind, number, original.suffix)
    path = folder / f"{number:04d}-{kind}-{original.stem}-was{original.suffix.replace('.', '-')}{suffix}"
    path.write_bytes(content)
    return path


def cut_in_worker(path: str, sender: Connection) -> None:
    """Cuts a source as an actor does, and says what came of it."""
    used_bytes = _status_kb("VmSize") * 1024
    resource.setrlimit(resource.RLIMIT_AS, (used_bytes + MEMORY_BYTES, resource.RLIM_INFINITY))
    cv2.setNumThreads(1)
    before_kb, began_s = _status_kb("VmRSS"), time.monotonic()
    source = PlannedSource(uri=path, size=0, version="", speaker="a")
    settings = IngestSettings(store="unused", clip_time_limit_s=SOURCE_LIMIT_S)
    pieces = [_said(piece) for piece in cut_source(source, settings, FixedFace())]
    memory_mb = (_status_kb("VmHWM") - before_kb) / 1024
    sender.send_bytes(json.dumps({"pieces": pieces, "seconds": time.monotonic() - began_s, "memory_mb": memory_mb}).encode())


def _said(piece: Clip | Reject) -> str:
    if isinstance(piece, Reject):
        return piece.reason.value + (f": {piece.detail}" if piece.reason is Reason.INTERNAL else "")
    frames = piece.segment.frames
    readable = all(cv2.imdecode(np.frombuffer(frame.picture, np.uint8), cv2.IMREAD_COLOR) is not None for frame in frames)
    whole = len(piece.waveform) == 640 * len(frames) and bool(np.isfinite(piece.waveform).all())
    return "clip" if readable and whole else "unreadable clip"


def _status_kb(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def cut(path: Path) -> Outcome:
    """What becomes of a file in a worker of its own: a crash or a hang is seen as such."""
    receiver, sender = multiprocessing_context.Pipe(duplex=False)
    worker = multiprocessing_context.Process(target=cut_in_worker, args=(str(path), sender))
    worker.start()
    sender.close()
    try:
        if not receiver.poll(HANG_S):
            return Outcome(path.name, fault=f"hangs: no answer in {HANG_S:.0f} s")
        return Outcome(path.name, **json.loads(receiver.recv_bytes()))
    except EOFError:
        worker.join()
        return Outcome(path.name, fault=f"crashes: the worker ended with {worker.exitcode}")
    finally:
        worker.kill()
        worker.join()
        receiver.close()


def faults(outcomes: list[Outcome]) -> list[str]:
    """What must not be: crashes, hangs, errors of ours, nothing at all, clips that cannot be read."""
    return [f"{outcome.name}: {fault}" for outcome in outcomes for fault in _faults(outcome)]


def _faults(outcome: Outcome) -> Iterator[str]:
    if outcome.fault or not outcome.pieces:
        yield outcome.fault or "neither a clip nor a reject"
    yield from (piece for piece in outcome.pieces if piece.startswith((Reason.INTERNAL.value, "unreadable clip")))


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_originals(tmp_path_factory.mktemp("originals"))


def test_the_originals_themselves_become_clips(originals: list[Path]) -> None:
    assert [cut(path).pieces for path in originals] == [["clip"]] * len(originals)


def test_a_damaged_file_is_the_same_each_time(originals: list[Path], tmp_path: Path) -> None:
    for kind in (*KINDS, "wrong_extension"):
        content = originals[0].read_bytes()
        again = damage(content, kind, 3, ".mp4")
        assert damage(content, kind, 3, ".mp4") == again != damage(content, kind, 4, ".mp4") or kind == "emptied"
        assert again != (content, ".mp4")


@pytest.mark.parametrize("number", range(EVERY_DAY))
def test_damage_gives_clips_or_typed_rejects(originals: list[Path], tmp_path: Path, number: int) -> None:
    # One of each kind, each of another container.
    path = tmp_path / f"damaged{originals[number % len(originals)].suffix}"
    content, suffix = damage(originals[number % len(originals)].read_bytes(), list(KINDS)[number], number, path.suffix)
    path.with_suffix(suffix).write_bytes(content)
    assert faults([cut(path.with_suffix(suffix))]) == []


@pytest.mark.soak
@pytest.mark.parametrize("part", range(SOAK_PARTS))
def test_hundreds_of_damaged_files(originals: list[Path], request: pytest.FixtureRequest, tmp_path: Path, part: int, record_property) -> None:
    """The shared clips take part where they are; every variant is named by its number."""
    clips = [*originals, *_shared_clips(request)]
    outcomes = [cut(variant(clips, number, tmp_path)) for number in range(part, SOAK_VARIANTS, SOAK_PARTS)]
    for outcome in outcomes:
        print(f"{outcome.name} {outcome.seconds:.2f} s {outcome.memory_mb:.0f} MB {outcome.fault or ' '.join(outcome.pieces)}")
    assert faults(outcomes) == []
    late = [outcome.name for outcome in outcomes if Reason.TIME_LIMIT.value in outcome.pieces]
    assert len(late) <= MOST_TIME_LIMITS * SOAK_VARIANTS / SOAK_PARTS, late


def _shared_clips(request: pytest.FixtureRequest) -> list[Path]:
    try:
        data = request.getfixturevalue("shared") / "data"
    except pytest.skip.Exception:
        return []
    return [data / name for name in SHARED_CLIPS]
