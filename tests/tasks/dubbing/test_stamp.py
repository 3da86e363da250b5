"""What a dub says of itself is read back, whatever was given and whichever version wrote it."""

import hashlib
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import DubmillError, MediaError
from tasks.dubbing.stamp import make_stamp, read_dub_stamp
from tasks.media.encode import VideoWriter

VERSIONS = {"landmark_generator": "a" * 64, "renderer": "b" * 64}


def write_video(path: Path, metadata: dict[str, str]) -> Path:
    with VideoWriter(str(path), 16, 16, Fraction(25), metadata=metadata) as writer:
        writer.write(np.zeros((16, 16, 3), np.uint8))
    return path


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, Path, Path]:
    paths = tuple(tmp_path / name for name in ("video", "speech", "music"))
    for path in paths:
        path.write_text(path.name)
    return paths


@pytest.mark.parametrize("name", ["dub.mp4", "dub.mov", "dub.m4v"])
def test_all_that_is_given_is_read_back(tmp_path: Path, inputs: tuple[Path, Path, Path], name: str) -> None:
    video, speech, music = inputs
    consent, snapshots = 'contract 7/"ü 同意"', {"renderer": "first"}
    stamp = make_stamp(video, speech, VERSIONS, consent=consent, soundtrack=music, snapshots=snapshots, segments=(music, speech))
    read = read_dub_stamp(write_video(tmp_path / name, stamp))
    assert (read["synthetic"], read["tool"], read["stamp_version"]) == (True, "dubmill", 1)
    assert {read["video_sha256"], read["speech_sha256"], read["soundtrack_sha256"]} == {hashlib.sha256(path.read_bytes()).hexdigest() for path in inputs}
    assert read["segments_sha256"] == [read["soundtrack_sha256"], read["speech_sha256"]]
    assert (read["consent"], read["snapshots"]) == (consent, snapshots)
    assert VERSIONS.items() <= read.items()


def test_what_is_not_given_is_not_said(inputs: tuple[Path, Path, Path]) -> None:
    stamp = json.loads(make_stamp(*inputs[:2], VERSIONS)["comment"])
    assert not {"consent", "soundtrack_sha256", "snapshots", "segments_sha256"} & set(stamp)


def test_what_a_newer_version_added_is_shown(tmp_path: Path) -> None:
    newer = {"tool": "dubmill", "stamp_version": 9, "synthetic": True, "watermark": {"kind": "unknown here"}}
    assert read_dub_stamp(write_video(tmp_path / "v.mp4", {"comment": json.dumps(newer)})) == newer


@pytest.mark.parametrize("comment", [None, "a holiday", "[1]", '{"tool": "another"}', "{"])
def test_without_a_stamp_it_is_said(tmp_path: Path, comment: str | None) -> None:
    path = write_video(tmp_path / "v.mp4", {} if comment is None else {"comment": comment})
    with pytest.raises(DubmillError, match="no stamp"):
        read_dub_stamp(path)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(MediaError):
        read_dub_stamp(tmp_path / "text.mp4")
