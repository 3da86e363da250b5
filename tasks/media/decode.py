"""Any video to upright BGR frames at a constant rate, one at a time, forwards or backwards; still pictures too."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from math import ceil, floor
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from schemas.errors import MediaError
from schemas.reasons import Reason
from tasks.media.container import damaged, longest_s, open_container, require_file, video_stream
from tasks.media.pictures import BgrPictures, Picture
from tasks.media.png_profile import without_profile

THREADS_VARIABLE = "DUBMILL_DECODE_THREADS"
"""Environment variable: decoder threads, for machines that run many decoders at once; unset or 0: ffmpeg decides."""

SEEKABLE_FORMATS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
"""Containers with an index and exact times, in which a frame after a seek is the frame that reading on would give."""
SEEK_WORTH_S = 2
"""Below this, decoding from the beginning is as quick as seeking."""
SEEK_BACK_S = (0, 5, 30)
"""How much earlier to look for a key frame when the one found is too late."""

LONGEST_GAP_S = 600
"""A longer jump in a stream's times is a broken clock, not a still picture: the stream ends there."""

PIECE_BYTES = 256 * 2**20
"""Memory for a piece of video that is read backwards, as it is decoded: 85 pictures of 1080p, 21 of 2160p."""
PIECE_FRAMES = 300


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame at a constant rate. `time_s` is counted from the video stream's start; `picture` is (H, W, 3) uint8 BGR."""

    index: int
    time_s: float
    picture: Picture


class _Timed(NamedTuple):
    """A decoded frame and when it is shown, in seconds from the stream's start."""

    frame: VideoFrame
    begin_s: Fraction
    end_s: Fraction


def read_frames(path: str | Path, fps: Fraction | int, start_frame: int = 0, stop_frame: int | None = None, threads: int | None = None) -> Iterator[Frame]:
    """Frames `start_frame` to `stop_frame` (exclusive; None: to the end) of a video brought to a constant rate.

    Frame n shows the last picture whose time, rounded to the nearest n / fps, is not after it (ffmpeg's fps filter), so gaps
    are filled with the picture before; before the first picture stands the first. Upright, in the first picture's size.
    A damaged piece is skipped and a stream that ends early ends early, also one whose times go beyond what a file of its size
    can hold. One frame is in memory at a time.
    `threads`: of the decoder; default: DUBMILL_DECODE_THREADS, or as ffmpeg decides.
    Raises, at the first frame: MediaError of `probe`'s reasons, NO_VIDEO, DAMAGED when not one picture can be decoded.
    """
    rate = Fraction(fps)
    if rate <= 0 or start_frame < 0:
        raise ValueError(f"fps {fps} must be positive and start_frame {start_frame} not negative")
    for frame in _read_decoded(path, rate, start_frame, stop_frame, threads):
        yield frame.shown(rate)


def read_frames_backwards(path: str | Path, fps: Fraction | int, start_frame: int, stop_frame: int, threads: int | None = None) -> Iterator[Frame]:
    """The frames of `read_frames`, from `stop_frame` - 1 down to `start_frame`; those beyond the end are left out.

    Give `stop_frame` as it is: what lies far beyond the end is looked for, piece by piece, from the last key frame on.
    Works piece by piece, each of whole groups of pictures where they fit into 300 frames and 256 MB. A longer group is decoded anew from
    its key frame for each piece of it: memory stays bounded, and a group of n pieces costs (n + 1) / 2 times its decoding.
    Containers without an index (MPEG program streams, AVI) are decoded from their beginning for each piece.
    """
    rate = Fraction(fps)
    with _open_video(path, threads) as source:
        keys = _key_frames(source, rate)
        longest = _piece_length(source)
        stop = stop_frame  # not less where the container says that it is shorter: it may not know
    while stop > start_frame:
        earliest = max(start_frame, stop - longest)
        begin = next((key for key in keys if earliest <= key < stop), earliest)
        piece = list(_read_decoded(path, rate, begin, stop, threads))
        while piece:
            yield piece.pop().shown(rate)
        stop = begin


def is_picture_file(head: bytes) -> bool:
    """Whether a file that begins so is a still picture: JPEG, PNG, WebP, TIFF or BMP."""
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\x00", b"MM\x00*")):
        return True
    return (head.startswith(b"RIFF") and head[8:12] == b"WEBP") or (head.startswith(b"BM") and head[6:10] == bytes(4))


def read_picture(path: str | Path) -> Picture:
    """A still picture as (H, W, 3) uint8 BGR, turned as its EXIF orientation asks; transparency is dropped.

    Raises MediaError: MISSING, UNREADABLE, NOT_MEDIA, DAMAGED.
    """
    file, head = require_file(path)
    if not is_picture_file(head):
        raise MediaError(Reason.NOT_MEDIA, f"{path} is not a picture (JPEG, PNG, WebP, TIFF or BMP).")
    try:
        picture = cv2.imdecode(np.frombuffer(without_profile(file.read_bytes()), dtype=np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise damaged(path, "the picture cannot be decoded") from error
    if picture is None:
        raise damaged(path, "the picture cannot be decoded")
    return picture


class _Decoded(NamedTuple):
    """A frame at a constant rate as it was decoded, at half the bytes of its BGR picture, and what makes that of it."""

    number: int
    frame: VideoFrame
    pictures: BgrPictures

    def shown(self, rate: Fraction) -> Frame:
        """A frame shown twice is converted twice: a reader may paint on its picture."""
        return Frame(self.number, float(self.number / rate), self.pictures.convert(self.frame))


def _read_decoded(path: str | Path, rate: Fraction, start: int, stop: int | None, threads: int | None) -> Iterator[_Decoded]:
    source, timed = _open_at(path, rate, start, threads)
    with source.container:
        pictures = BgrPictures(source.size)
        for index, frame in _at_constant_rate(timed, rate, start, stop):
            yield _Decoded(index, frame, pictures)


@dataclass(frozen=True)
class _Source:
    """An opened video stream."""

    container: InputContainer
    stream: VideoStream

    def __enter__(self) -> "_Source":
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    @property
    def size(self) -> tuple[int, int] | None:
        """Stored width and height, before turning."""
        return (self.stream.width, self.stream.height) if self.stream.width and self.stream.height else None

    @property
    def clock_s(self) -> Fraction:
        """Seconds a tick."""
        return self.stream.time_base or Fraction(1, av.time_base)

    @property
    def usual_step_s(self) -> Fraction:
        """Seconds from frame to frame, where the stream does not say it frame by frame."""
        return 1 / (self.stream.average_rate or self.stream.guessed_rate or Fraction(25))


def _open_video(path: str | Path, threads: int | None) -> _Source:
    container = open_container(path)
    stream = video_stream(container)
    if stream is None or stream.codec_context is None:
        container.close()
        raise MediaError(Reason.NO_VIDEO, f"{path} has no video stream that can be decoded.")
    stream.thread_type = "AUTO"
    stream.thread_count = threads if threads is not None else int(os.environ.get(THREADS_VARIABLE) or 0)
    return _Source(container, stream)


def _open_at(path: str | Path, rate: Fraction, start_frame: int, threads: int | None) -> tuple[_Source, Iterator[_Timed]]:
    """An opened stream and its decoded frames from one that `start_frame` shows or an earlier one on."""
    for back_s in SEEK_BACK_S:
        target_s = start_frame / rate - back_s
        if target_s < SEEK_WORTH_S:
            break
        source = _open_video(path, threads)
        timed = _decode_from(source, target_s) if _can_seek(source) else iter(())
        first = next(timed, None)
        if first is not None and _slot(first.begin_s, rate) <= start_frame:
            return source, chain([first], timed)
        source.container.close()
    source = _open_video(path, threads)
    timed = _timed(source, _decode(source, _packets(source)))
    first = next(timed, None)
    if first is None:
        source.container.close()
        raise damaged(path, "not one picture can be decoded from it")
    return source, chain([first], timed)


def _can_seek(source: _Source) -> bool:
    return source.container.format.name in SEEKABLE_FORMATS and source.stream.start_time is not None


def _decode_from(source: _Source, target_s: Fraction) -> Iterator[_Timed]:
    """Frames from the key frame before a time on; none where the container does not get there."""
    try:
        source.container.seek(int(target_s / source.clock_s) + (source.stream.start_time or 0), stream=source.stream)
    except av.FFmpegError:
        return
    packets = _packets(source)
    first = next((packet for packet in packets if packet.is_keyframe), None)
    if first is None or first.pts is None:
        return
    key_time = first.pts
    # Pictures shown before the key frame but stored after it may lean on what was not read.
    frames = (frame for frame in _decode(source, chain([first], packets)) if frame.pts is not None and frame.pts >= key_time)
    yield from _timed(source, frames)


def _packets(source: _Source) -> Iterator[Packet]:
    """The stream's packets; a file that cannot be read on ends there."""
    with contextlib.suppress(av.FFmpegError):
        yield from source.container.demux(source.stream)


def _decode(source: _Source, packets: Iterator[Packet]) -> Iterator[VideoFrame]:
    # An empty packet would end the decoding: those in the middle are left out, one comes at the end.
    for packet in chain((packet for packet in packets if packet.size), [None]):
        try:
            yield from source.stream.decode(packet)
        except av.FFmpegError:
            continue  # a damaged packet: the decoder goes on with the next


def _timed(source: _Source, frames: Iterator[VideoFrame]) -> Iterator[_Timed]:
    """Frames with their times, in rising order."""
    origin = source.stream.start_time
    longest = longest_s(source.container)
    last: _Timed | None = None
    for frame in frames:
        stamp = frame.pts if frame.pts is not None else frame.dts
        origin = stamp if origin is None else origin
        begin_s = last.end_s if last else Fraction(0)
        if stamp is not None and origin is not None:
            begin_s = (stamp - origin) * source.clock_s
        if last and (begin_s - last.end_s > LONGEST_GAP_S or begin_s > longest):
            return
        begin_s = max(begin_s, last.begin_s) if last else begin_s
        last = _Timed(frame, begin_s, begin_s + _shown_s(source, frame))
        yield last


def _shown_s(source: _Source, frame: VideoFrame) -> Fraction:
    duration_s = frame.duration * source.clock_s if frame.duration else source.usual_step_s
    return min(duration_s, Fraction(LONGEST_GAP_S))


def _slot(time_s: Fraction, rate: Fraction) -> int:
    """The frame at a constant rate that is nearest to a time; halves go up, as in ffmpeg's fps filter."""
    return floor(time_s * rate + Fraction(1, 2))


def _at_constant_rate(timed: Iterator[_Timed], rate: Fraction, start: int, stop: int | None) -> Iterator[tuple[int, VideoFrame]]:
    """Which decoded frame each frame from `start` on shows. A stream with pictures has at least one frame."""
    index = start
    held: _Timed | None = None
    for following in timed:
        if held is not None:
            shown_until = _bounded(_slot(following.begin_s, rate), stop)
            yield from ((filled, held.frame) for filled in range(index, shown_until))
            index = max(index, shown_until)
        held = following
        if stop is not None and index >= stop:
            return
    if held is not None:
        frames = max(1, _slot(held.end_s, rate))
        yield from ((last, held.frame) for last in range(index, _bounded(frames, stop)))


def _bounded(index: int, stop: int | None) -> int:
    return index if stop is None else min(index, stop)


def _key_frames(source: _Source, rate: Fraction) -> list[int]:
    """Frames at which groups of pictures begin, as the container's index has them; rising."""
    if not _can_seek(source):
        return []
    start = source.stream.start_time or 0
    entries = (entry for entry in source.stream.index_entries if entry.is_keyframe)
    return sorted({max(0, ceil((entry.timestamp - start) * source.clock_s * rate)) for entry in entries})


def _piece_length(source: _Source) -> int:
    width, height = source.size or (1920, 1080)
    coded = source.stream.codec_context.format
    bits = coded.padded_bits_per_pixel if coded else 24
    return max(1, min(PIECE_FRAMES, 8 * PIECE_BYTES // (bits * width * height)))
