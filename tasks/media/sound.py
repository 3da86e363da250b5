"""Decoded sound in blocks of one rate and layout, and, where asked for, in its place on the file's clock."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from schemas.errors import MediaError
from schemas.reasons import Reason
from tasks.media.container import audio_stream, longest_s, video_stream
from tasks.media.decode import LONGEST_GAP_S

INT16_SCALE = 32768.0
"""Of 16-bit PCM."""

TOLERANCE_S = 0.02
"""Sound this near to its place stays where it is: containers round their times to milliseconds."""
LONGEST_SILENCE_S = 3600
"""Of all the gaps of a file that does not say how long it is; 230 MB as a waveform."""
SILENT_BLOCK = 16384
"""Samples of silence at a time, to bound memory."""

Block = npt.NDArray[np.float32]
"""(n, channels) float32 in -1..1."""


class _Placed(NamedTuple):
    """A decoded frame, how much silence goes before it, and how much of its beginning is left out (samples of the output)."""

    frame: AudioFrame
    silence: int = 0
    cut: int = 0


class SoundReader:
    """Decodes a container's sound in blocks at the first frame's rate and layout; the encoder's priming samples are dropped.

    Sound that changes its rate or channels on the way is brought to the first's.
    `start_s`: the first sample is that of this time of the file's clock: earlier sound is left out, gaps are silence, and
    what overlaps the sound before it is left out; None: from the first sample on, whatever the times say.
    A gap of over ten minutes that is also longer than the video is a broken clock: the sound ends there.
    Raises MediaError(NO_AUDIO): no sound track, or not a sample in it.
    """

    def __init__(self, path: str | Path, container: InputContainer, sample_format: Literal["s16", "flt"], start_s: float | None = None) -> None:
        stream = audio_stream(container)
        if stream is None:
            raise MediaError(Reason.NO_AUDIO, f"{path} has no sound.")
        frames = _decoded(container, stream)
        first = next(frames, None)
        if first is None:
            raise MediaError(Reason.NO_AUDIO, f"{path} has a sound track without a single sample that can be decoded.")
        self.rate: int = first.sample_rate
        self.channels: int = first.layout.nb_channels
        self._frames = chain([first], frames)
        self._mixer = _Mixer(first, sample_format)
        self._start_s = start_s
        longest = longest_s(container)
        self._longest_gap_s = max(LONGEST_GAP_S, min(_video_s(container), longest))
        self._silence_s = max(LONGEST_SILENCE_S, min(longest, max(_video_s(container), (container.duration or 0) / av.time_base)))

    def blocks(self) -> Iterator[Block]:
        """All of the sound, once."""
        frames = map(_Placed, self._frames) if self._start_s is None else self._placed(Fraction(self._start_s))
        for frame, silence, cut in frames:
            if silence or cut:
                yield from self._mixer.rest()
            yield from self._silent(silence)
            yield from _without_beginning(self._mixer.mixed(frame), cut)
        yield from self._mixer.rest()

    def _placed(self, start_s: Fraction) -> Iterator[_Placed]:
        """The frames that are heard from a time on, each in its place; those without a time follow the one before."""
        at = silence = 0
        time_s = Fraction(0)
        for frame in self._frames:
            if frame.pts is not None and frame.time_base:
                time_s = frame.pts * frame.time_base
            shift = round((time_s - start_s) * self.rate) - at
            if at and abs(shift) <= TOLERANCE_S * self.rate:
                shift = 0
            time_s += Fraction(frame.samples, frame.sample_rate)
            samples = round(Fraction(frame.samples * self.rate, frame.sample_rate))
            if shift <= -samples:
                continue
            silence += max(0, shift)
            if shift > self._longest_gap_s * self.rate or silence > self._silence_s * self.rate:
                return
            yield _Placed(frame, max(0, shift), max(0, -shift))
            at += samples + shift

    def _silent(self, samples: int) -> Iterator[Block]:
        for begin in range(0, samples, SILENT_BLOCK):
            yield np.zeros((min(SILENT_BLOCK, samples - begin), self.channels), dtype=np.float32)


class _Mixer:
    """Brings frames to one sample format, rate and layout; those that already have them stay as they are, sample by sample."""

    def __init__(self, like: AudioFrame, sample_format: Literal["s16", "flt"]) -> None:
        self._layout, self._rate, self._format = like.layout, like.sample_rate, sample_format
        self._source: tuple[str, str, int] | None = None
        self._resampler: AudioResampler | None = None

    def mixed(self, frame: AudioFrame) -> Iterator[Block]:
        """What there is to be heard after one more frame."""
        source = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._resampler is None or source != self._source:
            yield from self.rest()
            self._source = source
            self._resampler = AudioResampler(format=self._format, layout=self._layout, rate=self._rate)
        yield from map(self._samples, self._resampler.resample(frame))

    def rest(self) -> Iterator[Block]:
        """What was held back; the next frame begins anew."""
        if self._resampler is not None:
            yield from map(self._samples, self._resampler.resample(None))
        self._resampler = None

    def _samples(self, frame: AudioFrame) -> Block:
        samples = frame.to_ndarray().reshape(frame.samples, -1)
        return samples.astype(np.float32) / np.float32(INT16_SCALE if self._format == "s16" else 1)


def _decoded(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
    """The stream's frames; what is damaged is left out, and sound that is cut off ends early."""
    packets = container.demux(stream)
    while (packet := _next_packet(packets)) is not None:
        # An empty packet in the middle would end the decoding; the one at the end comes below.
        if packet.size:
            yield from _frames_of(stream, packet)
    yield from _frames_of(stream, None)


def _next_packet(packets: Iterator[Packet]) -> Packet | None:
    try:
        return next(packets, None)
    except av.FFmpegError:
        return None


def _frames_of(stream: AudioStream, packet: Packet | None) -> list[AudioFrame]:
    try:
        return [frame for frame in stream.decode(packet) if frame.samples]
    except av.FFmpegError:
        return []  # a damaged packet: the decoder goes on with the next


def _video_s(container: InputContainer) -> float:
    """How long the video stream is; 0 where it does not say."""
    stream = video_stream(container)
    return float(stream.duration * stream.time_base) if stream and stream.duration and stream.time_base else 0.0


def _without_beginning(blocks: Iterator[Block], samples: int) -> Iterator[Block]:
    for block in blocks:
        yield block[samples:]
        samples = max(0, samples - len(block))
