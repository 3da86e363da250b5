"""Who speaks: choosing among faces that are there at the same time."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from tasks.audio import SAMPLE_RATE
from tasks.corpus.segments import Segment

SAMPLES_A_FRAME = SAMPLE_RATE // 25
LIPS_CORRELATE = 0.25
"""Lowest correlation of lip opening and loudness that counts as speaking: over 5 s of 39 real talkers the median was 0.35 with their own
sound and 0.17 with another's; of two talkers, the one whose sound it was had the higher one in 75 of 100 pairs."""
LARGEST_SHIFT_FRAMES = 3
"""Sound and picture need not be in step, and lips open before they are heard: the best correlation within so much is taken."""
FEWEST_FRAMES = 25
"""Below a second anything correlates by chance: nobody is taken for the speaker by it."""

FloatArray = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.float64]
Speaker = Literal["largest", "moving-lips", "all"]


def chosen(segments: Sequence[Segment], speaker: Speaker, waveform: FloatArray) -> list[bool]:
    """Whether each segment is kept: of segments that share a moment one is, of a window's best ones first.

    largest: by face area times frames. moving-lips: by how lip opening and loudness correlate, where that reaches LIPS_CORRELATE;
    those whose lips do not come after those whose lips do, by size. all: each is kept.
    waveform: (n,) 16 kHz mono from the first frame's time on.
    """
    if speaker == "all" or len(segments) < 2:
        return [True] * len(segments)
    rank = [_rank(segment, speaker, waveform) for segment in segments]
    kept: list[int] = []
    for which in sorted(range(len(segments)), key=lambda which: rank[which], reverse=True):
        if not any(_at_once(segments[which], segments[other]) for other in kept):
            kept.append(which)
    return [which in kept for which in range(len(segments))]


def lips_follow(segment: Segment, waveform: FloatArray) -> float:
    """Best correlation of a segment's lip opening with the loudness of its sound, -1..1, over shifts of a few frames.

    Both at 25 a second. 0 for less than FEWEST_FRAMES, and where either does not vary.
    """
    opening = np.array([frame.lip_opening for frame in segment.frames])
    if len(opening) < FEWEST_FRAMES:
        return 0.0
    return best_correlation(opening, loudness_a_frame(waveform, segment.start_frame, len(opening)))


def best_correlation(opening: Numbers, loudness: Numbers) -> float:
    """Best correlation of lip openings (n,) and loudness (n,), both at 25 a second, over shifts of a few frames: -1..1, 0 where either does not vary."""
    return max(_correlation(*_shifted(opening, loudness, shift)) for shift in range(-LARGEST_SHIFT_FRAMES, LARGEST_SHIFT_FRAMES + 1))


def _shifted(opening: Numbers, loudness: Numbers, shift: int) -> tuple[Numbers, Numbers]:
    """The part of both that is there when loudness comes `shift` frames later."""
    until = len(opening) - abs(shift)
    return opening[max(0, -shift) :][:until], loudness[max(0, shift) :][:until]


def _correlation(first: Numbers, second: Numbers) -> float:
    spread = first.std() * second.std()
    return float(((first - first.mean()) * (second - second.mean())).mean() / spread) if spread > 0 else 0.0


def loudness_a_frame(waveform: FloatArray, start_frame: int, frames: int) -> Numbers:
    """Root of the short-time energy of each frame's 40 ms of sound: (frames,), 0 where the sound track has ended."""
    piece = waveform[start_frame * SAMPLES_A_FRAME : (start_frame + frames) * SAMPLES_A_FRAME].astype(np.float64)
    piece = np.pad(piece, (0, frames * SAMPLES_A_FRAME - len(piece)))
    return np.sqrt(np.square(piece.reshape(frames, SAMPLES_A_FRAME)).mean(axis=1))


def _rank(segment: Segment, speaker: Speaker, waveform: FloatArray) -> tuple[float, float, int]:
    """What the best of several has most of; the lower track where two are the same."""
    follows = lips_follow(segment, waveform) if speaker == "moving-lips" else 0.0
    area = sum(frame.box.width * frame.box.height for frame in segment.frames)
    return follows if follows >= LIPS_CORRELATE else 0.0, area, -segment.track


def _at_once(first: Segment, second: Segment) -> bool:
    starts_before_end = first.start_frame < second.start_frame + len(second.frames)
    return starts_before_end and second.start_frame < first.start_frame + len(first.frames)
