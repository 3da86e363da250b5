"""Sound: 16 kHz mono waveforms, the mel spectrogram of the numeric contract, loudness, and lossless storage."""

import io
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from schemas.settings import MelSettings
from tasks.media.container import open_container
from tasks.media.encode import Sound
from tasks.media.sound import INT16_SCALE, Block, SoundReader

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
SILENCE_PIECE = round(0.04 * SAMPLE_RATE)
"""Samples of a piece that is silent or not."""
MEASURED_BLOCK = 1024 * SILENCE_PIECE
"""Samples measured at a time, to bound memory; whole pieces."""

Waveform = npt.NDArray[np.float32]
"""(n,) float32 in -1..1, 16 kHz, mono."""


def read_waveform(path: str | Path, start_s: float | None = None, most_samples: int | None = None) -> Waveform:
    """The sound of a file or of a video's sound track as (n,) float32, 16 kHz mono (contract: Audio).

    16-bit PCM at its own rate, mean of the channels, soxr HQ. With `start_s` the waveform begins at that time of the
    file's clock and stays with it: earlier sound is cut, a sound track that begins later is padded with zeros, gaps are
    zeros and overlaps are cut; None: begins with its first sample, one sample after the other as the original does.
    `most_samples`: no more of it is read than that takes.
    Raises MediaError: MISSING, UNREADABLE, NOT_MEDIA, DAMAGED, NO_AUDIO (no sound track, or not a sample in it).
    """
    blocks = waveform_blocks(path, start_s)
    return _joined(blocks if most_samples is None else _until(blocks, most_samples))


def waveform_blocks(path: str | Path, start_s: float | None = None) -> Iterator[Waveform]:
    """The waveform of `read_waveform` in pieces, one after the other, for sounds of hours. Raises MediaError as that does."""
    with open_container(path) as container:
        sound = SoundReader(path, container, "s16", start_s)
        yield from resampled(sound.blocks(), sound.rate)


def resampled(blocks: Iterator[Block], rate: int) -> Iterator[Waveform]:
    """Blocks (n, channels) of a sound as pieces of its 16 kHz mono waveform: that of `read_waveform` when they come of 16-bit PCM."""
    mono = (block.mean(axis=1) for block in blocks)
    if rate == SAMPLE_RATE:
        yield from mono
        return
    resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    read = made = 0
    for block in mono:
        read += len(block)
        piece = resampler.resample_chunk(block)
        made += len(piece)
        yield piece
    length = -(-read * SAMPLE_RATE // rate)
    rest = resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True)[: length - made]
    yield np.pad(rest, (0, length - made - len(rest)))


def read_sound(path: str | Path, start_s: float | None = None, stop_s: float | None = None) -> Sound:
    """The sound of a file at its own rate and channels, `start_s` as in `read_waveform`.

    `stop_s`: where reading ends, on the file's clock or, without `start_s`, from the first sample. Raises MediaError as `read_waveform`.
    """
    with open_container(path) as container:
        sound = SoundReader(path, container, "flt", start_s)
        blocks = sound.blocks()
        if stop_s is not None:
            blocks = _until(blocks, round((stop_s - (start_s or 0)) * sound.rate))
        return Sound(_joined(blocks).reshape(-1, sound.channels), sound.rate)


def mel_spectrogram(waveform: Waveform) -> npt.NDArray[np.float32]:
    """The mel spectrogram (frames, 80) float32 in -4..4 of a 16 kHz waveform (n,), frames = 1 + n // 200 (contract: Audio)."""
    return np.concatenate(list(mel_blocks(waveform)))


def mel_blocks(waveform: Waveform) -> Iterator[npt.NDArray[np.float32]]:
    """The mel spectrogram in pieces (n, 80), for sounds of hours."""
    frames = 1 + len(waveform) // MEL.hop
    for begin in range(0, frames, MEL_BLOCK):
        end = min(frames, begin + MEL_BLOCK)
        # Centred: a frame's window begins half a window before its time.
        samples = _emphasised(waveform, begin * MEL.hop - MEL.window // 2, (end - 1) * MEL.hop + MEL.window // 2)
        windows = np.lib.stride_tricks.sliding_window_view(samples, MEL.window)[:: MEL.hop]
        magnitude = np.abs(np.fft.rfft(windows * _hann(), axis=1))
        yield _normalised(magnitude @ _mel_bank().T).astype(np.float32)


def loudness_db(waveform: Waveform) -> float:
    """Root mean square level in dB of full scale; -100 for silence and for nothing."""
    if not len(waveform):
        return QUIETEST_DB
    power = sum(float(np.square(block, dtype=np.float64).sum()) for block in _blocks(waveform)) / len(waveform)
    return max(QUIETEST_DB, 10 * float(np.log10(max(power, 1e-12))))


def silence_share(waveform: Waveform) -> float:
    """Share (0..1) of 40 ms pieces that are more than 40 dB under full scale; 1 for nothing."""
    if not len(waveform):
        return 1.0
    pieces = -(-len(waveform) // SILENCE_PIECE)
    return sum(_silent_pieces(block) for block in _blocks(waveform)) / pieces


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


def _blocks(waveform: Waveform) -> Iterator[Waveform]:
    return (waveform[begin : begin + MEASURED_BLOCK] for begin in range(0, len(waveform), MEASURED_BLOCK))


def _silent_pieces(waveform: Waveform) -> int:
    """How many 40 ms pieces are silent; a short last one counts by its own samples."""
    squared = np.square(waveform, dtype=np.float64)
    begins = np.arange(0, len(waveform), SILENCE_PIECE)
    sizes = np.minimum(len(waveform) - begins, SILENCE_PIECE)
    return int(np.count_nonzero(np.add.reduceat(squared, begins) / sizes < 10 ** (SILENCE_DB / 10)))


def _joined(blocks: Iterable[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Blocks as one flat array, without ever holding the sound twice."""
    joined = bytearray()
    for block in blocks:
        joined += np.ascontiguousarray(block).data.cast("B") if block.size else b""
    return np.frombuffer(joined, dtype=np.float32)


def _until(blocks: Iterator[npt.NDArray[np.float32]], samples: int) -> Iterator[npt.NDArray[np.float32]]:
    """The first samples of a sound; what follows is not decoded."""
    while samples > 0 and (block := next(blocks, None)) is not None:
        yield block[:samples]
        samples -= len(block)


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
