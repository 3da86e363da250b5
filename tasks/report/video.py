"""Videos inside a page: as they are when a browser plays them and they are small, else a small copy."""

import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from tasks import places
from tasks.media.decode import read_frames, read_picture
from tasks.media.encode import Sound, VideoWriter
from tasks.media.probe import MediaInfo, probe
from tasks.report.page import data_uri, picture_uri

LARGEST_BYTES = 4_000_000
"""A page with a few videos stays small enough to send by mail."""
STILLS_FPS = 25
COPY_HEIGHT = 480
COPY_CRF = 26
LONGEST_COPY_S = 30.0
BROWSER_SUFFIXES = (".mp4", ".m4v")
BROWSER_AUDIO = (None, "aac", "mp3")


@dataclass(frozen=True)
class PageVideo:
    """What a page shows of a video: the address of a video, or of a picture where the source is one."""

    uri: str
    width: int
    height: int
    is_picture: bool = False
    is_copy: bool = False


def page_video(location: str, longest_s: float | None = None) -> PageVideo:
    """The video at a path or URI for a page; a copy of at most `longest_s` seconds where it is too large or no browser plays it.

    Raises MediaError when it cannot be read.
    """
    with places.local_copy(location) as path:
        info = probe(path)
        if info.is_picture:
            return PageVideo(picture_uri(_at_most(read_picture(path), COPY_HEIGHT)), info.width, info.height, is_picture=True)
        if _plays_as_it_is(path, info, longest_s):
            return PageVideo(data_uri(path.read_bytes(), "video/mp4"), info.width, info.height)
        return PageVideo(data_uri(_small_copy(path, info, longest_s or LONGEST_COPY_S), "video/mp4"), info.width, info.height, is_copy=True)


def moments(location: str, times_s: list[float], height: int = 240) -> list[npt.NDArray[np.uint8]]:
    """The pictures (height, W, 3) that a video shows at some times, in order; the same one again for a still picture."""
    with places.local_copy(location) as path:
        if probe(path).is_picture:
            return [_at_most(read_picture(path), height)] * len(times_s)
        wanted = {round(time_s * 25) for time_s in times_s}
        frames = itertools.islice(read_frames(path, 25), max(wanted) + 1)
        return [_at_most(frame.picture, height) for frame in frames if frame.index in wanted]


def stills(location: str, times_s: list[float], height: int) -> list[npt.NDArray[np.uint8] | None]:
    """The pictures (height, W, 3) of a video at times anywhere in it, each sought by itself; None where it shows nothing. MediaError."""
    with places.local_copy(location) as path:
        found = (next(read_frames(path, STILLS_FPS, frame, frame + 1), None) for frame in (int(time_s * STILLS_FPS) for time_s in times_s))
        return [None if one is None else _at_most(one.picture, height) for one in found]


def _plays_as_it_is(path: Path, info: MediaInfo, longest_s: float | None) -> bool:
    is_short = longest_s is None or info.duration_s is None or info.duration_s <= longest_s + 0.5
    return (
        is_short
        and path.suffix.lower() in BROWSER_SUFFIXES
        and path.stat().st_size <= LARGEST_BYTES
        and info.video_codec == "h264"
        and info.audio_codec in BROWSER_AUDIO
    )


def _small_copy(path: Path, info: MediaInfo, longest_s: float) -> bytes:
    fps = min(info.fps, Fraction(30)) if info.fps else Fraction(25)
    with tempfile.TemporaryDirectory(prefix="dubmill-") as folder:
        copy = Path(folder) / "copy.mp4"
        pictures = _small_pictures(path, fps, round(longest_s * fps))
        first = next(pictures)
        height, width = first.shape[:2]
        with VideoWriter(str(copy), width, height, fps, _sound(path, info, longest_s), crf=COPY_CRF, pixel_aspect=info.pixel_aspect) as writer:
            for picture in itertools.chain((first,), pictures):
                writer.write(picture)
        return copy.read_bytes()


def _small_pictures(path: Path, fps: Fraction, frames: int) -> Iterator[npt.NDArray[np.uint8]]:
    for frame in read_frames(path, fps, 0, frames):
        yield _at_most(frame.picture, COPY_HEIGHT, even=True)


def _sound(path: Path, info: MediaInfo, longest_s: float) -> Sound | None:
    from tasks.audio import read_sound  # only copies need it

    if not info.has_audio:
        return None
    sound = read_sound(path, info.start_s, info.start_s + longest_s)
    return sound if len(sound.samples) else None


def _at_most(picture: npt.NDArray[np.uint8], height: int, *, even: bool = False) -> npt.NDArray[np.uint8]:
    """The picture made smaller to that height if it is higher; even sides where H.264 wants them."""
    scale = min(1.0, height / picture.shape[0])
    new_height, new_width = (max(2, round(side * scale)) for side in picture.shape[:2])
    if even:
        new_height, new_width = new_height // 2 * 2, new_width // 2 * 2
    return np.asarray(cv2.resize(picture, (new_width, new_height), interpolation=cv2.INTER_AREA), np.uint8)
