"""The page of an evaluation: generated beside real, with intervals and published figures, best and worst clips, speakers, conditions, definitions."""

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from pydantic import ValidationError

from schemas.errors import MediaError, StoreError
from schemas.jobs import Estimate, EvaluationSummary, GroupFigure, MetricFigure
from schemas.locations import without_secrets
from schemas.settings import MetricName
from tasks import places
from tasks.audio import read_sound
from tasks.evaluation.evaluated_clips import SUMMARY, Row, read_clips
from tasks.media.decode import read_frames
from tasks.media.encode import Sound, VideoWriter
from tasks.media.probe import probe
from tasks.mel_windows import VIDEO_FPS
from tasks.report.charts import Series, line_chart
from tasks.report.page import data_uri, picture_uri, write_page
from tasks.report.sketched_faces import differing_faces
from tasks.report.video import PageVideo

Picture = npt.NDArray[np.uint8]

ANCHORS: dict[MetricName, str] = {
    "ssim": "0.9399 (IP_LAP, LRS2)",
    "fid": "about 20 (IP_LAP's goal in training, a mean over batches)",
}
"""Published figures, of other test sets and of pictures cut in other ways: they say what is usual, and nothing more."""
RANKED_BY = (("lip_lmd", 1.0), ("psnr", -1.0), ("leak", 1.0))
"""What tells the worst clip: the first of these that the rows have; with the sign that makes more of it worse."""
SHOWN_EACH = 2
"""Best and as many worst clips; some hundred kilobytes each."""
LONGEST_SHOWN_S = 6.0
SHOWN_HEIGHT = 288
SHOWN_CRF = 27
MOST_GROUPS = 60
"""Rows of a table of groups: the worst of more speakers are shown."""
COLUMNS_OF_GROUPS: tuple[MetricName, ...] = ("psnr", "ssim", "lip_lmd", "csim", "articulation", "closure_recall", "leak", "jitter", "mouth_sharpness")
"""What the tables by speaker and condition show; all of it is in summary.json."""
DIGITS = 4


@dataclass(frozen=True)
class ShownMetric:
    """A line of the summary's table."""

    name: str
    generated: str
    interval: str
    real: str
    anchor: str
    better: str
    clips: int


@dataclass(frozen=True)
class ShownClip:
    """A clip to look at: real beside generated, or a sentence why it cannot be shown."""

    name: str
    caption: str
    video: PageVideo | None
    sketches: str | None = None
    """Address of a picture: real and generated face with their landmarks, where the mouths differ most."""
    fault: str = ""


@dataclass(frozen=True)
class GroupTable:
    """A condition's groups: a row each, generated, and beside it the real one's figure where that is measured."""

    condition: str
    columns: list[str]
    rows: list[tuple[str, int, list[str]]]
    left_out: int


@dataclass(frozen=True)
class VersionChart:
    """A metric over several evaluations, generated and real."""

    name: str
    explanation: str
    chart: Markup


@dataclass(frozen=True)
class EvaluationFacts:
    """What the page says."""

    summary: EvaluationSummary
    metrics: list[ShownMetric]
    worst: list[ShownClip]
    best: list[ShownClip]
    ranked_by: str
    tables: list[GroupTable]
    definitions: list[MetricFigure]
    versions: list[tuple[int, str, str]]
    """Of each evaluation that the charts are of, in their order: its number, its networks, its folder. None but where there are several."""
    charts: list[VersionChart]


def evaluation_report(location: str | Path, html: str | Path, before: Sequence[str | Path] = ()) -> None:
    """Writes the page of an evaluation's folder, with curves over those before it, the oldest first.

    Raises StoreError when a folder holds none or the page cannot be written.
    """
    write_page("evaluation.html.j2", html, title="Evaluation", evaluation=evaluation_facts(str(location), tuple(map(str, before))))


def evaluation_facts(out: str, before: Sequence[str] = ()) -> EvaluationFacts:
    """Reads what the page says. Raises StoreError when there is no evaluation."""
    summary, rows = _read_summary(out), read_clips(out)
    history = [*map(_read_summary, before), summary]
    ranked_by, ranked = _ranked(rows)
    shown = min(SHOWN_EACH, len(ranked) // 2) if len(ranked) > 1 else len(ranked)
    return EvaluationFacts(
        summary=summary,
        metrics=[_shown(figure) for figure in summary.metrics],
        worst=[_clip(row, rows, out, ranked_by) for row in ranked[:shown]],
        best=[_clip(row, rows, out, ranked_by) for row in reversed(ranked[len(ranked) - shown :])] if len(ranked) > 1 else [],
        ranked_by=ranked_by,
        tables=_tables(summary),
        definitions=list(summary.metrics),
        versions=[(number, _networks(one), one.out) for number, one in enumerate(history, start=1)] if before else [],
        charts=_charts(history) if before else [],
    )


def _networks(summary: EvaluationSummary) -> str:
    return ", ".join(f"{network.replace('_', ' ')} {version}" for network, version in summary.models.items()) or "videos"


def _charts(history: list[EvaluationSummary]) -> list[VersionChart]:
    """A chart for each metric of the newest evaluation that another one has too."""
    return [chart for figure in history[-1].metrics if (chart := _chart(figure, history)) is not None]


def _chart(figure: MetricFigure, history: list[EvaluationSummary]) -> VersionChart | None:
    found = [(number, other) for number, summary in enumerate(history, start=1) for other in summary.metrics if other.name == figure.name]
    if len(found) < 2:
        return None
    sides = {"generated": "val", "real": "train"}
    curves = {side: [(number, one.value) for number, other in found if (one := getattr(other, side)) is not None and not one.exact] for side in sides}
    series = [Series(side, look, [x for x, _ in curves[side]], [y for _, y in curves[side]]) for side, look in sides.items()]
    return VersionChart(figure.name.replace("_", " "), figure.better, line_chart(series, "evaluation"))


def _read_summary(out: str) -> EvaluationSummary:
    location = places.join(out, SUMMARY)
    try:
        return EvaluationSummary.model_validate_json(places.read_bytes(location))
    except OSError as error:
        raise StoreError(f"There is no evaluation at {without_secrets(out)}: {SUMMARY} cannot be read.") from error
    except ValidationError as error:
        raise StoreError(f"The summary {without_secrets(location)} is damaged, or of another version of dubmill.") from error


def _shown(figure: MetricFigure) -> ShownMetric:
    generated = figure.generated
    return ShownMetric(
        name=figure.name,
        generated=_number(generated),
        interval=f"{_digits(generated.low)} to {_digits(generated.high)}" if generated and generated.low is not None and generated.high is not None else "",
        real=_number(figure.real),
        anchor=ANCHORS.get(figure.name, ""),
        better=figure.better,
        clips=generated.clips if generated else 0,
    )


def _number(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    return f"{_digits(estimate.value)}{' exact' if estimate.exact else ''}"


def _digits(value: float) -> str:
    return f"{value:.{DIGITS}g}".replace("-", "−")


def _ranked(rows: list[Row]) -> tuple[str, list[Row]]:
    """By which metric, and the generated rows that have it, the worst first."""
    compared = [row for row in rows if row["side"] == "generated" and row["status"] == "compared"]
    for name, sign in RANKED_BY:
        measured = [row for row in compared if row[name] is not None]
        if measured:
            return name, sorted(measured, key=lambda row: -sign * row[name])
    return "", []


def _clip(row: Row, rows: list[Row], out: str, ranked_by: str) -> ShownClip:
    real = next(other for other in rows if other["name"] == row["name"] and other["side"] == "real")
    caption = f"{ranked_by.replace('_', ' ')} {_digits(row[ranked_by])}" + (f", {row['speaker']}" if row["speaker"] else "")
    try:
        with places.local_copy(_found(real["location"], out)) as true, places.local_copy(_found(row["location"], out)) as made:
            faces = differing_faces(true, made, LONGEST_SHOWN_S)
            return ShownClip(row["name"], caption, side_by_side(true, made), None if faces is None else picture_uri(faces))
    except (MediaError, OSError, StoreError) as error:
        return ShownClip(row["name"], caption, None, fault=without_secrets(str(error)))


def _found(location: str | None, out: str) -> str:
    """Where a video lies: as its row says, or, when the evaluation's folder was moved, by its name below it."""
    if location is None:
        raise StoreError("Its video was not kept.")
    below = places.join(out, "videos", places.name_of(location))
    return below if not places.exists(location) and places.exists(below) else location


def side_by_side(true: Path, made: Path) -> PageVideo:
    """The first seconds of both, real left and generated right, small, with the generated one's sound. MediaError when one cannot be read."""
    with tempfile.TemporaryDirectory(prefix="dubmill-") as folder:
        frames = _joined(true, made)
        first = next(frames)
        copy = Path(folder) / "pair.mp4"
        height, width = first.shape[:2]
        with VideoWriter(str(copy), width, height, Fraction(VIDEO_FPS), _sound(made), crf=SHOWN_CRF) as writer:
            for picture in itertools.chain((first,), frames):
                writer.write(picture)
        return PageVideo(data_uri(copy.read_bytes(), "video/mp4"), width, height, is_copy=True)


def _joined(real: Path, generated: Path) -> Iterator[Picture]:
    last = round(LONGEST_SHOWN_S * VIDEO_FPS)
    for one, other in zip(read_frames(real, VIDEO_FPS, 0, last), read_frames(generated, VIDEO_FPS, 0, last), strict=False):
        yield np.concatenate([_small(one.picture), _small(other.picture)], axis=1)


def _small(picture: Picture) -> Picture:
    height = min(SHOWN_HEIGHT, picture.shape[0]) // 2 * 2
    width = max(2, round(picture.shape[1] * height / picture.shape[0] / 2) * 2)
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _sound(path: Path) -> Sound | None:
    info = probe(path)
    if not info.has_audio:
        return None
    sound = read_sound(path, info.start_s, info.start_s + LONGEST_SHOWN_S)
    return sound if len(sound.samples) else None


def _tables(summary: EvaluationSummary) -> list[GroupTable]:
    conditions = dict.fromkeys(group.condition for group in summary.groups)
    return [_table(condition, [group for group in summary.groups if group.condition == condition]) for condition in conditions]


def _table(condition: str, groups: list[GroupFigure]) -> GroupTable:
    columns = [name for name in COLUMNS_OF_GROUPS if any(name in group.generated for group in groups)]
    ordered = sorted(groups, key=lambda group: -group.generated.get("lip_lmd", 0.0)) if len(groups) > MOST_GROUPS else groups
    rows = [(group.group, group.clips, [_cell(group, name) for name in columns]) for group in ordered[:MOST_GROUPS]]
    return GroupTable(condition, [name.replace("_", " ") for name in columns], rows, max(0, len(groups) - MOST_GROUPS))


def _cell(group: GroupFigure, name: Any) -> str:
    if name not in group.generated:
        return "–"
    beside = f" ({_digits(group.real[name])})" if name in group.real else ""
    return f"{_digits(group.generated[name])}{beside}"
