"""What a dub says of itself is read back, whatever was given and whichever version wrote it."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import DubmillError, MediaError
from schemas.jobs import DubOrigin
from tasks.dubbing.stamp import make_stamp, read_dub_stamp
from tasks.media.encode import VideoWriter

MODELS = {"landmark_generator": "a" * 64, "renderer": "b" * 64}


def write_video(path: Path, metadata: dict[str, str]) -> Path:
    with VideoWriter(str(path), 16, 16, Fraction(25), metadata=metadata) as writer:
        writer.write(np.zeros((16, 16, 3), np.uint8))
    return path


@pytest.mark.parametrize("name", ["dub.mp4", "dub.mov", "dub.m4v"])
def test_all_that_is_given_is_read_back(tmp_path: Path, name: str) -> None:
    made_of = DubOrigin(
        video="1" * 64, speech="2" * 64, soundtrack="3" * 64, segments=("3" * 64, "2" * 64), models=MODELS,
        snapshots={"renderer": "first"}, consent='contract 7/"ü 同意"',
    )  # fmt: skip
    read = read_dub_stamp(write_video(tmp_path / name, make_stamp(made_of)))
    assert (read["synthetic"], read["tool"], read["stamp_version"]) == (True, "dubmill", 1)
    assert (read["video_sha256"], read["speech_sha256"], read["soundtrack_sha256"]) == ("1" * 64, "2" * 64, "3" * 64)
    assert read["segments_sha256"] == ["3" * 64, "2" * 64]
    assert (read["consent"], read["snapshots"]) == ('contract 7/"ü 同意"', {"renderer": "first"})
    assert (read["landmark_generator"], read["renderer"], read["models_sha256"]) == ("a" * 16, "b" * 16, MODELS)


def test_what_is_not_given_is_not_said() -> None:
    stamp = json.loads(make_stamp(DubOrigin(video="1" * 64, speech="2" * 64, models=MODELS))["comment"])
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
