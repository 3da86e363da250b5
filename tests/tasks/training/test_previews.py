import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.settings import FormatSettings
from schemas.tables import AUDIO
from tasks.audio import encode_flac, read_sound
from tasks.corpus import layout
from tasks.corpus.store import CorpusStore
from tasks.media.decode import read_frames
from tasks.media.probe import probe
from tasks.training.previews import STRIP_PX, side_by_side, write_preview
from tasks.training.validation import Preview

CLICK_FRAME = 20


@pytest.fixture
def store(tmp_path: Path) -> CorpusStore:
    """Clips of two seconds: "click", silent but for the sound of frame 20, and "mute", without a sound."""
    store = CorpusStore.create_or_open(str(tmp_path / "store"), FormatSettings())
    waveform = np.zeros(2 * 16000, np.float32)
    waveform[CLICK_FRAME * 640 : (CLICK_FRAME + 1) * 640] = 0.5 * np.sin(np.arange(640) * 0.4)
    rows = [{"clip_id": name, "sample_rate": 16000, "mel": [], "flac": flac} for name, flac in (("click", encode_flac(waveform)), ("mute", b""))]
    (tmp_path / "store" / layout.AUDIO).mkdir()
    pq.write_table(pa.Table.from_pylist(rows, schema=AUDIO), layout.table_location(store.uri, layout.AUDIO, "b0"), row_group_size=1)
    return store


def preview_of(clip_id: str, first_frame: int = 0, frames: int = 30) -> Preview:
    pictures = np.zeros((frames, 64, 128, 3), np.uint8)
    for frame, picture in enumerate(pictures):
        cv2.rectangle(picture, (4 * frame, 0), (4 * frame + 8, 63), (0, 160, 255), -1)
    return Preview(pictures, "b0", clip_id, first_frame)


@pytest.mark.parametrize("first_frame", [0, 12, -5])
def test_the_sound_begins_with_the_clips_frame(store: CorpusStore, tmp_path: Path, first_frame: int) -> None:
    write_preview(str(tmp_path / "made" / "step_5.mp4"), preview_of("click", first_frame), store)
    path = tmp_path / "made" / "step_5.mp4"
    frames = list(read_frames(path, 25))
    assert len(frames) == 30
    assert np.abs(frames[10].picture.astype(int) - preview_of("click").frames[10]).mean() < 8
    sound = read_sound(path, 0.0, 1.2)
    loudest_s = np.abs(sound.samples[:, 0]).argmax() / sound.sample_rate
    assert loudest_s == pytest.approx((CLICK_FRAME - first_frame) / 25, abs=0.08)
    assert len(sound.samples) / sound.sample_rate == pytest.approx(1.2, abs=0.1)


def test_a_clip_without_a_sound(store: CorpusStore, tmp_path: Path) -> None:
    write_preview(str(tmp_path / "mute.mp4"), preview_of("mute"), store)
    assert not probe(tmp_path / "mute.mp4").has_audio


def test_nothing_is_written_without_the_media_libraries(store: CorpusStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    write_preview(str(tmp_path / "none.mp4"), preview_of("click"), store)
    assert not (tmp_path / "none.mp4").exists()


def test_panels_are_named_in_their_order() -> None:
    panels = {name: np.full((3, 40, 64, 3), shade, np.uint8) for name, shade in (("real", 40), ("generated", 90))}
    frames = side_by_side(panels)
    assert frames.shape == (3, STRIP_PX + 40, 128, 3)
    left, right = np.split(frames, 2, axis=2)
    assert (left[:, STRIP_PX:] == 40).all()
    assert (right[:, STRIP_PX:] == 90).all()
    names = [strip[:, :STRIP_PX] for strip in (left, right)]
    assert all(name.max() > 200 for name in names)
    assert not np.array_equal(*names)
