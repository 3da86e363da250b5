"""Footage that tests make for themselves: the public-domain astronaut of scikit-image, swaying and opening her mouth."""

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import skimage.data

from tasks.media.encode import Sound, VideoWriter

SAMPLE_RATE = 16000
LIPS = (225, 182)  # x, y of the astronaut's mouth in the 512-pixel picture
OPEN_PX = 7.0


def portrait(size: tuple[int, int] = (256, 256)) -> np.ndarray:
    """The astronaut's head as a BGR picture of (width, height) pixels."""
    picture = skimage.data.astronaut()[0:320, 64:384, ::-1]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def talking_picture(picture: np.ndarray, opening: float, sway_px: float) -> np.ndarray:
    """The portrait with what lies under its mouth moved down by `opening` (0..1) and the whole moved aside by `sway_px`."""
    height, width = picture.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    mouth_x, mouth_y = (LIPS[0] - 64) * width / 320, LIPS[1] * height / 320
    below = 1 / (1 + np.exp(-(y - mouth_y) / (height / 150)))
    near = np.exp(-(((x - mouth_x) / (0.13 * width)) ** 2) - ((y - mouth_y) / (0.2 * height)) ** 2)
    return cv2.remap(picture, x - sway_px, y - OPEN_PX * height / 320 * opening * below * near, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def speech_like_sound(seconds: float, seed: int = 0) -> np.ndarray:
    """(n,) float32 at 16 kHz: a buzz whose loudness rises and falls three times a second."""
    time_s = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    noise = np.random.default_rng(seed).standard_normal(len(time_s)) * 0.02
    buzz = sum(np.sin(2 * np.pi * 130 * harmonic * time_s) / harmonic for harmonic in range(1, 12))
    return ((0.15 * buzz * loudness(time_s, seed)) + noise * loudness(time_s, seed)).astype(np.float32)


def loudness(time_s: np.ndarray, seed: int) -> np.ndarray:
    """0..1: how loud the sound and how open the mouth is at each time."""
    return np.clip(np.sin(2 * np.pi * (3.0 + 0.3 * (seed % 3)) * time_s + seed), 0, 1)


def make_talking_clip(
    path: Path,
    seconds: float = 1.0,
    fps: Fraction | int = 25,
    size: tuple[int, int] = (256, 256),
    seed: int = 0,
    *,
    sound: bool = True,
    hidden_frames: range = range(0),
) -> Path:
    """Writes an H.264 (+ AAC) clip of a talking face; in `hidden_frames` there is no face to be seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = portrait(size)
    waveform = speech_like_sound(seconds, seed)
    track = Sound(waveform[:, None], SAMPLE_RATE) if sound else None
    with VideoWriter(str(path), size[0], size[1], Fraction(fps), track) as writer:
        for index in range(round(seconds * fps)):
            time_s = np.array(index / float(fps))
            frame = talking_picture(picture, float(loudness(time_s, seed)), 2.0 * float(np.sin(time_s + seed)))
            writer.write(np.full_like(frame, 90) if index in hidden_frames else frame)
    return path


def make_speech(path: Path, seconds: float = 1.0, seed: int = 1) -> Path:
    """Writes a WAV file of speech-like sound."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, speech_like_sound(seconds, seed), SAMPLE_RATE)
    return path
