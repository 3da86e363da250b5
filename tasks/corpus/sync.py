"""How far sound and picture of a clip are apart: the change of the lips' opening against the change of the speech's loudness.

Lips that open make speech louder at the same moment, in every language and at every size of the face, so no network is needed;
but nearly half of all clips of 10 s, and most shorter ones, say too little to be sure of it: then the confidence is low.
Landmarks are of their frame's time and so is the loudness: on recordings that are known to be in step the offset comes out as 0,
without a correction.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.audio import SAMPLE_RATE, loudness_db

FloatArray = npt.NDArray[np.float32]
Series = npt.NDArray[np.float64]
"""A number a frame."""

FRAME_SAMPLES = SAMPLE_RATE // 25
"""Samples of a frame."""
LARGEST_OFFSET_FRAMES = 12
"""Offsets that are looked for, in both directions: half a second. A wider search finds more chance likenesses than true offsets."""
SHORTEST_FRAMES = 50
"""Two seconds: in less speech a chance likeness is found more often than the true one (docstring of `lip_sync_offset`)."""
STILL_LIPS = 0.003
"""Standard deviation of the lip opening, in shares of the box, under which it is the landmarks' own unrest; speech has 0.01 to 0.05."""
SILENT_DB = -60.0
"""Loudness under which there is no speech to compare with."""
EVEN = 1e-6
"""Standard deviation under which a series does not change at all: a steady tone, lips that open at one speed."""

WINDOW = 1024
"""Samples whose energy stands for a frame: 64 ms, several periods of the lowest voice."""
SPEECH_BAND_HZ = (100.0, 4000.0)
"""Where the energy of vowels lies, for which mouths open; hum lies below, hiss above."""
NOISE_UNDER_LOUDEST_DB = 30.0
"""What is quieter, breath and room, counts as silence: its ups and downs have nothing to do with the lips."""

LIKENESS_DISCOUNT = 0.7
"""Share of the independent samples that counts: speech is rhythmic, so a syllable aside is more alike than chance would have it.

Measured (tests/bench/av_offset.py): with 0.7, of the estimates with a confidence of 0.5 and more 94 % are right in clips of 3 s and 95 % in clips of 10 s.
"""


@dataclass(frozen=True)
class SyncMeasure:
    """offset_frames: frames of 1/25 s by which the sound comes after the picture; confidence: 0..1. Both None: not measured."""

    offset_frames: float | None
    confidence: float | None


NOT_MEASURED = SyncMeasure(None, None)


def lip_sync_offset(lip_opening: npt.NDArray[np.floating], waveform: FloatArray) -> SyncMeasure:
    """The A/V offset of a clip: positive where the sound comes after the picture (sound late), a sound that is early is negative.

    lip_opening: (F,) shares of the box, 25 a second; waveform: (n,) 16 kHz from the first frame's time on. The offset lies
    within LARGEST_OFFSET_FRAMES, between whole frames too. The confidence is the probability that the true offset lies within
    a frame of it, among all offsets that were looked for and the case that lips and sound have nothing to do with each other,
    all of them equally likely before. NOT_MEASURED for a clip of less than SHORTEST_FRAMES, with still lips or without sound.
    """
    frames = min(len(lip_opening), len(waveform) // FRAME_SAMPLES)
    opening, sound = np.asarray(lip_opening[:frames], dtype=np.float64), waveform[: frames * FRAME_SAMPLES]
    if frames < SHORTEST_FRAMES or opening.std() < STILL_LIPS or loudness_db(sound) < SILENT_DB:
        return NOT_MEASURED
    lips, speech = _change(opening), _change(_level_db(sound))
    if min(lips.std(), speech.std()) < EVEN:
        return NOT_MEASURED
    likeness = _likeness(lips, speech)
    best = int(likeness.argmax())
    independent = LIKENESS_DISCOUNT * _independent_samples(lips, speech)
    return SyncMeasure(best - LARGEST_OFFSET_FRAMES + _between_frames(likeness, best), _confidence(likeness, best, independent))


def _level_db(waveform: FloatArray) -> Series:
    """The level of speech at each frame's time, in dB; silence is level."""
    padded = np.pad(np.asarray(waveform, dtype=np.float64), WINDOW // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[: len(waveform) : FRAME_SAMPLES]
    power = np.square(np.abs(np.fft.rfft(windows * np.hanning(WINDOW), axis=1)))
    hertz = np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE)
    energy = power[:, (hertz >= SPEECH_BAND_HZ[0]) & (hertz < SPEECH_BAND_HZ[1])].sum(axis=1)
    noise = max(float(energy.max()), 1e-12) * 10 ** (-NOISE_UNDER_LOUDEST_DB / 10)
    return 10 * np.log10(energy + noise)


def _change(series: Series) -> Series:
    """How a series changes around each frame: what is slow (a smile, a louder sentence) goes."""
    return np.convolve(np.pad(series, 1, "edge"), (0.5, 0.0, -0.5), "valid")


def _likeness(lips: Series, speech: Series) -> Series:
    """Correlation (-1..1) of lips with the speech 12 frames before them, ... and 12 frames after them."""
    frames = len(lips)
    lags = range(-LARGEST_OFFSET_FRAMES, LARGEST_OFFSET_FRAMES + 1)
    pairs = [(lips[max(0, -lag) : frames - max(0, lag)], speech[max(0, lag) : frames - max(0, -lag)]) for lag in lags]
    return np.array([_correlation(one, other) for one, other in pairs])


def _correlation(one: Series, other: Series) -> float:
    one, other = one - one.mean(), other - other.mean()
    size = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / size if size > 0 else 0.0


def _independent_samples(lips: Series, speech: Series) -> float:
    """How many independent samples the correlation of two series is worth (Bartlett): neighbours in a smooth series say the same."""
    frames, lags = len(lips), np.arange(1, LARGEST_OFFSET_FRAMES + 1)
    shared = float(((1 - lags / frames) * _with_itself(lips) * _with_itself(speech)).sum())
    return frames / max(1 + 2 * shared, 1.0)


def _with_itself(series: Series) -> Series:
    """Correlation of a series with itself 1, 2, ... 12 frames later."""
    centred = series - series.mean()
    products = [float(centred[lag:] @ centred[:-lag]) for lag in range(1, LARGEST_OFFSET_FRAMES + 1)]
    return np.array(products) / float(centred @ centred)


def _confidence(likeness: Series, best: int, independent: float) -> float:
    """Share of all evidence that lies within a frame of the best offset.

    A correlation r of m samples is (1 - r²)^(-m/2) times as likely where two series belong together than where they do not;
    lips that go against the sound are no evidence. "They do not" weighs as much before as all offsets together.
    """
    evidence = (1 - np.square(np.clip(likeness, 0.0, 0.999))) ** (-independent / 2)
    return float(evidence[max(0, best - 1) : best + 2].sum() / (evidence.sum() + len(evidence)))


def _between_frames(likeness: Series, best: int) -> float:
    """Where the top of the parabola through the best offset and its neighbours lies, -0.5..0.5 frames beside it."""
    if not 0 < best < len(likeness) - 1:
        return 0.0
    before, top, after = likeness[best - 1 : best + 2]
    bend = before - 2 * top + after
    return float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0
