"""The figures of one dub: what its result row says, and what is measured of it beside its source."""

import json
from collections.abc import Mapping

from schemas.jobs import EvaluationPair, SourceShown
from schemas.review import ReviewMetric
from schemas.settings import EvaluateSettings, MetricName, ReviewSettings
from tasks.dubbing.results import Row
from tasks.evaluation.evaluate_pair import Instruments, compare_seen
from tasks.evaluation.metrics import METRICS
from tasks.evaluation.seen_video import SeenVideo

MEASURED: tuple[MetricName, ...] = ("leak", "silence_motion", "silence_opening", "jitter", "seam", "lip_speech_correlation")
BY_SYNCNET: tuple[MetricName, ...] = ("sync_confidence", "sync_distance", "sync_offset")
SHORTEST_S = 0.01
"""Seconds to be dubbed that a share is counted of at least: a frame is longer."""
TOO_LITTLE = "there is too little speech, silence or face in it"
NO_SYNCNET = "the setting sync_weights names no weights to measure it with"


def instruments_for(settings: ReviewSettings) -> Instruments:
    """What dubs are measured with. CheckpointError when SyncNet's weights cannot be used."""
    metrics = (*MEASURED, *(BY_SYNCNET if settings.sync_weights else ()))
    return Instruments(EvaluateSettings(metrics=metrics, speech="other", longest_s=settings.longest_s, sync_weights=settings.sync_weights, device="cpu"))


def row_figures(row: Row) -> dict[str, float]:
    """How sure the dub is, second by second, and how much shows the source of what is to be dubbed; nothing where a row of an older dubmill
    does not say.
    """
    figures: dict[str, float] = {}
    seconds = row["confidence"]
    if isinstance(seconds, list) and seconds:
        figures |= {"confidence": sum(seconds) / len(seconds), "least_confidence": min(seconds)}
    if isinstance(row["source_shown_s"], float) and isinstance(row["duration_s"], float) and row["duration_s"] > 0:
        meant_s = _meant_to_show_source_s(row)
        figures["source_shown_share"] = min(1.0, max(0.0, row["source_shown_s"] - meant_s) / max(row["duration_s"] - meant_s, SHORTEST_S))
    return figures


def _meant_to_show_source_s(row: Row) -> float:
    """Seconds in which nobody is to speak: what the source is shown for, and no fault."""
    stretches = [SourceShown.model_validate(stretch) for stretch in json.loads(str(row["source_shown"] or "[]"))]
    return sum(stretch.end_s - stretch.start_s for stretch in stretches if stretch.reason == "not-spoken")


def measured_metrics(job_id: str, dub: SeenVideo, source: SeenVideo, instruments: Instruments) -> dict[str, ReviewMetric]:
    """Each metric of a dub, the source's beside it where that has one, or why there is none."""
    generated, real = compare_seen(EvaluationPair(name=job_id), dub, source, instruments=instruments)
    if generated["status"] != "compared":
        return {name: ReviewMetric(value=None, reason=str(generated["detail"]).rstrip(".")) for name in MEASURED}
    asked: dict[str, ReviewMetric] = {name: _metric(name, generated, real) for name in (*MEASURED, *BY_SYNCNET) if name in instruments.wanted}
    return asked | {name: ReviewMetric(value=None, reason=NO_SYNCNET) for name in BY_SYNCNET if name not in asked}


def _metric(name: MetricName, generated: Mapping[str, object], real: Mapping[str, object]) -> ReviewMetric:
    value, beside = generated.get(name), real.get(name)
    if not isinstance(value, int | float):
        return ReviewMetric(value=None, reason=TOO_LITTLE)
    return ReviewMetric(value=float(value), real_video=float(beside) if isinstance(beside, int | float) else None, meaning=METRICS[name].better)
