"""Short clips of what a network makes, as MP4 with the clip's sound, where the media libraries are installed."""

import importlib.util
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

import cv2
import numpy as np

from tasks.corpus import layout
from tasks.corpus.store import CorpusStore, row_groups
from tasks.mel_windows import VIDEO_FPS
from tasks.training.validation import Picture, Preview

if TYPE_CHECKING:
    from tasks.media.encode import Sound

CRF = 20
PRESET = "veryfast"
"""Of x264: a preview is looked at once, and training waits for it."""
STRIP_PX = 24
"""Height of the strip above a panel that names it."""
LETTERS, LETTERS_AT = 0.5, (6, 17)
"""Size and place of a name in its strip: the longest fits above 256 pixels."""
NAME_COLOUR = (80, 200, 255)


def side_by_side(panels: Mapping[str, Picture]) -> Picture:
    """Panels (T, H, W, 3) uint8 BGR beside each other, the first left, each below a strip with its name: (T, STRIP_PX + H, all W, 3)."""
    return np.concatenate([_below_its_name(name, frames) for name, frames in panels.items()], axis=2)


def _below_its_name(name: str, frames: Picture) -> Picture:
    count, _, width, _ = frames.shape
    strip = np.zeros((STRIP_PX, width, 3), np.uint8)
    cv2.putText(strip, name, LETTERS_AT, cv2.FONT_HERSHEY_SIMPLEX, LETTERS, NAME_COLOUR, 1, cv2.LINE_AA)
    return np.concatenate([np.broadcast_to(strip, (count, *strip.shape)), frames], axis=1)


def write_preview(location: str, preview: Preview, store: CorpusStore) -> None:
    """Writes the preview as an MP4 to a path or URI; nothing where PyAV is not installed. StoreError when the place cannot be written.

    Its sound is that of the store's clip, cut to the preview; without one where the clip has none or soundfile is not installed.
    """
    if importlib.util.find_spec("av") is None:
        return
    from tasks.media.encode import VideoWriter  # GPU machines may have no media libraries

    height, width = preview.frames.shape[1:3]
    with VideoWriter(location, width, height, Fraction(VIDEO_FPS), _sound(preview, store), crf=CRF, preset=PRESET) as writer:
        for picture in preview.frames:
            writer.write(picture)


def _sound(preview: Preview, store: CorpusStore) -> "Sound | None":
    """The sound from the preview's first frame to its last, silence where the clip has none."""
    coded = _coded_sound(preview, store)
    if not coded or importlib.util.find_spec("soundfile") is None:
        return None
    from tasks.audio import SAMPLE_RATE, decode_flac
    from tasks.media.encode import Sound

    waveform = decode_flac(coded)
    samples = SAMPLE_RATE // VIDEO_FPS
    first, end = (frame * samples for frame in (preview.first_frame, preview.first_frame + len(preview.frames)))
    heard = np.zeros((end - first, 1), dtype=np.float32)
    inside = waveform[max(first, 0) : max(end, 0)]
    heard[max(-first, 0) :][: len(inside), 0] = inside
    return Sound(heard, SAMPLE_RATE)


def _coded_sound(preview: Preview, store: CorpusStore) -> bytes:
    """The clip's FLAC; empty where the store has none of it."""
    with store.parquet(layout.AUDIO, preview.batch) as file:
        rows = file.read_row_groups(row_groups(file).get(preview.clip_id, []), columns=["clip_id", "flac"]).to_pylist()
    return next((row["flac"] for row in rows if row["clip_id"] == preview.clip_id), b"")
