"""From spoken phonemes to what a mouth does: how far it opens and how much it rounds, frame by frame."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.sample.speech import Phoneme, Speech

OPENINGS = {
    **dict.fromkeys(("p", "b", "m", "_", "_:"), 0.0),
    **dict.fromkeys(("f", "v"), 0.08),
    **dict.fromkeys(("s", "z", "S", "Z", "t", "d", "n", "l", "T", "D"), 0.18),
    **dict.fromkeys(("r", "j", "k", "g", "N", "h", "x", "X", "w"), 0.25),
    **dict.fromkeys(("u", "U", "y", "i"), 0.32),
    **dict.fromkeys(("I", "@", "3"), 0.45),
    **dict.fromkeys(("E", "e", "o", "O", "0"), 0.62),
    **dict.fromkeys(("V",), 0.75),
    **dict.fromkeys(("a", "A", "&"), 1.0),
}
"""Share of the widest opening, by espeak-ng's letters; a phoneme is looked up by its letters from the left."""
ROUNDINGS = {
    "u": 1.0,
    "U": 0.9,
    "w": 1.0,
    "y": 0.9,
    "o": 0.8,
    "O": 0.6,
    "0": 0.4,
    "r": 0.3,
    "S": 0.4,
    "Z": 0.4,
    "i": -0.5,
    "I": -0.3,
    "E": -0.3,
    "e": -0.4,
    "s": -0.2,
}
"""1: lips narrow and round, -1: drawn wide; 0 for all others."""
OTHER_OPENING = 0.2
SMOOTHING_S = 0.022
"""Standard deviation of the smoothing: lips take some 50 ms from one shape to the next."""
CLOSING_AHEAD_S = 0.03
"""How long before the sound of p, b, m the lips are already closed."""
STEPS_PER_S = 200
LOUDNESS_WINDOW_S = 0.06
SHARE_WITHOUT_LOUDNESS = 0.55
"""Part of an opening that does not depend on how loud the moment is: unstressed vowels open less."""


@dataclass(frozen=True)
class MouthMotion:
    """A value a frame, each (frames,) float64: opening 0..1, rounding -1..1, loudness 0..1."""

    opening: npt.NDArray[np.float64]
    rounding: npt.NDArray[np.float64]
    loudness: npt.NDArray[np.float64]


def mouth_motion(speech: Speech, fps: int, frames: int) -> MouthMotion:
    """What the mouth does while it says the speech: frame f shows the time f / fps."""
    time_s = np.arange(round(speech.duration_s * STEPS_PER_S) + 1) / STEPS_PER_S
    loudness = _loudness(speech, time_s)
    opening, rounding = _shapes(speech.phonemes, speech.duration_s, time_s)
    opening = opening * (SHARE_WITHOUT_LOUDNESS + (1 - SHARE_WITHOUT_LOUDNESS) * loudness)
    frame_time_s = np.arange(frames) / fps
    values = (np.interp(frame_time_s, time_s, _smooth(value)) for value in (opening, rounding, loudness))
    return MouthMotion(*values)


def shape_of(name: str) -> tuple[float, float, float]:
    """Opening at the beginning and at the end of a phoneme (they differ in diphthongs), and its rounding."""
    letters = [letter for letter in name if letter in OPENINGS]
    if not letters:
        return OTHER_OPENING, OTHER_OPENING, 0.0
    first, last = (letters[0], letters[-1]) if name[0] in "aAeEiIoOuUyV@03&" else (letters[0], letters[0])
    rounding = np.mean([ROUNDINGS.get(letter, 0.0) for letter in (first, last)])
    return OPENINGS[first], OPENINGS[last], float(rounding)


def _shapes(phonemes: tuple[Phoneme, ...], duration_s: float, time_s: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Opening and rounding at each time, straight lines between a quarter and three quarters of each phoneme; p, b, m close the lips sooner."""
    moments, openings, roundings = [0.0], [0.0], [0.0]
    ends = [phoneme.start_s for phoneme in phonemes[1:]] + [duration_s]
    for phoneme, end_s in zip(phonemes, ends, strict=True):
        at_first, at_last, rounding = shape_of(phoneme.name)
        length_s = end_s - phoneme.start_s
        ahead_s = CLOSING_AHEAD_S if phoneme.name[:1] in ("p", "b", "m") else -0.25 * length_s
        moments += [max(phoneme.start_s - ahead_s, moments[-1] + 1 / STEPS_PER_S), phoneme.start_s + 0.75 * length_s]
        openings += [at_first, at_last]
        roundings += [rounding, rounding]
    return np.interp(time_s, moments, openings, right=0.0), np.interp(time_s, moments, roundings, right=0.0)


def _loudness(speech: Speech, time_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """RMS around each time as a share of the loud passages' RMS, at most 1."""
    energy = np.cumsum(np.concatenate(([0.0], np.square(speech.samples, dtype=np.float64))))
    half = LOUDNESS_WINDOW_S / 2 * speech.sample_rate
    centre = time_s * speech.sample_rate
    starts = np.clip(centre - half, 0, len(speech.samples)).astype(int)
    stops = np.clip(centre + half, 1, len(speech.samples)).astype(int)
    rms = np.sqrt((energy[stops] - energy[starts]) / np.maximum(stops - starts, 1))
    return np.minimum(rms / max(float(np.quantile(rms, 0.95)), 1e-6), 1.0)


def _smooth(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(values, SMOOTHING_S * STEPS_PER_S, mode="nearest")
