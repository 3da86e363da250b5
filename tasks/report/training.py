"""The training page: curves, measures on held-out clips and what they mean, sample pictures and short clips, what the weights file says of itself."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from markupsafe import Markup
from pydantic import ValidationError

from schemas.checkpoints import CheckpointHeader
from schemas.errors import CheckpointError, MediaError, StoreError
from schemas.jobs import PublishSummary, TrainingSummary
from tasks import places
from tasks.evaluation.metric_meanings import NO_MEASURES, meaning
from tasks.published import decision_location
from tasks.report.charts import Series, line_chart
from tasks.report.page import picture_uri, write_page
from tasks.report.video import PageVideo, page_video

KINDS = {"landmark-generator": "landmark generator", "renderer": "renderer"}
PHASES = {1.0: "the warp alone is learnt", 2.0: "all losses are learnt from"}
MOST_PICTURES = 6
MOST_PREVIEWS = 2
"""Clips on a page, the first and the last: some hundred kilobytes each."""
PREVIEW_SAYS = {
    "landmark generator": "Left the real face. Beside it the same head with the mouth that the network makes of the clip's own speech, which is heard:"
    " it should speak as the real one. Where there are clips of other sources, also with the mouth of another clip's speech:"
    " that should not speak as the real one.",
    "renderer": "Left the real face, right the generated one, frame by frame as in a dub.",
}


@dataclass(frozen=True)
class HeldOutRow:
    """A measure on the held-out clips before the first step, of the weights to use, and at the end."""

    name: str
    meaning: str
    first_step: int
    first: float
    last_step: int
    last: float
    best: float | None
    """Of the weights to use; None where that step was not measured."""

    @property
    def ratio(self) -> float | None:
        """The last as a share of the first; None when that says nothing: the first is nought, or one is below."""
        return self.last / self.first if self.first > 0 and self.last >= 0 else None


@dataclass(frozen=True)
class CurveFigure:
    """A chart of one measure."""

    name: str
    explanation: str
    chart: Markup


@dataclass(frozen=True)
class SamplePicture:
    """A picture that the network made while it was trained."""

    uri: str
    caption: str


@dataclass(frozen=True)
class ShownPreview:
    """A short clip that the network made; None where it cannot be read."""

    video: PageVideo | None
    caption: str


@dataclass(frozen=True)
class TrainingFacts:
    """What the page says of one run. `header` and `summary` are None while a run has not written them."""

    out: str
    kind: str
    step: int
    header: CheckpointHeader | None
    summary: TrainingSummary | None
    learning_rate: float | None
    """Of the last step."""
    best_step: int | None
    """Of the weights to use."""
    phases: list[tuple[int, str]]
    """The step with which each phase began, and what is learnt in it."""
    has_held_out: bool
    """False: there are no validation clips, and what is called held out is training clips."""
    held_out: list[HeldOutRow]
    curves: list[CurveFigure]
    pictures: list[SamplePicture]
    previews: list[ShownPreview]
    preview_says: str
    publishing: PublishSummary | None
    """What was decided when it was last to be published; None: nobody tried."""

    def held_out_row(self, name: str) -> HeldOutRow | None:
        """The held-out measure of that name, if it was measured twice."""
        return next((row for row in self.held_out if row.name == name), None)


def training_report(out_dir: str | Path, html: str | Path) -> None:
    """Writes the page of a training run's folder. Raises StoreError when it holds no run or the page cannot be written."""
    write_page("training.html.j2", html, title="Training", training=training_facts(str(out_dir)))


def training_facts(out: str) -> TrainingFacts:
    """Reads what the page says. Raises StoreError when the folder holds no training run."""
    header = _read_header(out)
    summary = _read_summary(out)
    rows = _read_metrics(out)
    kind = _kind(header, summary)
    best_step = summary.best_step if summary else header.step if header else None
    return TrainingFacts(
        out=out,
        kind=kind,
        step=int(max((row["step"] for row in rows), default=header.step if header else 0)),
        header=header,
        summary=summary,
        learning_rate=next((float(row["learning_rate"]) for row in reversed(rows) if "learning_rate" in row), None),
        best_step=best_step,
        phases=_phases(rows),
        has_held_out=all(row.get("held_out", 1.0) for row in rows),
        held_out=_held_out(rows, kind, best_step),
        curves=[_curve(rows, name, kind) for name in _measure_names(rows)],
        pictures=_sample_pictures(out),
        previews=_previews(out),
        preview_says=PREVIEW_SAYS.get(kind, ""),
        publishing=_read_publishing(out),
    )


def _kind(header: CheckpointHeader | None, summary: TrainingSummary | None) -> str:
    said = header or summary
    return KINDS[said.kind] if said else "network"


def _read_metrics(out: str) -> list[dict[str, Any]]:
    location = places.join(out, "state", "metrics.jsonl")
    try:
        lines = places.read_bytes(location).decode().splitlines()
        return [json.loads(line) for line in lines if line.strip()]
    except OSError as error:
        if places.exists(places.join(out, "finetune.json")):
            runs = " or ".join(places.join(out, "runs", kind) for kind in KINDS)
            raise StoreError(f"{out} is a folder of fine-tuning, whose two training runs have a page each; give {runs}.") from error
        raise StoreError(f"There is no training run at {out}: {location} cannot be read.") from error
    except ValueError as error:
        raise StoreError(f"The metrics {location} are damaged: {error}.") from error


def _read_header(out: str) -> CheckpointHeader | None:
    """The header of the weights in the folder, None when there are none yet."""
    names = places.list_names(out, ".safetensors")
    if not names:
        return None
    from models.checkpoint import read_header  # brings torch, which a page without weights does not need

    location = places.join(out, names[0])
    try:
        return read_header(location)
    except (CheckpointError, RecursionError) as error:
        raise StoreError(f"The weights {location} do not say what they are: they were not written by dubmill, or are damaged.") from error


def _read_summary(out: str) -> TrainingSummary | None:
    location = places.join(out, "state", "summary.json")
    if not places.exists(location):
        return None
    try:
        return TrainingSummary.model_validate_json(places.read_bytes(location))
    except ValidationError as error:
        raise StoreError(f"The summary {location} is damaged.") from error


def _read_publishing(out: str) -> PublishSummary | None:
    location = decision_location(out)
    if not places.exists(location):
        return None
    try:
        return PublishSummary.model_validate_json(places.read_bytes(location))
    except ValidationError as error:
        raise StoreError(f"The decision {location} is damaged.") from error


def _measure_names(rows: list[dict[str, Any]]) -> list[str]:
    """Names of the measures: those of the held-out clips first, then in the order in which they come.

    The learning rate is a curve only where it changes.
    """
    ordered = sorted(rows, key=lambda row: row["split"] != "val")
    names = dict.fromkeys(name for row in ordered for name in row if name not in NO_MEASURES)
    has_schedule = len({row["learning_rate"] for row in rows if "learning_rate" in row}) > 1
    return [name for name in names if name != "learning_rate" or has_schedule]


def _curve(rows: list[dict[str, Any]], name: str, kind: str) -> CurveFigure:
    looks = {"train": "training clips", "val": "held-out clips"}
    curves = []
    for look, said in looks.items():
        held = [row for row in rows if row["split"] == look and name in row]
        if held:
            curves.append(Series(said, look, [row["step"] for row in held], [float(row[name]) for row in held]))
    return CurveFigure(name, meaning(name, kind), line_chart(curves))


def _phases(rows: list[dict[str, Any]]) -> list[tuple[int, str]]:
    """Where the phase of the training rows changes; nothing for a network that has but one."""
    held = [(int(row["step"]), float(row["phase"])) for row in rows if row["split"] == "train" and "phase" in row]
    changes = [held[index] for index in range(len(held)) if index == 0 or held[index][1] != held[index - 1][1]]
    return [(step, PHASES.get(phase, f"phase {phase:g}")) for step, phase in changes]


def _held_out(rows: list[dict[str, Any]], kind: str, best_step: int | None) -> list[HeldOutRow]:
    measured = [row for row in rows if row["split"] == "val"]
    if not measured:
        return []
    first, last = measured[0], measured[-1]
    best = next((row for row in measured if row["step"] == best_step), {})
    names = [name for name in first if name not in NO_MEASURES and name in last]
    return [
        HeldOutRow(name, meaning(name, kind), int(first["step"]), float(first[name]), int(last["step"]), float(last[name]), _number(best.get(name)))
        for name in names
    ]


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _sample_pictures(out: str) -> list[SamplePicture]:
    """A few of the run's pictures, the first and the last among them, in order of their steps."""
    folder = places.join(out, "state", "pictures")
    return [_sample_picture(folder, name) for name in _some_of(folder, ".png", MOST_PICTURES)]


def _previews(out: str) -> list[ShownPreview]:
    folder = places.join(out, "state", "previews")
    return [_preview(folder, name) for name in _some_of(folder, ".mp4", MOST_PREVIEWS)]


def _preview(folder: str, name: str) -> ShownPreview:
    try:
        video = page_video(places.join(folder, name))
    except (MediaError, OSError):
        video = None
    return ShownPreview(video, name.removesuffix(".mp4").replace("_", " "))


def _some_of(folder: str, suffix: str, most: int) -> list[str]:
    """At most so many of a folder's files, the first and the last step among them, in order of their steps."""
    names = sorted(places.list_names(folder, suffix), key=_step_of)
    chosen = np.unique(np.linspace(0, len(names) - 1, min(most, len(names))).astype(int)) if names else []
    return [names[index] for index in chosen]


def _sample_picture(folder: str, name: str) -> SamplePicture:
    content = places.read_bytes(places.join(folder, name))
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise StoreError(f"The picture {places.join(folder, name)} is damaged.")
    return SamplePicture(picture_uri(np.asarray(picture, np.uint8)), name.removesuffix(".png").replace("_", " "))


def _step_of(name: str) -> tuple[int, str]:
    digits = re.findall(r"\d+", name)
    return int(digits[-1]) if digits else -1, name
