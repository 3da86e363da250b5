"""Footage of several people and shots, put together from stills: the astronaut of scikit-image, and Matplotlib's admiral."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import matplotlib.cbook
import numpy as np

from tasks.media.encode import Sound, VideoWriter
from tests.footage import SAMPLE_RATE, loudness, portrait, speech_like_sound, talking_picture

SIDE = 256


def astronaut(index: int) -> np.ndarray:
    """(256, 256, 3) BGR: the astronaut's face in a frame, near, the mouth moving with the sound of seed 0."""
    time_s = np.array(index / 25)
    picture = talking_picture(portrait((512, 512)), float(loudness(time_s, 0)), 4.0 * float(np.sin(time_s)))
    return cv2.resize(picture[20:340, 90:410], (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def admiral(index: int) -> np.ndarray:
    """(256, 256, 3) BGR: the admiral's face, swaying and saying nothing."""
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=True) as file:
        picture = cv2.imdecode(np.frombuffer(file.read(), dtype=np.uint8), cv2.IMREAD_COLOR)
    face = cv2.resize(picture[0:500, 30:530], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.roll(face, round(2 * np.sin(index / 9)), axis=1)


def write_footage(path: Path, pictures: Sequence[np.ndarray], fps: Fraction | int = 25, *, sound: bool = True) -> Path:
    """Writes pictures (H, W, 3) of one size as an H.264 video; its sound is the one that the astronaut speaks."""
    height, width = pictures[0].shape[:2]
    track = Sound(speech_like_sound(len(pictures) / float(fps), 0)[:, None], SAMPLE_RATE) if sound else None
    with VideoWriter(str(path), width, height, Fraction(fps), track) as writer:
        for picture in pictures:
            writer.write(picture)
    return path
