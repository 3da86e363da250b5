"""Videos that a browser plays beside each other: the source as a dub plays it, and the dub where it is too large to be shown as it is."""

import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import soundfile

from schemas.errors import MediaError
from schemas.settings import DubSettings
from tasks.audio import SAMPLE_RATE, read_waveform
from tasks.dubbing.footage import Footage, Picture, footage_of
from tasks.media.decode import read_frames
from tasks.media.encode import VideoWriter
from tasks.media.probe import MediaInfo, probe

PRESET = "veryfast"
"""Of x264: what is looked at once and thrown away need not be small."""


@dataclass(frozen=True)
class Look:
    """How previews are made: width and height in pixels, x264's quality."""

    width: int
    height: int
    crf: int

    @classmethod
    def of(cls, info: MediaInfo, height: int, crf: int) -> "Look":
        """For videos of that shape, at most so high, with even sides and square pixels."""
        scale = min(1.0, height / info.height)
        width, height = (max(2, round(side * scale) // 2 * 2) for side in (info.width * info.pixel_aspect, info.height))
        return cls(width, height, crf)

    def fitted(self, picture: Picture) -> Picture:
        """A picture at that size."""
        if picture.shape[:2] == (self.height, self.width):
            return picture
        return np.asarray(cv2.resize(picture, (self.width, self.height), interpolation=cv2.INTER_AREA), np.uint8)


def write_source_preview(video: Path, settings: DubSettings, frames: int, look: Look, to: Path) -> None:
    """Writes the frames of a source that a dub of so many frames plays, at the same times, with the source's own sound up to its end.

    video: a video or a still picture. settings: those of the dub. MediaError when the source cannot be read.
    """
    info = probe(video)
    footage = footage_of(video, info, settings.fps)
    with tempfile.TemporaryDirectory(prefix="dubmill-") as folder:
        sound = _sound(video, info, float(frames / footage.fps), Path(folder) / "sound.wav")
        _write(played_pictures(footage, frames, settings.loop), frames, footage.fps, look, sound, to)


def _sound(video: Path, info: MediaInfo, longest_s: float, to: Path) -> Path | None:
    """The source's own sound from its first picture on, as a file; None where there is none that can be heard: a dub needs none of its source."""
    if not info.has_audio:
        return None
    try:
        soundfile.write(to, read_waveform(video, info.start_s, round(longest_s * SAMPLE_RATE)), SAMPLE_RATE)
    except MediaError:
        return None
    return to


def write_dub_preview(dub: Path, info: MediaInfo, frames: int, look: Look, to: Path) -> None:
    """Writes a dub at a size that is easily played."""
    fps = info.fps or Fraction(25)
    pictures = (frame.picture for frame in read_frames(dub, fps, 0, frames))
    _write(pictures, frames, fps, look, dub if info.has_audio else None, to)


def played_pictures(footage: Footage, frames: int, loop: str) -> Iterator[Picture]:
    """The pictures that a dub of so many frames shows of its footage, in its order. How many frames the footage has shows when it ends."""
    shown = 0
    for frame in footage.frames(frames):
        shown += 1
        yield frame.picture
    if 0 < shown < frames:
        yield from itertools.islice(footage.played(shown, frames, loop), shown, None)


def _write(pictures: Iterator[Picture], frames: int, fps: Fraction, look: Look, soundtrack: Path | None, to: Path) -> None:
    with VideoWriter(str(to), look.width, look.height, fps, crf=look.crf, preset=PRESET, soundtrack=soundtrack, total_frames=frames) as writer:
        for picture in pictures:
            writer.write(look.fitted(picture))
