"""The sound of a written video: copied as it is where MP4 holds it and it has the video's length, else coded to AAC."""

import contextlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, Protocol

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet

from tasks.media.container import audio_stream, open_container
from tasks.media.sound import Block, SoundReader

COPIED_CODEC = "aac"
"""What every player plays from an MP4; MP3, Opus, FLAC and the like may be there too, but then some stay silent."""
SAME_LENGTH_S = 0.1
"""Sound that ends this near to the last picture is copied: a tenth of a second more or less is not worth coding it again."""
LONGEST_PRIMING_S = 0.1
"""Sound before the first that is heard: the coder's own. More is a cut that the file only describes."""
SHIFT_S = 0.02
"""Packets this near to even steps follow each other without a gap: containers round their times."""

AAC_RATES = (48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
"""Hz that every player plays; other rates are resampled to the first."""
AAC_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}
"""By channels; other numbers are mixed down to one."""
AAC_BITS_PER_SECOND = {1: 128_000, 2: 192_000}
AAC_BITS_PER_SECOND_SURROUND = 384_000
SOUND_BLOCK = 16384
"""Samples handed to the encoder at a time."""


class Track(Protocol):
    """A sound on its way into a video."""

    def packets(self, until_s: Fraction | None) -> Iterable[Packet]:
        """Its packets up to a time, or (None) all that are left."""
        ...


def track_of_file(container: OutputContainer, path: Path, duration_s: Fraction | None, inputs: ExitStack) -> Track:
    """The sound of a file as a track of `duration_s` (None: of its own length), its first sample at the video's beginning.

    `inputs` closes the file. Raises MediaError: NO_AUDIO, also for a sound of which nothing can be decoded, and what opening raises.
    """
    reader = SoundReader(path, inputs.enter_context(open_container(path)), "flt")  # also of what is copied: players must be able to decode it
    if _may_be_copied(path, duration_s):
        return CopiedTrack(container, inputs.enter_context(open_container(path)))
    samples = None if duration_s is None else round(duration_s * reader.rate)
    blocks = reader.blocks() if samples is None else _of_length(reader.blocks(), samples, reader.channels)
    return CodedTrack(container, blocks, reader.rate, reader.channels)


def track_of_samples(container: OutputContainer, samples: npt.NDArray[np.float32], rate: int) -> Track:
    """Samples (n, channels) in -1..1 as a track of their own length."""
    blocks = (samples[begin : begin + SOUND_BLOCK] for begin in range(0, len(samples), SOUND_BLOCK))
    return CodedTrack(container, blocks, rate, samples.shape[1])


class CopiedTrack:
    """The coded sound of another file, packet by packet as it is."""

    def __init__(self, container: OutputContainer, source: InputContainer) -> None:
        stream = audio_stream(source)
        if stream is None:
            raise ValueError("there is no sound to copy")
        self._stream = container.add_stream_from_template(stream)
        self._origin = _origin(stream)
        self._packets = _packets(source, stream)
        self._next = next(self._packets, None)

    def packets(self, until_s: Fraction | None) -> Iterator[Packet]:
        """The packets that begin before a time, or all that are left."""
        while (packet := self._next) is not None:
            begin = _moved(packet.pts, self._origin) or 0
            if until_s is not None and begin * packet.time_base >= until_s:
                return
            self._next = next(self._packets, None)
            packet.pts, packet.dts = _moved(packet.pts, self._origin), _moved(packet.dts, self._origin)
            packet.stream = self._stream
            yield packet


class CodedTrack:
    """An AAC stream made of blocks of samples (n, channels)."""

    def __init__(self, container: OutputContainer, blocks: Iterable[Block], rate: int, channels: int) -> None:
        self._blocks = iter(blocks)
        self._mixed_down = channels not in AAC_LAYOUTS
        channels = 1 if self._mixed_down else channels
        self._rate = rate
        self._layout = AAC_LAYOUTS[channels]
        self._at = 0
        coded_rate = rate if rate in AAC_RATES else AAC_RATES[0]
        self._stream = container.add_stream("aac", rate=coded_rate, layout=self._layout)
        self._stream.bit_rate = AAC_BITS_PER_SECOND.get(channels, AAC_BITS_PER_SECOND_SURROUND)
        self._resampler = AudioResampler(format="fltp", layout=self._layout, rate=coded_rate)

    def packets(self, until_s: Fraction | None) -> Iterator[Packet]:
        """Coded sound up to a block after a time, or all that is left."""
        end = None if until_s is None else int(until_s * self._rate) + SOUND_BLOCK
        while (end is None or self._at < end) and (block := next(self._blocks, None)) is not None:
            if len(block):
                yield from self._coded(self._frame(block))
        if until_s is None:
            yield from self._coded(None)
            yield from self._stream.encode(None)

    def _coded(self, frame: AudioFrame | None) -> Iterator[Packet]:
        for resampled in self._resampler.resample(frame):
            yield from self._stream.encode(resampled)

    def _frame(self, block: Block) -> AudioFrame:
        samples = block.mean(axis=1, keepdims=True) if self._mixed_down else block
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples.T, dtype=np.float32), format="fltp", layout=self._layout)
        frame.sample_rate, frame.time_base, frame.pts = self._rate, Fraction(1, self._rate), self._at
        self._at += len(block)
        return frame


class _Heard(NamedTuple):
    """What of a coded sound is heard, in seconds: how much of the coder's own comes before, and how long it lasts."""

    priming_s: float
    duration_s: float


def _may_be_copied(path: Path, duration_s: Fraction | None) -> bool:
    with open_container(path) as source:
        stream = audio_stream(source)
        if stream is None or stream.codec_context.name != COPIED_CODEC:
            return False
        heard = _heard(source, stream)
    if heard is None or not -SHIFT_S <= heard.priming_s <= LONGEST_PRIMING_S:
        return False
    return duration_s is None or abs(heard.duration_s - float(duration_s)) <= SAME_LENGTH_S


def _heard(source: InputContainer, stream: AudioStream) -> _Heard | None:
    """None for a sound whose packets do not follow each other evenly: copied, it would not stay with lips that follow its samples."""
    times = [packet.pts for packet in _packets(source, stream)]
    if len(times) < 2 or None in times or stream.time_base is None:
        return None
    begins = np.array(times, dtype=np.float64)
    even = np.linspace(begins[0], begins[-1], len(begins))
    if np.abs(begins - even).max() * stream.time_base > SHIFT_S:
        return None
    end = begins[-1] + even[1] - even[0]
    return _Heard(float((_origin(stream) - begins[0]) * stream.time_base), float((end - _origin(stream)) * stream.time_base))


def _origin(stream: AudioStream) -> int:
    """When the first sample is heard; bare AAC does not say, and begins at once."""
    return stream.start_time or 0


def _packets(source: InputContainer, stream: AudioStream) -> Iterator[Packet]:
    """The stream's packets; a file that cannot be read on ends there."""
    with contextlib.suppress(av.FFmpegError):
        yield from (packet for packet in source.demux(stream) if packet.size)


def _moved(time: int | None, shift: int) -> int | None:
    return None if time is None else time - shift


def _of_length(blocks: Iterable[Block], samples: int, channels: int) -> Iterator[Block]:
    """A sound cut or continued by silence to a number of samples."""
    for block in blocks:
        yield block[:samples]
        samples -= min(samples, len(block))
        if not samples:
            return
    for begin in range(0, samples, SOUND_BLOCK):
        yield np.zeros((min(SOUND_BLOCK, samples - begin), channels), dtype=np.float32)
