"""A file's hash is that of what it holds now, and a large one is not read twice for it."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from tasks import file_hash as module
from tasks.file_hash import SETTLED_NS, file_hash


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read, in order."""
    read: list[Path] = []
    digest = module._content_hash
    monkeypatch.setattr(module, "_content_hash", lambda path: read.append(path) or digest(path))
    return read


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def settle() -> None:
    time.sleep(1.5 * SETTLED_NS / 1e9)


def test_a_file_is_read_once_by_whatever_name(tmp_path: Path, reads: list[Path]) -> None:
    video = written(tmp_path / "video", b"hours")
    (tmp_path / "link").symlink_to(video)
    settle()
    assert {file_hash(path) for path in (video, video, tmp_path / "link")} == {hashlib.sha256(b"hours").hexdigest()}
    assert reads == [video]


def test_a_file_changed_to_the_same_size_and_time_is_read_anew(tmp_path: Path) -> None:
    video = tmp_path / "video"
    for content in (b"one", b"two"):
        os.utime(written(video, content), ns=(10**18, 10**18))
        settle()
        assert file_hash(video) == hashlib.sha256(content).hexdigest()


def test_a_file_that_may_still_change_unseen_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within one tick of the system's clock a second change leaves the times of the first."""
    video = written(tmp_path / "video", b"one")
    state = video.stat()
    monkeypatch.setattr(Path, "stat", lambda _: state)
    for content in (b"one", b"two"):
        assert file_hash(written(video, content)) == hashlib.sha256(content).hexdigest()


def test_another_file_under_the_same_name_is_read_anew(tmp_path: Path) -> None:
    video, other = written(tmp_path / "video", b"one"), written(tmp_path / "other", b"two")
    settle()
    first = file_hash(video)
    other.replace(video)
    assert (first, file_hash(video)) == tuple(hashlib.sha256(content).hexdigest() for content in (b"one", b"two"))


def test_a_file_that_is_gone_is_said_also_when_its_hash_was_known(tmp_path: Path) -> None:
    video = written(tmp_path / "video", b"one")
    settle()
    file_hash(video)
    video.unlink()
    with pytest.raises(FileNotFoundError):
        file_hash(video)
