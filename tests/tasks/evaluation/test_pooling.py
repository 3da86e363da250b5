"""Figures over clips: what is pooled before a share is taken, the bootstrap, groups."""

import numpy as np
import pytest

from schemas.settings import EvaluateSettings
from tasks.evaluation.metrics import METRICS, wanted_metrics
from tasks.evaluation.pooling import Row, estimate, group_figures, group_of


def row(name: str, side: str = "generated", speech: str = "same", **figures: object) -> Row:
    return {"name": name, "side": side, "status": "compared", "speech": speech, **figures}


def value(name: str, rows: list[Row], side: str = "generated") -> float | None:
    found = estimate(name, rows, side, resamples=20, seed=0)  # type: ignore[arg-type]
    return found.value if found else None


def test_a_mean_is_over_the_clips_that_have_a_figure() -> None:
    rows = [row("a", psnr=30.0), row("b", psnr=20.0), row("c", psnr=None), row("d", "real", psnr=100.0)]
    found = estimate("psnr", rows, "generated", 100, 0)
    assert found is not None
    assert (found.value, found.clips, found.exact) == (25.0, 2, False)


def test_closures_are_added_up_before_shares_are_taken() -> None:
    few = {"closed_frames": 1, "right_closed_frames": 0, "real_closures": 1, "met_closures": 0}
    many = {"closed_frames": 9, "right_closed_frames": 9, "real_closures": 3, "met_closures": 3}
    rows = [row("a", **few), row("b", **many)]
    assert (value("closure_precision", rows), value("closure_recall", rows)) == (0.9, 0.75)
    assert value("closure_recall", [row("a", closed_frames=3, right_closed_frames=0, real_closures=0, met_closures=0)]) is None


def test_spreads_are_pooled_by_what_they_hold() -> None:
    rows = [row("a", opening_squares=1.0, real_opening_squares=4.0), row("b", opening_squares=0.0, real_opening_squares=0.0)]
    assert value("articulation", rows) == 0.5
    silent = {"silence_squares": 2.0, "silence_frames": 8, "real_speech_squares": 100.0, "real_speech_frames": 100}
    assert value("silence_motion", [row("a", **silent)]) == 0.5


def test_a_leak_is_of_pairs_with_anothers_speech_and_likeness_of_pairs_with_the_same() -> None:
    rows = [row("a", psnr=30.0), row("b", speech="other", psnr=5.0, leak=0.4, leak_frames=100), row("c", leak=1.0, leak_frames=100)]
    assert value("leak", rows) == pytest.approx(0.4)
    assert value("psnr", rows) == 30.0


def test_the_real_video_has_exact_figures_where_it_would_be_compared_with_itself_and_measured_ones_elsewhere() -> None:
    rows = [row("a", psnr=30.0, jitter=0.5), row("a", "real", psnr=100.0, jitter=0.2)]
    psnr, jitter = (estimate(name, rows, "real", 10, 0) for name in ("psnr", "jitter"))  # type: ignore[arg-type]
    assert psnr is not None
    assert (psnr.value, psnr.exact) == (100.0, True)
    assert jitter is not None
    assert (jitter.value, jitter.exact) == (0.2, False)
    assert estimate("ssim", rows, "real", 10, 0) is None


def test_intervals_are_those_of_the_mean_and_the_same_each_time() -> None:
    values = np.random.default_rng(1).normal(30, 2, 100)
    rows = [row(str(number), psnr=float(each)) for number, each in enumerate(values)]
    found = estimate("psnr", rows, "generated", 1000, 7)
    assert found == estimate("psnr", rows, "generated", 1000, 7)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    error = values.std() / 10
    assert (found.low, found.high) == (pytest.approx(found.value - 1.96 * error, abs=0.1), pytest.approx(found.value + 1.96 * error, abs=0.1))
    assert estimate("psnr", rows[:1], "generated", 100, 0).low is None  # type: ignore[union-attr]
    silent = [row(str(number), silence_opening=None) for number in range(39)]
    one = estimate("silence_opening", [*silent, row("a", silence_opening=0.083)], "generated", 100, 0)
    assert one is not None
    assert (one.clips, one.low, one.high) == (1, None, None)  # forty clips, of which one tells


def test_pairs_that_were_not_compared_count_nowhere() -> None:
    rows = [row("a", psnr=30.0, speaker="anna"), {**row("b", psnr=10.0, speaker="bert"), "status": "misaligned"}]
    assert value("psnr", rows) == 30.0
    assert group_figures(rows, ["psnr"]) == []


def test_groups_have_figures_of_their_own() -> None:
    rows = [row("a", psnr=30.0, jitter=0.3, speaker="anna", yaw_deg=3.0), row("b", psnr=20.0, speaker="bert", yaw_deg=16.0)]
    rows += [row("a", "real", jitter=0.1, speaker="anna", yaw_deg=3.0)]
    groups = {(group.condition, group.group): group for group in group_figures(rows, ["psnr", "jitter", "fid"])}
    assert set(groups) == {("yaw", "under 15 degrees"), ("yaw", "15 to 30 degrees"), ("speaker", "anna"), ("speaker", "bert")}
    anna = groups["speaker", "anna"]
    assert (anna.generated, anna.real, anna.clips) == ({"psnr": 30.0, "jitter": 0.3}, {"jitter": 0.1}, 1)


@pytest.mark.parametrize(
    ("column", "figure", "condition", "group"),
    [
        ("yaw_deg", 40.0, "yaw", "30 degrees and more"),
        ("face_px", 99.0, "face size", "under 100 pixels"),
        ("face_px", 100.0, "face size", "100 to 200 pixels"),
        ("covered_share", 0.2, "occlusion", "mouth covered at times"),
        ("covered_share", 0.0, "occlusion", "mouth free"),
        ("language", "", "language", None),
        ("yaw_deg", None, "yaw", None),
    ],
)
def test_conditions_are_told_by_their_columns(column: str, figure: object, condition: str, group: str | None) -> None:
    assert group_of({column: figure}, condition) == group


def test_every_metric_says_what_it_is() -> None:
    assert wanted_metrics(EvaluateSettings()) == METRICS.keys()
    assert wanted_metrics(EvaluateSettings(metrics=("psnr",))) == {"psnr"}
    for name, metric in METRICS.items():
        assert len(metric.definition) > 20, name
        assert metric.nothing.endswith("."), name
