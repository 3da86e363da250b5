"""NVENC is taken where it opens, and only there."""

import logging
from pathlib import Path

import pytest

from schemas.errors import SettingsError
from tasks.media import encoders
from tasks.media.encoders import encoder_for, encoder_options, nvenc_fault


@pytest.fixture
def no_nvenc(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build of ffmpeg that knows NVENC, on a machine where it does not open."""
    monkeypatch.setattr(encoders, "NVENC", "h264_nvenc_that_is_not_there")
    nvenc_fault.cache_clear()


def test_auto_falls_back_to_x264_and_says_so_once(no_nvenc: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, encoders.__name__):
        assert [encoder_for("auto", 1280, 720) for _ in range(3)] == ["libx264"] * 3
    assert [record.getMessage() for record in caplog.records] == [caplog.messages[0]]
    assert "x264" in caplog.messages[0]


def test_nvenc_that_is_asked_for_and_not_there_is_one_sentence(no_nvenc: None) -> None:
    with pytest.raises(SettingsError, match="NVENC cannot be used here") as caught:
        encoder_for("nvenc", 1280, 720)
    assert "\n" not in str(caught.value)


def test_x264_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "nvenc_fault", lambda *_: pytest.fail("NVENC was tried"))
    assert encoder_for("x264", 64, 48) == "libx264"


def test_what_opens_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "nvenc_fault", lambda *_: None)
    assert encoder_for("auto", 1280, 720) == encoder_for("nvenc", 1280, 720) == "h264_nvenc"


def test_opening_is_tried_for_real(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(encoders, "NVENC", "libx264")  # any encoder that is really there
    nvenc_fault.cache_clear()
    assert nvenc_fault(128, 96) is None
    assert nvenc_fault(0, 0) is not None
    nvenc_fault.cache_clear()


def test_one_quality_for_both() -> None:
    assert encoder_options("libx264", 16, "medium") == {"crf": "16", "preset": "medium"}
    options = encoder_options("h264_nvenc", 16, "medium")
    assert (options["cq"], options["preset"]) == ("16", "p5")
