"""How sure a dub is to look right, second by second, so that people look at the risky two per cent.

No judging network: what is known of each frame anyway (how far the head is turned, how small and how visible the face is, whether it
was guessed, how restlessly it moves, whether the new mouth does what this person's mouth does) lowers it, each cause by a factor.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from schemas.face_points import LOWER_LIP, UPPER_LIP
from schemas.jobs import Moment
from tasks.dubbing.frame_arrays import pieces_of
from tasks.dubbing.when_to_dub import SeenFace

FloatArray = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.floating]

BY_YAW_DEG = ([15.0, 35.0, 50.0], [1.0, 0.7, 0.3])
"""Trust in a head turned so far: half of the mouth is hidden from 40 degrees on."""
BY_FACE_PX = ([40.0, 80.0, 128.0], [0.4, 0.8, 1.0])
"""Trust in a face of so many pixels: landmarks go clearly wrong under 80."""
BY_VISIBILITY = ([0.0, 1.0], [0.2, 1.0])
"""Trust in a mouth that is so visible, where it is dubbed all the same."""
GUESSED = 0.6
"""Trust in a face that was interpolated between two found ones."""
BY_JITTER = ([0.01, 0.04], [1.0, 0.5])
"""Trust in a box whose middle or size changes its course by so many shares of it from one 25th of a second to the next: smoothed boxes
of speech stay under 0.01 in 99 of 100 frames; beyond are blows, blur and landmarks that jump."""
BY_EXCESS = ([0.15, 1.0], [1.0, 0.4])
"""Trust in lips that open wider, or close tighter, than the person's own ever do, by so many of the person's ranges."""
OWN_RANGE = (1.0, 99.0)
"""Percentiles of the person's own lip openings that bound the range: single frames may be misread."""
LEAST_RANGE = 0.02
"""Range of lip openings, in shares of the box, under which nothing is known of what the person's mouth does: a still picture's, a silent video's."""
SOURCE_TRUST = 0.5
"""Trust in a frame that shows the source: it looks right, but its lips say something else."""
WORST_SHARE = 0.25
"""A second is as sure as this share of its frames, the least sure ones: a quarter of a second is seen, a single frame is not."""
WORTH_A_LOOK = 0.8
"""Seconds that are surer are not listed."""
MOST_MOMENTS = 10
"""Seconds listed at most."""
JITTER_FPS = 25.0
"""Frames a second in whose steps jitter is told."""

SOURCE_SHOWN = "the source is shown"


class KnownFace(SeenFace, Protocol):
    """What must be known of F source frames (`tasks.dubbing.template.Template` knows it)."""

    @property
    def boxes(self) -> npt.NDArray[np.float64]:
        """(F, 4): x0, y0, x1, y1 in source pixels"""

    @property
    def content(self) -> FloatArray:
        """(F, 2, 57): the source's own mouth and jaw, 0..1 of the box; NaN without a face"""

    @property
    def detected(self) -> npt.NDArray[np.bool_]:
        """(F,): False where the face was interpolated"""


@dataclass(frozen=True)
class Evidence:
    """What speaks against n output frames.

    share (n,): of the dub. trust: by cause, (n,) 0..1 of the frame where it is dubbed. source_trust (n,): of the source where it shows:
    1 where nobody is to speak, so that it is what is to be seen; None: SOURCE_TRUST everywhere.
    """

    share: FloatArray
    trust: dict[str, FloatArray]
    source_trust: FloatArray | None = None

    @property
    def confidence(self) -> FloatArray:
        """(n,), 0..1: of each frame."""
        dubbed = np.prod(list(self.trust.values()), axis=0)
        return np.asarray(self.share * dubbed + (1 - self.share) * self._of_source, dtype=np.float32)

    @property
    def _of_source(self) -> FloatArray:
        return np.full(len(self.share), SOURCE_TRUST, dtype=np.float32) if self.source_trust is None else self.source_trust

    def why(self, frames: npt.NDArray[np.int64]) -> str:
        """What lowers these frames most, in words."""
        lost = {cause: float((self.share[frames] * (1 - trust[frames])).mean()) for cause, trust in self.trust.items()}
        lost[SOURCE_SHOWN] = float(((1 - self.share[frames]) * (1 - self._of_source[frames])).mean())
        return max(lost, key=lambda cause: lost[cause])


def evidence(template: KnownFace, played: npt.NDArray[np.int64], share: FloatArray, lip_openings: FloatArray, fps: float) -> Evidence:
    """What is known of n output frames at `fps` a second.

    played (n,): the source frame that each shows. share (n,): of the dub, as it is shown. lip_openings (n,): of the generated mouth,
    in shares of the box (`tasks.faces.crop.lip_opening`); NaN where none was generated.
    """
    source = {
        "the head is turned away": _trusted(np.abs(template.yaw_deg), BY_YAW_DEG),
        "the face is small": _trusted(template.face_px, BY_FACE_PX),
        "something is before the mouth": _trusted(template.visibility, BY_VISIBILITY),
        "the face was not found and its place is guessed": np.where(template.detected, 1.0, GUESSED),
        "the face moves abruptly": _trusted(_jitter(template, fps), BY_JITTER),
    }
    mouth = {"the new mouth does what this person's never does": _trusted(_excess(lip_openings, template.content), BY_EXCESS)}
    trust = {cause: values[played] for cause, values in source.items()} | mouth
    return Evidence(share.astype(np.float32), {cause: values.astype(np.float32) for cause, values in trust.items()})


def per_second(known: Evidence, fps: float) -> tuple[float, ...]:
    """The confidence of each second of the output, 0..1; the last may be a part of one."""
    frame_confidence = known.confidence
    return tuple(round(float(frame_confidence[frames].mean()), 3) for frames in _least_sure(frame_confidence, fps))


def worst_moments(known: Evidence, fps: float, most: int = MOST_MOMENTS) -> tuple[Moment, ...]:
    """The seconds to look at first, the least sure first; those that are sure enough are left out."""
    frame_confidence = known.confidence
    seconds = [
        Moment(second=second, confidence=round(float(frame_confidence[frames].mean()), 3), why=known.why(frames))
        for second, frames in enumerate(_least_sure(frame_confidence, fps))
    ]
    risky = [moment for moment in seconds if moment.confidence < WORTH_A_LOOK]
    return tuple(sorted(risky, key=lambda moment: (moment.confidence, moment.second))[:most])


def _least_sure(frame_confidence: FloatArray, fps: float) -> list[npt.NDArray[np.int64]]:
    """Of each second the frames (k,) by which it is judged."""
    second_of = np.floor(np.arange(len(frame_confidence)) / fps).astype(np.int64)
    chosen = []
    for second in range(int(second_of[-1]) + 1 if len(second_of) else 0):
        frames = np.flatnonzero(second_of == second)
        order = np.argsort(frame_confidence[frames], kind="stable")
        chosen.append(frames[order[: max(1, round(WORST_SHARE * len(frames)))]])
    return chosen


def _trusted(values: Numbers, table: tuple[list[float], list[float]]) -> Numbers:
    """The trust that belongs to values by a table, linearly between its rows; 1 where a value is not known."""
    return np.where(np.isfinite(values), np.interp(values, *table), 1.0)


def _jitter(template: KnownFace, fps: float) -> Numbers:
    """How much each frame's box leaves its course, (F,): shares of the box a step at JITTER_FPS. 0 at cuts and beside missing faces."""
    boxes = np.asarray(template.boxes, dtype=np.float64)
    size = np.maximum(np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]), 1.0)
    jitter = np.zeros(len(boxes))
    step = max(1, round(fps / JITTER_FPS))  # of two frames at 50 a second: boxes lie on whole pixels, which shorter steps take for a jump
    if len(boxes) > 2 * step:
        before, here, after = boxes[: -2 * step], boxes[step:-step], boxes[2 * step :]
        bend = np.abs(after - 2 * here + before).max(axis=1) / size[step:-step]
        one_face = _same(template.shots, step) & _same(template.tracks, step)
        jitter[step:-step] = np.where(one_face, bend, 0.0) * (fps / step / JITTER_FPS) ** 2
    return jitter


def _same(numbers: npt.NDArray[np.int32], step: int) -> npt.NDArray[np.bool_]:
    """(F - 2 step,): whether a frame has the number of both that are a step away."""
    values = np.asarray(numbers)
    return (values[2 * step :] == values[step:-step]) & (values[step:-step] == values[: -2 * step])


def _excess(lip_openings: FloatArray, own_content: FloatArray) -> Numbers:
    """How far openings (n,) lie outside of the person's own range, in ranges: 0 inside it, and where it is not known."""
    own = np.concatenate([np.linalg.norm(piece[:, :, UPPER_LIP] - piece[:, :, LOWER_LIP], axis=1) for piece in pieces_of(own_content)])
    own = own[np.isfinite(own)]
    if len(own) == 0:
        return np.zeros(len(lip_openings))
    low, high = np.percentile(own, OWN_RANGE)
    if high - low < LEAST_RANGE:
        return np.zeros(len(lip_openings))
    return np.maximum(np.maximum(lip_openings - high, low - lip_openings), 0.0) / float(high - low)
