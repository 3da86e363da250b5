"""H.264 + AAC in MP4, picture by picture, under its final name only when it is whole."""

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self, cast

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from av.video.stream import VideoStream

from schemas.errors import SettingsError, StoreError
from tasks.media.colour import BT709_TAGS, MATRICES, ColourTags
from tasks.media.encoders import Encoder, encoder_for, encoder_options
from tasks.media.mp4 import is_whole_mp4, set_mp4_size
from tasks.media.pictures import SQUARE_PIXELS, Picture
from tasks.media.soundtrack import Track, track_of_file, track_of_samples
from tasks.places import name_of, writing

LIMITED_RANGE, FULL_RANGE = 1, 2
"""AVColorRange: 16..235 or 0..255."""
CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov"}
"""What is written under a name, by how it ends."""
MP4_FLAGS = "+faststart+use_metadata_tags"
"""The index at the front, so that a browser plays while it loads; and any metadata key, not only those Apple knows."""


@dataclass(frozen=True, eq=False)
class Sound:
    """A sound: `samples` (n, channels) float32 in -1..1, `sample_rate` in Hz."""

    samples: npt.NDArray[np.float32]
    sample_rate: int

    @property
    def duration_s(self) -> float:
        """Seconds."""
        return len(self.samples) / self.sample_rate


def require_mp4_name(location: str) -> str:
    """The container that a location's name asks for. Raises SettingsError for a name under which no MP4 or QuickTime file is expected."""
    suffix = PurePosixPath(name_of(str(location))).suffix.lower()
    if suffix not in CONTAINERS:
        raise SettingsError(f"{location} cannot be written: video is written as MP4, so give a name that ends in .mp4, .m4v or .mov.")
    return CONTAINERS[suffix]


class VideoWriter:
    """Writes pictures and a sound to an MP4 (H.264 4:2:0; AAC), a context manager.

    `location`: path or URI that ends in .mp4, .m4v or .mov. `fps` is exact (30000/1001). The sound begins with the first picture:
    `sound` keeps its own length; instead of it `soundtrack`, a file, is cut or continued by silence to `total_frames` pictures
    (None: keeps its length) and copied as it is where that needs no coding. `crf`: constant quality, 0..51, lower is better; `preset`: of x264;
    `encoder`: as `encoder_for`; `metadata`: any keys, read back from the container. `colour`: how colours are coded and tagged.
    `pixel_aspect`: width of a pixel for its height.
    Odd sizes are coded with the last row or column doubled, and the file says the true size, to which players crop.
    The file appears at `location` on a clean exit; after an exception nothing is left there.
    Raises SettingsError for another name, or NVENC where there is none; StoreError: on entering when the place cannot be written,
    later when it no longer can; MediaError, on entering, for a soundtrack that cannot be used.
    """

    def __init__(
        self,
        location: str,
        width: int,
        height: int,
        fps: Fraction,
        sound: Sound | None = None,
        *,
        crf: int = 16,
        metadata: dict[str, str] | None = None,
        preset: str = "medium",
        encoder: Encoder = "x264",
        soundtrack: Path | None = None,
        total_frames: int | None = None,
        colour: ColourTags = BT709_TAGS,
        pixel_aspect: Fraction = SQUARE_PIXELS,
    ) -> None:
        self.location = str(location)
        self.size = (width, height)
        self.fps = Fraction(fps)
        self.frames = 0
        self._sound = sound
        self._soundtrack = soundtrack
        self._duration_s = None if total_frames is None else total_frames / self.fps
        self._kind = require_mp4_name(self.location)
        self._codec = encoder_for(encoder, *self._coded_size)
        self._options = encoder_options(self._codec, crf, preset)
        self._metadata = metadata or {}
        self._colour = colour.to_write
        self._pixel_aspect = pixel_aspect
        self._place = writing(self.location)
        self._inputs = contextlib.ExitStack()
        self._to_yuv = VideoReformatter()

    @property
    def _coded_size(self) -> tuple[int, int]:
        """H.264 in 4:2:0 codes even sizes only."""
        width, height = self.size
        return width + width % 2, height + height % 2

    def __enter__(self) -> Self:
        self._path = self._place.__enter__()
        try:
            self._open(self._path)
        except BaseException as error:
            self._leave(error)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None:
                self._finish()
        except BaseException as failure:
            self._leave(failure)
            raise
        self._leave(error)

    def write(self, picture: Picture) -> None:
        """Adds a picture, (height, width, 3) uint8 BGR of the writer's size."""
        width, height = self.size
        if picture.shape != (height, width, 3) or picture.dtype != np.uint8:
            raise ValueError(f"a picture of {picture.shape} {picture.dtype} does not fit a video of {width} x {height} pixels")
        with self._writable():
            self._mux_sound(until_s=self.frames / self.fps)
            self._container.mux(self._video.encode(self._coded(picture)))
        self.frames += 1

    def _open(self, path: Path) -> None:
        with self._writable():
            self._container: OutputContainer = av.open(str(path), "w", format=self._kind, container_options={"movflags": MP4_FLAGS})
            self._video = self._add_video()
        self._audio = self._add_sound()
        with self._writable():
            self._container.metadata.update(self._metadata)
            self._container.start_encoding()

    def _add_sound(self) -> Track | None:
        if self._soundtrack is not None:
            return track_of_file(self._container, self._soundtrack, self._duration_s, self._inputs)
        if self._sound is not None:
            return track_of_samples(self._container, self._sound.samples, self._sound.sample_rate)
        return None

    def _add_video(self) -> VideoStream:
        stream = cast(VideoStream, self._container.add_stream(self._codec, rate=self.fps, options=self._options))
        stream.width, stream.height = self._coded_size
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = 1 / self.fps
        stream.sample_aspect_ratio = self._pixel_aspect
        stream.color_range = FULL_RANGE if self._colour.full_range else LIMITED_RANGE
        stream.colorspace, stream.color_primaries, stream.color_trc = self._colour.matrix, self._colour.primaries, self._colour.transfer
        return stream

    def _coded(self, picture: Picture) -> VideoFrame:
        height, width = picture.shape[:2]
        if width % 2 or height % 2:
            picture = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        frame = self._to_yuv.reformat(
            VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="bgr24"),
            format="yuv420p",
            dst_colorspace=MATRICES[self._colour.matrix],
            dst_color_range=ColorRange.JPEG if self._colour.full_range else ColorRange.MPEG,
            interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP,
            threads=1,
        )
        frame.colorspace, frame.color_primaries, frame.color_trc = self._colour.matrix, self._colour.primaries, self._colour.transfer
        frame.pts, frame.time_base = self.frames, 1 / self.fps
        return frame

    def _mux_sound(self, until_s: Fraction | None) -> None:
        if self._audio is not None:
            self._container.mux(list(self._audio.packets(until_s)))

    def _finish(self) -> None:
        if not self.frames:
            raise ValueError(f"no picture was written to {self.location}")
        with self._writable():
            self._container.mux(self._video.encode(None))
            self._mux_sound(until_s=None)
            self._container.close()
            if not is_whole_mp4(self._path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if any(side % 2 for side in self.size):
                set_mp4_size(self._path, *self.size)

    def _leave(self, error: BaseException | None) -> None:
        """Closes what is open; `writing` then moves the file to its place, or takes it away after an error."""
        self._inputs.close()
        if error is None:
            self._place.__exit__(None, None, None)
            return
        if hasattr(self, "_container"):
            with contextlib.suppress(av.FFmpegError):
                self._container.close()
        # The caller's error goes its own way: `writing` would take any OSError for the output's.
        abandoned = _AbandonedError()
        with contextlib.suppress(_AbandonedError):
            self._place.__exit__(_AbandonedError, abandoned, None)

    @contextlib.contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"{self.location} cannot be written: {error.strerror or error}.") from error


class _AbandonedError(Exception):
    """Tells `writing` that the file is not to appear."""
