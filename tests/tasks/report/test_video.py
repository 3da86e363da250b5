"""Videos inside pages: as they are, or a small copy."""

import base64
from pathlib import Path

import cv2
import pytest

from tasks.media.probe import probe
from tasks.report import video
from tasks.report.video import moments, page_video


def saved(uri: str, path: Path) -> Path:
    path.write_bytes(base64.b64decode(uri.partition(",")[2]))
    return path


def test_small_video_is_shown_as_it_is(clip: Path, tmp_path: Path) -> None:
    shown = page_video(str(clip))
    assert not shown.is_copy
    assert saved(shown.uri, tmp_path / "shown.mp4").read_bytes() == clip.read_bytes()


def test_large_video_is_copied_small(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "LARGEST_BYTES", 1000)
    monkeypatch.setattr(video, "COPY_HEIGHT", 120)
    shown = page_video(str(clip), longest_s=0.6)
    info = probe(saved(shown.uri, tmp_path / "shown.mp4"))
    assert shown.is_copy
    assert (info.height, info.video_codec, info.audio_codec) == (120, "h264", "aac")
    assert info.duration_s == pytest.approx(0.6, abs=0.1)


def test_still_picture(clip: Path, tmp_path: Path) -> None:
    still = tmp_path / "still.png"
    cv2.imwrite(str(still), moments(str(clip), [0.2])[0])
    assert page_video(str(still)).is_picture
    assert len(moments(str(still), [0.1, 0.5])) == 2


def test_moments_are_those_asked_for(clip: Path) -> None:
    pictures = moments(str(clip), [0.0, 0.4, 0.9], height=100)
    assert [picture.shape[0] for picture in pictures] == [100, 100, 100]
    assert (pictures[0] != pictures[1]).any()
