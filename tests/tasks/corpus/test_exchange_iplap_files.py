"""Landmark files and names of IP_LAP's preprocessing."""

import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.face_points import CONTENT_INDICES, POSE_INDICES
from tasks.corpus.exchange.iplap_files import folder_name, landmark_file, read_landmark_file


def points(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.random((2, 74), dtype=np.float32), random.random((2, 57), dtype=np.float32)


def read(coded: bytes, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    path = folder / "0.npy"
    path.write_bytes(coded)
    return read_landmark_file(path)


def saved(held: object) -> bytes:
    coded = io.BytesIO()
    np.save(coded, np.array(held, dtype=object), allow_pickle=True)
    return coded.getvalue()


def test_a_landmark_file_is_what_the_original_saves() -> None:
    pose, content = points()
    held = np.load(io.BytesIO(landmark_file(pose, content)), allow_pickle=True).item()
    assert list(held) == ["pose_landmarks", "content_landmarks"]
    assert [index for index, _, _ in held["pose_landmarks"]] == sorted(POSE_INDICES)
    assert [index for index, _, _ in held["content_landmarks"]] == sorted(CONTENT_INDICES)
    chin = CONTENT_INDICES.index(152)
    assert (152, float(content[0, chin]), float(content[1, chin])) in held["content_landmarks"]
    assert all(type(number) is float for _, x, y in held["pose_landmarks"] for number in (x, y))


def test_landmarks_come_back_exactly(tmp_path: Path) -> None:
    for seed in range(5):
        pose, content = read(landmark_file(*points(seed)), tmp_path)
        assert np.array_equal(pose, points(seed)[0])
        assert np.array_equal(content, points(seed)[1])


def test_numbers_may_be_numpys_and_points_in_any_order(tmp_path: Path) -> None:
    pose, content = points()
    listed = {
        name: [(index, np.float32(x), np.float64(y)) for index, x, y in reversed(list(zip(indices, *of, strict=True)))]
        for name, indices, of in (("pose_landmarks", POSE_INDICES, pose), ("content_landmarks", CONTENT_INDICES, content))
    }
    assert np.array_equal(read(saved(listed), tmp_path)[0], pose)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_landmark_file_cannot_run_anything(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    coded = saved({"pose_landmarks": [Trap(trap)], "content_landmarks": []})
    np.load(io.BytesIO(coded), allow_pickle=True)
    assert trap.exists(), "the trap must work, or this shows nothing"
    trap.rmdir()
    with pytest.raises(ValueError, match=r"it names posix\.mkdir"):
        read(coded, tmp_path)
    assert not trap.exists()


def test_a_landmark_file_cannot_ask_for_memory_that_it_does_not_fill(tmp_path: Path) -> None:
    whole = landmark_file(*points())
    head = whole[: whole.index(b"\n") + 1]
    far = 2**26  # a place in the compiled unpickler's memo: it makes twice as many, of 8 bytes each
    (tmp_path / "0.npy").write_bytes(head + b"\x80\x03Nr" + far.to_bytes(4, "little") + b".")
    code = f"""
import resource
from pathlib import Path
from tasks.corpus.exchange.iplap_files import read_landmark_file
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_landmark_file(Path({str(tmp_path / "0.npy")!r}))
except ValueError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3], timeout=100)
    assert int(done.stdout) < 100_000


def test_what_is_said_of_a_landmark_file_is_short_plain_text(tmp_path: Path) -> None:
    whole = landmark_file(*points())
    head = whole[: whole.index(b"\n") + 1]
    for module in (b"\xed\xa0\x80", b"m" * 255):
        with pytest.raises(ValueError, match="it names") as told:
            read(head + b"\x80\x04\x8c" + bytes([len(module)]) + module + b"\x8c\x01a\x93.", tmp_path)
        assert str(told.value).isascii()
        assert len(str(told.value)) < 250


def test_what_is_no_landmark_file(tmp_path: Path) -> None:
    pose, content = points()
    whole = landmark_file(pose, content)
    plain = io.BytesIO()
    np.save(plain, np.zeros(3))
    missing = saved({"pose_landmarks": [(1, 0.0, 0.0)], "content_landmarks": []})
    for coded in (b"", b"text", whole[: len(whole) // 2], plain.getvalue(), missing, pickle.dumps({}), saved([1, 2])):
        with pytest.raises(ValueError, match="it is no landmark file"):
            read(coded, tmp_path)
    with pytest.raises(ValueError, match="not numbers"):
        read(landmark_file(pose * np.nan, content), tmp_path)
    with pytest.raises(ValueError, match="too large"):
        read(bytes(1_000_001), tmp_path)


@given(st.integers(0, 5000), st.integers(1, 255))
def test_a_flipped_byte_is_another_file_or_none(tmp_path_factory: pytest.TempPathFactory, position: int, flip: int) -> None:
    coded = bytearray(landmark_file(*points()))
    coded[position % len(coded)] ^= flip
    try:
        pose, content = read(bytes(coded), tmp_path_factory.mktemp("flipped"))
    except ValueError:
        return
    assert pose.shape == (2, 74)
    assert content.shape == (2, 57)


@given(st.lists(st.text(min_size=1, max_size=120), min_size=2, max_size=2, unique=True))
def test_speakers_become_names_that_a_list_and_a_pattern_can_hold(speakers: list[str]) -> None:
    names = [folder_name(speaker) for speaker in speakers]
    assert names[0] != names[1]
    for name in names:
        assert not set(name) & set(" /\\*?[]\n\t")
        assert name[0] not in ".-"
        assert len(f"{name}/x".split()) == 1
        assert len(name.encode()) <= 255


def test_a_long_name_in_any_script_fits_a_file_system(tmp_path: Path) -> None:
    for speaker in ("王" * 100, "王" * 300, "𠀀" * 100, "é" * 127, "a" * 1000):
        (tmp_path / folder_name(speaker)).mkdir()


def test_plain_names_stay() -> None:
    assert [folder_name(name) for name in ("5535415699068794046", "anna", "Ünal_2", "王")] == ["5535415699068794046", "anna", "Ünal_2", "王"]
