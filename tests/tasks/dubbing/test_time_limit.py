"""How long a dub may take."""

import subprocess
from pathlib import Path

import pytest
from imageio_ffmpeg import get_ffmpeg_exe

from schemas.errors import MediaError
from schemas.reasons import Reason
from tasks.dubbing.time_limit import LEAST_S, in_time, time_limit_s
from tasks.media.probe import probe
from tests.footage import make_speech


def test_the_limit_goes_by_the_speech(tmp_path: Path) -> None:
    speech = make_speech(tmp_path / "speech.wav", seconds=2.0)
    assert time_limit_s(speech, 1000.0) == pytest.approx(2000.0, rel=0.01)
    assert time_limit_s(speech, 1.0) == LEAST_S


def test_a_speech_that_does_not_say_how_long_it_is_is_heard_to_its_end(tmp_path: Path) -> None:
    speech, recorded = make_speech(tmp_path / "speech.wav", seconds=2.0), tmp_path / "recorded.webm"
    command = [get_ffmpeg_exe(), "-v", "error", "-i", speech, "-c:a", "libopus", "-f", "webm", "pipe:1"]
    recorded.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
    assert probe(recorded).duration_s is None
    assert time_limit_s(recorded, 1000.0) == pytest.approx(2000.0, rel=0.02)


def test_a_speech_that_cannot_be_read_has_the_least_limit(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no sound")
    for speech in ("absent.wav", "text.wav", "."):
        assert time_limit_s(tmp_path / speech, 1000.0) == LEAST_S


def test_who_tells_too_late_is_ended() -> None:
    in_time(1000.0)(1, 2, "frames")
    with pytest.raises(MediaError, match="time limit") as late:
        in_time(-1.0)(1, 2, "frames")
    assert late.value.reason is Reason.TIME_LIMIT
