"""One generated video beside its real one: a row of figures for each of the two."""

import functools
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from models.syncnet import SyncNet, load_syncnet
from schemas.errors import MediaError
from schemas.jobs import EvaluationPair
from schemas.reasons import Reason
from schemas.settings import EvaluateSettings, MetricName
from tasks.dubbing.covered import usual_look, visibility
from tasks.dubbing.generate import pick_device
from tasks.dubbing.inputs import fetched
from tasks.evaluation import lips
from tasks.evaluation.alignment import Alignment, align, box_of, say_the_same
from tasks.evaluation.closures import compare_closures
from tasks.evaluation.face_measures import FaceMeasures
from tasks.evaluation.leak import leak
from tasks.evaluation.lip_sync import lip_speech_correlation, syncnet_scores
from tasks.evaluation.metrics import EXACT, METRICS, wanted_metrics
from tasks.evaluation.mouth_landmarks import LOST_SHARE, MOUTH_POINTS
from tasks.evaluation.mouth_motion import FEWEST_FRAMES, MouthMotion, jitter_mm, spoken_and_silent, squares
from tasks.evaluation.pair_pictures import PictureFigures, Sums, compare_pictures
from tasks.evaluation.seen_video import SeenVideo, see_video
from tasks.faces.crop import relative_points
from tasks.faces.head_angles import head_angles
from tasks.faces.landmarks import FaceMesh

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Row = dict[str, Any]
"""One of `schemas.tables.EVALUATED_CLIPS`; columns that it lacks are null."""

SIDES = ("generated", "real")
COVERED_UNDER = 0.5
"""Visibility of the mouth under which a frame counts as covered."""
NARROWEST_MOUTH_PX = 1e-6
"""Points that all lie in one place are no mouth, and no error."""
YAW_PERCENTILE = 95


class Instruments:
    """What pairs are measured with, loaded once: FaceMesh, and the networks whose weights the settings name. A context manager.

    CheckpointError when weights that are named cannot be used.
    """

    def __init__(self, settings: EvaluateSettings) -> None:
        self.settings = settings
        self.wanted = wanted_metrics(settings)
        weights = {setting: getattr(settings, setting) if metric in self.wanted else None for metric, setting in _WEIGHTS.items()}
        self.faces = FaceMeasures(pick_device(settings.device), **weights, finds_mouths=False)
        self.syncnet: SyncNet | None = load_syncnet(settings.sync_weights) if settings.sync_weights and self._wants_sync else None
        self.sums: Sums = {}
        """Of Inception's features, over all pairs that were compared."""
        self._mesh: FaceMesh | None = None

    @property
    def _wants_sync(self) -> bool:
        return bool(self.wanted & {"sync_confidence", "sync_distance", "sync_offset"})

    @property
    def mesh(self) -> FaceMesh:
        """Made when first needed."""
        self._mesh = self._mesh or FaceMesh()
        return self._mesh

    def see(self, path: Path) -> SeenVideo:
        """What there is in a video. MediaError when it cannot be read, or shows no face."""
        seen = see_video(path, self.settings.longest_s, self.mesh)
        if not seen.found.any():
            raise MediaError(Reason.NO_FACE, f"No face is found in any frame of {path}.")
        return seen

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._mesh is not None:
            self._mesh.close()


_WEIGHTS: dict[MetricName, str] = {"lpips": "lpips_weights", "fid": "fid_weights", "csim": "identity_weights"}
"""The settings that name what faces are measured with, by metric."""


def evaluate_pair(pair: EvaluationPair, instruments: Instruments) -> list[Row]:
    """Two rows, of the generated and of the real video; one that cannot be read, or shows no face, has the status failed and says why."""
    try:
        with ExitStack() as stack:
            paths = [fetched(stack, location) for location in (pair.generated, pair.real) if location]
            return compare_seen(pair, *map(instruments.see, paths), instruments=instruments)
    except MediaError as error:
        return failed_rows(pair, str(error))


def failed_rows(pair: EvaluationPair, sentence: str) -> list[Row]:
    """The rows of a pair that cannot be compared."""
    return [_named(pair, side) | {"status": "failed", "detail": sentence} for side in SIDES]


def _named(pair: EvaluationPair, side: str) -> Row:
    return {"name": pair.name, "side": side, "location": getattr(pair, side), "speaker": pair.speaker, "language": pair.language}


def compare_seen(pair: EvaluationPair, generated: SeenVideo, real: SeenVideo, *, instruments: Instruments) -> list[Row]:
    """Two rows, of the generated and of the real video, which were looked at already."""
    settings = instruments.settings
    alignment = align(generated, real, settings.length_difference_frames)
    frames = min(len(generated.points), len(real.points))
    rows = [_named(pair, side) | _circumstances(alignment, real.first(frames), settings) for side in SIDES]
    if alignment.fault and not settings.compare_misaligned:
        return [row | {"status": "misaligned", "detail": alignment.fault} for row in rows]
    both = Both(generated.first(frames), real.first(frames), pair, instruments)
    return [row | both.figures(side) | {"status": "compared", "detail": ""} for row, side in zip(rows, SIDES, strict=True)]


def _circumstances(alignment: Alignment, real: SeenVideo, settings: EvaluateSettings) -> Row:
    """What both rows say of the pair: how it is aligned, and under what conditions it was filmed."""
    found = real.points[real.found]
    boxes = [box for points in found if (box := box_of(points, real.size, settings.crop)) is not None]
    usual = usual_look(real.looks)
    covered = visibility(real.looks[real.found], usual) < COVERED_UNDER
    return {
        "frames": len(real.points),
        "shift_frames": alignment.shift_frames,
        "overlap": alignment.overlap,
        "face_px": float(np.median([min(box.width, box.height) for box in boxes])) if boxes else None,
        "yaw_deg": float(np.percentile(np.abs(head_angles(found)[:, 0]), YAW_PERCENTILE)) if len(found) else None,
        "covered_share": float(covered.mean()) if len(covered) else None,
    }


@dataclass
class Both:
    """A generated and a real video of the same T frames, and what is measured of them."""

    generated: SeenVideo
    real: SeenVideo
    pair: EvaluationPair
    instruments: Instruments
    motions: dict[str, MouthMotion] = field(init=False)
    mels: dict[str, FloatArray] = field(init=False)
    same_speech: bool = field(init=False)
    pictures: PictureFigures = field(init=False)

    def __post_init__(self) -> None:
        settings = self.instruments.settings
        width_px = max(float(np.nanmedian(lips.mouth_width(self.real.content))), NARROWEST_MOUTH_PX)
        self.motions = {side: MouthMotion.of(self.video(side).content, width_px) for side in SIDES}
        self.mels = {side: self.video(side).mel() for side in SIDES}
        self.same_speech = settings.speech == "same" or (settings.speech == "auto" and self.pair.speech is None and say_the_same(*self.mels.values()))
        counted = self.instruments.sums if "fid" in self.instruments.wanted else None
        self.pictures = compare_pictures(self.generated, self.real, settings.pictures, settings.crop, self.instruments.faces, counted)

    def video(self, side: str) -> SeenVideo:
        """One of the two."""
        return self.generated if side == "generated" else self.real

    @property
    def found(self) -> BoolArray:
        """(T,) frames in which both have a face."""
        return self.generated.found & self.real.found

    def figures(self, side: str) -> Row:
        """What one side's row says. What the wanted metrics do not need is left out."""
        shown = float(self.video(side).found[self.real.found].mean()) if self.real.found.any() else None
        row = {"speech": "same" if self.same_speech else "other", "faces_found": shown}
        row |= self._alone(side) | self._silence(side)
        if self.same_speech:
            row |= self._mouth_against_real(side) | self._likeness(side)
        else:
            row |= self._leak(side)
        return {name: value for name, value in row.items() if name not in METRICS or name in self.instruments.wanted}

    def _alone(self, side: str) -> Row:
        """Figures that need no other video."""
        seen = self.video(side)
        seams = self.pictures.seams.get(side)
        scores = syncnet_scores(seen, self.instruments.syncnet) if self.instruments.syncnet else None
        return {
            "jitter": jitter_mm(seen.pose, seen.content),
            "seam": float(np.mean(seams)) if seams else None,
            "lip_speech_correlation": lip_speech_correlation(self.motions[side].inner, seen.waveform),
            "sync_confidence": scores.confidence if scores else None,
            "sync_distance": scores.distance if scores else None,
            "sync_offset": scores.offset_frames if scores else None,
        }

    def _silence(self, side: str) -> Row:
        """What the mouth does where nobody speaks, against how much the real one moves where somebody does."""
        motion, frames = self.motions[side], len(self.real.points)
        _, silent = spoken_and_silent(self.mels[side], frames) if len(self.mels[side]) else (None, np.zeros(frames, np.bool_))
        spoken, _ = spoken_and_silent(self.mels["real"], frames) if len(self.mels["real"]) else (np.zeros(frames, np.bool_), None)
        still, moving = motion.outer[silent & self.video(side).found], self.motions["real"].outer[spoken & self.real.found]
        if min(len(still), len(moving)) < FEWEST_FRAMES:
            return {}
        real_spread = np.sqrt(squares(moving) / len(moving))
        return {
            "silence_frames": len(still),
            "silence_squares": squares(still),
            "real_speech_frames": len(moving),
            "real_speech_squares": squares(moving),
            "silence_motion": float(np.sqrt(squares(still) / len(still)) / real_spread) if real_spread > 0 else None,
            "silence_opening": float(motion.inner[silent & self.video(side).found].mean()),
        }

    def _mouth_against_real(self, side: str) -> Row:
        """Counts that are added up over clips before a share is taken."""
        own, real = self.motions[side], self.motions["real"]
        closures = compare_closures(own.closed[self.found], real.closed[self.found])
        moved, really_moved = squares(own.outer[self.found]), squares(real.outer[self.found])
        detail, real_detail = self._details(side)
        return {
            "opening_squares": moved,
            "real_opening_squares": really_moved,
            "articulation": float(np.sqrt(moved / really_moved)) if really_moved > 0 else None,
            "closed_frames": closures.predicted_frames,
            "right_closed_frames": closures.right_frames,
            "real_closures": closures.real_moments,
            "met_closures": closures.met_moments,
            "mouth_detail": detail,
            "real_mouth_detail": real_detail,
            "mouth_sharpness": detail / real_detail if detail is not None and real_detail else None,
        }

    def _details(self, side: str) -> tuple[float | None, float | None]:
        if not self.pictures.details:
            return None, None
        own, real = self.pictures.details[side], self.pictures.details["real"]
        shown = np.isfinite(own) & np.isfinite(real)
        return (float(own[shown].sum()), float(real[shown].sum())) if shown.any() else (None, None)

    def _likeness(self, side: str) -> Row:
        """Distances from the real video: of the real one itself known by definition, where they are measured of the generated one."""
        measured: Row = {name: value for name, value in self._against_real.items() if value is not None}
        return measured if side == "generated" else {name: EXACT[name] for name in measured}

    @functools.cached_property
    def _against_real(self) -> dict[str, float | None]:
        """Distances of the generated from the real video."""
        found: dict[str, float | None] = {"csim": self.pictures.likeness}
        for name in EXACT:
            if name in self.pictures.distances:
                found[name] = float(self.pictures.distances[name].mean())
        apart = self._points_apart()
        return found if apart is None else found | {"lmd": float(apart.mean()), "lip_lmd": float(apart[:, -MOUTH_POINTS:].mean())}

    def _points_apart(self) -> npt.NDArray[np.float64] | None:
        """(n, 131) distances of the points in shares of the real face's box, over the frames with a real face; LOST_SHARE where the generated is lost."""
        crop = self.instruments.settings.crop
        apart = []
        for generated, real in zip(self.generated.points[self.real.found], self.real.points[self.real.found], strict=True):
            box = box_of(real, self.real.size, crop)
            if box is not None:
                apart.append(np.linalg.norm(relative_points(generated, box, crop) - relative_points(real, box, crop), axis=1))
        return np.nan_to_num(np.stack(apart), nan=LOST_SHARE) if apart else None

    def _leak(self, side: str) -> Row:
        """How far the generated mouth follows that of the video that was dubbed. Real: how far that of the speech's own speaker does, by chance."""
        frames = min(len(self.found), len(self.pair.heard)) if self.pair.heard else len(self.found)
        there = self.found[:frames]
        heard = [np.array(self.pair.heard[:frames])[there]] if self.pair.heard else []
        own, source = (self.motions[which].inner[:frames][there] for which in SIDES)
        if not there.any() or (side == "real" and not heard):
            return {}
        return {"leak": leak(own, source, heard) if side == "generated" else leak(heard[0], source), "leak_frames": int(there.sum())}
