"""What a face says at every frame of a dub, and that hours of it do not stay in memory."""

import json
import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tasks.dubbing import frame_arrays
from tasks.dubbing.frame_arrays import array_of
from tasks.dubbing.generate import Generator, Networks
from tasks.dubbing.reference_choice import References
from tasks.dubbing.spoken import SpokenVideo
from tasks.dubbing.template import Template

FRAMES = 3000
MAPPINGS = Path("/proc/self/smaps")
ROOT = Path(__file__).parents[3]
FREED_AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""So that memory that was freed is not counted."""


def mapped(*row: int) -> np.ndarray:
    """FRAMES rows of 0..1, mapped from a temporary file."""
    return array_of([np.random.default_rng(0).random((FRAMES, *row), dtype=np.float32)], row, np.float32)


def resident_bytes(array: np.ndarray) -> int:
    """How much of a mapped array is in this process's memory."""
    for mapping in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", MAPPINGS.read_text()):
        begin, end = (int(address, 16) for address in mapping.split(" ", 1)[0].split("-"))
        if begin <= array.ctypes.data < end:
            return 1024 * int(re.search(r"Rss:\s+(\d+) kB", mapping)[1])
    raise AssertionError("the array is not mapped")


@pytest.fixture
def template(monkeypatch: pytest.MonkeyPatch) -> Template:
    """Two minutes of one face, then a cut."""
    monkeypatch.setattr(frame_arrays, "HELD_BYTES", 0)
    tracks = np.where(np.arange(FRAMES) < FRAMES // 2, 0, 1).astype(np.int32)
    pictures = np.zeros((1, 16, 16, 3), dtype=np.uint8)
    references = References(mapped(2, 74)[:2], mapped(2, 57)[:2], faces=pictures, sketches=pictures)
    ones = np.ones(FRAMES, dtype=np.float32)
    boxes = np.tile([0.0, 0.0, 64.0, 64.0], (FRAMES, 1))
    return Template(mapped(2, 74), mapped(2, 57), boxes, tracks, references, tracks, 0 * ones, 64 * ones, ones > 0, ones)


@pytest.mark.skipif(not MAPPINGS.exists(), reason="needs Linux's list of mappings")
def test_all_that_was_read_of_temporary_files_is_let_go(template: Template, networks: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    def speak(_: Generator, pose: np.ndarray, *__: object) -> np.ndarray:
        return pose[:, :, :57]

    monkeypatch.setattr(Generator, "speak", speak)
    spoken = SpokenVideo(template, mapped(80), Fraction(25), np.arange(FRAMES), Generator(networks), rests=False)
    generated = [run.content for run in spoken._spoken]
    assert len(generated) == 2
    before = [spoken.content(frame) for frame in range(FRAMES)]
    arrays = [template.pose, template.content, spoken.mel, *generated]
    for array in arrays:
        array.sum()
    assert all(resident_bytes(array) >= array.nbytes for array in arrays), "all of them are in memory"
    spoken.let_go()
    assert [resident_bytes(array) for array in arrays] == [0] * len(arrays)
    np.testing.assert_array_equal([spoken.content(frame) for frame in range(FRAMES)], before)


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's peak of memory")
def test_a_speech_takes_less_than_a_megabyte_of_memory_a_minute(tmp_path: Path) -> None:
    """From its sound to the judgement of its dub. Kept in memory, its sound and landmarks would take 2 to 5 MB a minute at each stage."""
    short, long = 3, 15
    command = [sys.executable, "-m", "tests.tasks.dubbing.memory_of_a_speech", str(tmp_path), str(short), str(long)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | FREED_AT_ONCE, capture_output=True, text=True, check=True)
    before, after = json.loads(done.stdout)
    a_minute_mb = {stage: (after[stage] - before[stage]) / (long - short) for stage in after}
    assert max(a_minute_mb.values()) < 1, a_minute_mb


def test_a_long_speech_has_no_seams(template: Template, networks: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Generator, "speak", lambda _, pose, *__: pose[:, :, :57] * np.float32(0.9))
    spoken = []
    for steps_at_once in (FRAMES, 70):
        monkeypatch.setattr("tasks.dubbing.spoken.STEPS_AT_ONCE", steps_at_once)
        video = SpokenVideo(template, mapped(80), Fraction(25), np.arange(FRAMES), Generator(networks))
        spoken.append([video.content(frame) for frame in range(FRAMES)])
    np.testing.assert_allclose(spoken[0], spoken[1], atol=1e-5)
