"""Sound: 16 kHz mono waveforms, the mel spectrogram of the numeric contract, loudness, and lossless storage."""

import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import soundfile
import soxr
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer

from schemas.errors import MediaError
from schemas.reasons import Reason
from schemas.settings import MelSettings
from tasks.media.container import audio_stream, open_container
from tasks.media.encode import Sound

SAMPLE_RATE = 16000
"""Hz of every waveform."""

MEL = MelSettings()
PREEMPHASIS = 0.97
SMALLEST_MAGNITUDE = 1e-5
REFERENCE_DB = 20.0
DB_RANGE = 100.0
MEL_LIMIT = 4.0
"""Normalised values lie in -4..4."""
MEL_BLOCK = 4096
"""Mel frames computed at a time, to bound memory."""

QUIETEST_DB = -100.0
SILENCE_DB = -40.0
SILENCE_PIECE_S = 0.04
INT16_SCALE = 32768.0

Waveform = npt.NDArray[np.float32]
"""(n,) float32 in -1..1, 16 kHz, mono."""


def read_waveform(path: str | Path, start_s: float | None = None) -> Waveform:
    """The sound of a file or of a video's sound track as (n,) float32, 16 kHz mono (contract: Audio).

    16-bit PCM at its own rate, mean of the channels, soxr HQ. With `start_s` the waveform begins at that time of the
    file's clock: earlier sound is cut, a sound track that begins later is padded with zeros; None: begins with its first sample.
    Raises MediaError: MISSING, UNREADABLE, NOT_MEDIA, DAMAGED, NO_AUDIO (no sound track, or not a sample in it).
    """
    with open_container(path) as container:
        sound = _SoundReader(path, container, "s16")
        waveform = _to_waveform(sound.blocks(), sound.rate)
        if start_s is None:
            return waveform
        return _shifted(waveform, round((sound.start_s - start_s) * SAMPLE_RATE))


def read_sound(path: str | Path) -> Sound:
    """The sound of a file at its own rate and channels. Raises MediaError as `read_waveform`."""
    with open_container(path) as container:
        sound = _SoundReader(path, container, "flt")
        return Sound(np.concatenate(list(sound.blocks())), sound.rate)


def mel_spectrogram(waveform: Waveform) -> npt.NDArray[np.float32]:
    """The mel spectrogram (frames, 80) float32 in -4..4 of a 16 kHz waveform (n,), frames = 1 + n // 200 (contract: Audio)."""
    frames = 1 + len(waveform) // MEL.hop
    mel = np.empty((frames, MEL.bands), dtype=np.float32)
    for begin in range(0, frames, MEL_BLOCK):
        end = min(frames, begin + MEL_BLOCK)
        # Centred: a frame's window begins half a window before its time.
        samples = _emphasised(waveform, begin * MEL.hop - MEL.window // 2, (end - 1) * MEL.hop + MEL.window // 2)
        windows = np.lib.stride_tricks.sliding_window_view(samples, MEL.window)[:: MEL.hop]
        magnitude = np.abs(np.fft.rfft(windows * _hann(), axis=1))
        mel[begin:end] = _normalised(magnitude @ _mel_bank().T)
    return mel


def loudness_db(waveform: Waveform) -> float:
    """Root mean square level in dB of full scale; -100 for silence and for nothing."""
    if not len(waveform):
        return QUIETEST_DB
    power = float(np.mean(np.square(waveform, dtype=np.float64)))
    return max(QUIETEST_DB, 10 * float(np.log10(max(power, 1e-12))))


def silence_share(waveform: Waveform) -> float:
    """Share (0..1) of 40 ms pieces that are more than 40 dB under full scale; 1 for nothing."""
    piece = round(SILENCE_PIECE_S * SAMPLE_RATE)
    if not len(waveform):
        return 1.0
    padded = np.pad(np.asarray(waveform, dtype=np.float64), (0, -len(waveform) % piece)).reshape(-1, piece)
    sizes = np.full(len(padded), piece)
    sizes[-1] = len(waveform) - piece * (len(padded) - 1)
    power = np.square(padded).sum(axis=1) / sizes
    return float(np.mean(power < 10 ** (SILENCE_DB / 10)))


def encode_flac(waveform: Waveform) -> bytes:
    """A 16 kHz waveform as 16-bit FLAC, lossless for what comes from 16-bit PCM."""
    coded = io.BytesIO()
    samples = np.clip(np.round(np.asarray(waveform, dtype=np.float64) * INT16_SCALE), -INT16_SCALE, INT16_SCALE - 1)
    soundfile.write(coded, samples.astype(np.int16), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return coded.getvalue()


def decode_flac(coded: bytes) -> Waveform:
    """The waveform of `encode_flac`."""
    samples, _ = soundfile.read(io.BytesIO(coded), dtype="int16")
    return (samples / INT16_SCALE).astype(np.float32)


class _SoundReader:
    """Decodes a container's sound in blocks of (n, channels) float32; the encoder's priming samples are dropped."""

    def __init__(self, path: str | Path, container: InputContainer, sample_format: str) -> None:
        stream = audio_stream(container)
        if stream is None:
            raise MediaError(Reason.NO_AUDIO, f"{path} has no sound.")
        self._format = sample_format
        self._frames = _decoded(container, stream)
        first = next(self._frames, None)
        if first is None:
            raise MediaError(Reason.NO_AUDIO, f"{path} has a sound track without a single sample that can be decoded.")
        self._first = first
        self.rate = first.sample_rate
        self.start_s = float(first.pts * first.time_base) if first.pts is not None and first.time_base else 0.0

    def blocks(self) -> Iterator[npt.NDArray[np.float32]]:
        """All of the sound, once."""
        resampler = AudioResampler(format=self._format, layout=self._first.layout, rate=self.rate)
        yield from (self._samples(block) for block in resampler.resample(self._first))
        for frame in self._frames:
            yield from (self._samples(block) for block in resampler.resample(frame))
        yield from (self._samples(block) for block in resampler.resample(None))

    def _samples(self, frame: AudioFrame) -> npt.NDArray[np.float32]:
        samples = frame.to_ndarray().reshape(frame.samples, -1)
        return samples.astype(np.float32) / np.float32(INT16_SCALE if self._format == "s16" else 1)


def _decoded(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            return  # cut off: what came before is the sound
        if packet is None:
            return
        try:
            frames = packet.decode()
        except av.FFmpegError:
            continue  # a damaged packet: the decoder goes on with the next
        yield from (frame for frame in frames if frame.samples)


def _to_waveform(blocks: Iterator[npt.NDArray[np.float32]], rate: int) -> Waveform:
    mono = (block.mean(axis=1) for block in blocks)
    if rate == SAMPLE_RATE:
        return np.concatenate(list(mono))
    resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    pieces, samples = [], 0
    for block in mono:
        samples += len(block)
        pieces.append(resampler.resample_chunk(block))
    pieces.append(resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True))
    waveform = np.concatenate(pieces)
    length = -(-samples * SAMPLE_RATE // rate)
    return np.pad(waveform[:length], (0, max(0, length - len(waveform))))


def _shifted(waveform: Waveform, later: int) -> Waveform:
    """The waveform begun `later` samples later (padded) or, where negative, earlier (cut)."""
    return np.pad(waveform, (later, 0)) if later > 0 else waveform[-later:]


def _emphasised(waveform: Waveform, begin: int, end: int) -> npt.NDArray[np.float64]:
    """Samples `begin` to `end` of the pre-emphasised waveform, zeros outside it."""
    first, last = max(begin, 0), min(end, len(waveform))
    samples = np.zeros(end - begin)
    inside = samples[first - begin : last - begin]
    inside += waveform[first:last]
    before = waveform[max(first - 1, 0) : last - 1].astype(np.float64)
    inside[len(inside) - len(before) :] -= PREEMPHASIS * before
    return samples


def _normalised(magnitude: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    level_db = 20 * np.log10(np.maximum(SMALLEST_MAGNITUDE, magnitude)) - REFERENCE_DB
    return np.clip(2 * MEL_LIMIT * (level_db + DB_RANGE) / DB_RANGE - MEL_LIMIT, -MEL_LIMIT, MEL_LIMIT)


@cache
def _hann() -> npt.NDArray[np.float64]:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(MEL.window) / MEL.window)


@cache
def _mel_bank() -> npt.NDArray[np.float64]:
    """(80, 401): librosa's Slaney filter bank."""
    from librosa.filters import mel  # a second to import: only who computes mel spectrograms pays it

    bank = mel(sr=MEL.sample_rate, n_fft=MEL.window, n_mels=MEL.bands, fmin=MEL.lowest_hz, fmax=MEL.highest_hz)
    return bank.astype(np.float64)
