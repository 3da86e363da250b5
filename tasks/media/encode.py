"""H.264 + AAC in MP4, picture by picture, under its final name only when it is whole."""

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream

from schemas.errors import StoreError
from tasks.media.mp4 import is_whole_mp4, set_mp4_size
from tasks.media.pictures import Picture
from tasks.places import writing

AAC_RATES = (48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
"""Hz that every player plays; other rates are resampled to the first."""
AAC_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}
"""By channels; other numbers are mixed down to one."""
AAC_BITS_PER_SECOND = {1: 128_000, 2: 192_000}
AAC_BITS_PER_SECOND_SURROUND = 384_000
SOUND_BLOCK = 16384
"""Samples handed to the encoder at a time."""

BT709 = 1
"""AVColorSpace, AVColorPrimaries and AVColorTransferCharacteristic of BT.709."""
LIMITED_RANGE = 1
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


class VideoWriter:
    """Writes pictures and a sound to an MP4 (H.264 4:2:0, BT.709; AAC), a context manager.

    `location`: path or URI. `fps` is exact (30000/1001). The sound begins with the first picture and keeps its own length.
    `crf`: constant quality, 0..51, lower is better; `preset`: of x264; `metadata`: any keys, read back from the container.
    Odd sizes are coded with the last row or column doubled, and the file says the true size, to which players crop.
    The file appears at `location` on a clean exit; after an exception nothing is left there.
    Raises StoreError: on entering when the place cannot be written, later when it no longer can.
    """

    def __init__(
        self,
        location: str,
        width: int,
        height: int,
        fps: Fraction,
        sound: Sound | None,
        crf: int = 16,
        metadata: dict[str, str] | None = None,
        preset: str = "medium",
    ) -> None:
        self.location = str(location)
        self.size = (width, height)
        self.fps = Fraction(fps)
        self.frames = 0
        self._sound = sound
        self._options = {"crf": str(crf), "preset": preset}
        self._metadata = metadata or {}
        self._place = writing(self.location)
        self._to_yuv = VideoReformatter()

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
            self._container: OutputContainer = av.open(str(path), "w", format="mp4", container_options={"movflags": MP4_FLAGS})
            self._video = self._add_video()
            self._audio = _SoundTrack(self._container, self._sound) if self._sound is not None else None
            self._container.metadata.update(self._metadata)
            self._container.start_encoding()

    def _add_video(self) -> VideoStream:
        stream = self._container.add_stream("libx264", rate=self.fps, options=self._options)
        stream.width, stream.height = (side + side % 2 for side in self.size)
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = 1 / self.fps
        stream.color_range = LIMITED_RANGE
        stream.colorspace = stream.color_primaries = stream.color_trc = BT709
        return stream

    def _coded(self, picture: Picture) -> VideoFrame:
        height, width = picture.shape[:2]
        if width % 2 or height % 2:
            picture = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        frame = self._to_yuv.reformat(
            VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="bgr24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP,
            threads=1,
        )
        frame.color_primaries = frame.color_trc = BT709
        frame.pts, frame.time_base = self.frames, 1 / self.fps
        return frame

    def _mux_sound(self, until_s: Fraction | None) -> None:
        if self._audio is not None:
            self._container.mux(self._audio.packets(until_s))

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


class _SoundTrack:
    """An AAC stream fed from a sound."""

    def __init__(self, container: OutputContainer, sound: Sound) -> None:
        channels = sound.samples.shape[1]
        self._samples = sound.samples if channels in AAC_LAYOUTS else sound.samples.mean(axis=1, keepdims=True)
        channels = self._samples.shape[1]
        self._rate = sound.sample_rate
        self._layout = AAC_LAYOUTS[channels]
        self._at = 0
        coded_rate = self._rate if self._rate in AAC_RATES else AAC_RATES[0]
        self._stream: AudioStream = container.add_stream("aac", rate=coded_rate, layout=self._layout)
        self._stream.bit_rate = AAC_BITS_PER_SECOND.get(channels, AAC_BITS_PER_SECOND_SURROUND)
        self._resampler = AudioResampler(format="fltp", layout=self._layout, rate=coded_rate)

    def packets(self, until_s: Fraction | None) -> list[av.Packet]:
        """Coded sound up to a time, or (None) all that is left."""
        end = len(self._samples) if until_s is None else min(len(self._samples), int(until_s * self._rate) + SOUND_BLOCK)
        packets: list[av.Packet] = []
        while self._at < end:
            frame = self._frame(self._samples[self._at : min(end, self._at + SOUND_BLOCK)])
            for resampled in self._resampler.resample(frame):
                packets += self._stream.encode(resampled)
        if until_s is None:
            for resampled in self._resampler.resample(None):
                packets += self._stream.encode(resampled)
            packets += self._stream.encode(None)
        return packets

    def _frame(self, samples: npt.NDArray[np.float32]) -> AudioFrame:
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples.T, dtype=np.float32), format="fltp", layout=self._layout)
        frame.sample_rate, frame.time_base, frame.pts = self._rate, Fraction(1, self._rate), self._at
        self._at += len(samples)
        return frame
