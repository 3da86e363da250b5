"""When the source is shown instead of the dub: heads turned far away, small faces, covered mouths, no face at all.

A missed word beats a monster. Every change is a short fade, which begins before the bad stretch, and none goes over a cut.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, get_args

import numpy as np
import numpy.typing as npt

from schemas.jobs import SourceShown
from schemas.settings import DubSettings
from tasks.dubbing.timeline import NO_TRACK

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
ReasonArray = npt.NDArray[np.int8]

REASONS: tuple[str, ...] = get_args(SourceShown.model_fields["reason"].annotation)
"""Why the source is shown, by index."""
DUBBED = -1
"""In the place of such an index: the dub is shown wholly."""
NO_FACE, TURNED_AWAY, TOO_SMALL, COVERED, NOT_SPOKEN = map(REASONS.index, ("no-face", "turned-away", "too-small", "covered", "not-spoken"))
FADE_S = 0.2
"""Length of a fade between source and dub: seen as neither a jump nor a double face."""
SHORTEST_DUB_S = 0.12
"""A shorter good stretch between bad ones stays bad: it would only flash up."""
STEADIED_S = 0.2
"""Visibility is the median over so long, so that a single frame neither covers nor uncovers a mouth."""
COVERED_BELOW, VISIBLE_FROM = 0.5, 0.8
"""A mouth that was below the first counts as covered until it is above the second."""
LARGE_ENOUGH_AGAIN = 1.1
"""A face that was too small counts as large enough from so many times the limit."""


class SeenFace(Protocol):
    """What must be known of F frames (`tasks.dubbing.template.Template` knows it)."""

    @property
    def tracks(self) -> IntArray:
        """(F,): NO_TRACK without a face"""

    @property
    def shots(self) -> IntArray:
        """(F,): grows at each cut"""

    @property
    def yaw_deg(self) -> FloatArray:
        """(F,)"""

    @property
    def face_px(self) -> FloatArray:
        """(F,): shorter side of the box"""

    @property
    def visibility(self) -> FloatArray:
        """(F,): of the mouth, 0..1"""


@dataclass(frozen=True)
class Shown:
    """What F source frames show.

    share (F,): float32, how much of the dub, 0 (the source) to 1. reasons (F,): int8, index into REASONS where the share is under
    1, DUBBED elsewhere.
    """

    share: FloatArray
    reasons: ReasonArray


def shown(template: SeenFace, settings: DubSettings, fps: float) -> Shown:
    """How much of the dub each source frame of the template can bear, at `fps` frames a second, and why not more."""
    share, reasons = _bearable(template, settings, fps)
    for shot in _runs(template.shots):
        _stay_bad_between(share[shot], reasons[shot], shortest=round(SHORTEST_DUB_S * fps))
        _fade(share[shot], reasons[shot], step=1 / max(1.0, FADE_S * fps))
    eased = share * share * (3 - 2 * share)
    return Shown(eased.astype(np.float32), np.where(share < 1, reasons, DUBBED).astype(np.int8))


def stretches(reasons: npt.ArrayLike, fps: float) -> tuple[SourceShown, ...]:
    """The stretches of output frames (F,) with a reason (index into REASONS, DUBBED: none), in seconds, in order."""
    numbers = np.asarray(reasons, dtype=np.int32)
    return tuple(
        SourceShown(start_s=run.start / fps, end_s=run.stop / fps, reason=REASONS[numbers[run.start]]) for run in _runs(numbers) if numbers[run.start] != DUBBED
    )


def _bearable(template: SeenFace, settings: DubSettings, fps: float) -> tuple[FloatArray, ReasonArray]:
    """The share of the dub (F,) that each frame bears by itself, and the reason (F,) that allows least; without fades."""
    shares = {
        NO_FACE: (np.asarray(template.tracks) != NO_TRACK).astype(np.float32),
        TOO_SMALL: _large_enough(template, settings.min_face_px),
        COVERED: _uncovered(template, fps) if settings.keep_covered else np.ones(len(template.tracks), dtype=np.float32),
        TURNED_AWAY: facing(template.yaw_deg, settings.fade_from_yaw_deg, settings.gone_at_yaw_deg),
    }
    stacked = np.stack(list(shares.values()))
    least = stacked.argmin(axis=0)  # of equal ones the first: a face that is not there is not also too small
    return stacked.min(axis=0), np.array(list(shares), dtype=np.int8)[least]


def facing(yaw_deg: FloatArray, fade_from_deg: float, gone_at_deg: float) -> FloatArray:
    """1 up to the first angle, 0 from the second on, to either side; where they are equal (or the wrong way round) at once."""
    turned = np.nan_to_num(np.abs(yaw_deg), nan=0.0)
    return np.clip((gone_at_deg - turned) / max(gone_at_deg - fade_from_deg, 1e-3), 0, 1).astype(np.float32)


def _large_enough(template: SeenFace, limit_px: float) -> FloatArray:
    px = np.nan_to_num(template.face_px, nan=0.0)
    return _no_flicker(template.shots, bad=px < limit_px, doubtful=px < limit_px * LARGE_ENOUGH_AGAIN)


def _uncovered(template: SeenFace, fps: float) -> FloatArray:
    steady = np.concatenate([_median(template.visibility[shot], round(STEADIED_S * fps)) for shot in _runs(template.shots)] or [template.visibility])
    return _no_flicker(template.shots, bad=steady < COVERED_BELOW, doubtful=steady < VISIBLE_FROM)


def _median(values: FloatArray, frames: int) -> FloatArray:
    """The median of the frames around each, at least three; the ends repeat."""
    reach = max(1, frames // 2)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, reach, mode="edge"), 2 * reach + 1)
    return np.asarray(np.median(windows, axis=1), dtype=np.float32)


def _no_flicker(shots: IntArray, bad: Mask, doubtful: Mask) -> FloatArray:
    """0 in each run of doubtful frames of a shot in which one is bad, else 1."""
    share = np.ones(len(bad), dtype=np.float32)
    for run in _runs(2 * np.asarray(shots, dtype=np.int64) + doubtful):
        if bad[run].any():
            share[run] = 0
    return share


def _stay_bad_between(share: FloatArray, reasons: ReasonArray, shortest: int) -> None:
    """Good frames between bad ones take the better share of the two beside them, and the reason before, when they are fewer than `shortest`."""
    bad = [run for run in _runs((share < 0.5).astype(np.int32)) if share[run.start] < 0.5]
    for before, after in pairwise(bad):
        gap = slice(before.stop, after.start)
        if gap.stop - gap.start < shortest:
            share[gap] = np.minimum(share[gap], max(share[before.stop - 1], share[after.start]))
            reasons[gap] = reasons[before.stop - 1]


def _fade(share: FloatArray, reasons: ReasonArray, step: float) -> None:
    """Lowers shares so that none differs by more than a step from its neighbours'; what is lowered takes the reason beside it."""
    frames = range(1, len(share))
    for frame, neighbour in [*((frame, frame - 1) for frame in frames), *((frame - 1, frame) for frame in reversed(frames))]:
        if share[neighbour] + step < share[frame]:
            share[frame], reasons[frame] = share[neighbour] + step, reasons[neighbour]


def _runs(values: npt.NDArray[Any]) -> Iterator[slice]:
    """The stretches (first, end) of equal values."""
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return (slice(first, end) for first, end in pairwise(edges) if first < end)
