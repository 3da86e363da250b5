"""The gate: nothing passes unseen."""

import math

import pytest
from pydantic import ValidationError

from schemas.gate import NO_THRESHOLDS, Gate
from schemas.settings import Limit
from tasks.evaluation.metric_meanings import NOUGHT
from tasks.evaluation.metrics import METRICS
from tasks.gate import NEAREST_NOUGHT, judge

PSNR, LEAK = {"psnr": Limit(at_least=25)}, {"leak": Limit(at_least=-0.1, at_most=0.1)}


def test_without_thresholds_all_passes_and_that_is_said() -> None:
    assert judge({"psnr": 3.0}, {}) == Gate(status="passed", sentence=NO_THRESHOLDS)


def test_figures_past_their_limits_pass_and_the_limits_themselves_do_too() -> None:
    assert judge({"psnr": 25.0, "leak": -0.1, "jitter": 9.0}, PSNR | LEAK) == Gate(
        status="passed", sentence="psnr is 25 (at least 25); leak is -0.1 (at least -0.1 and at most 0.1)."
    )


def test_each_figure_beyond_its_limit_is_named_with_both_numbers() -> None:
    gate = judge({"psnr": 21.345, "leak": 0.34}, PSNR | LEAK)
    assert (gate.is_open, gate.sentence) == (False, "psnr is 21.34, under 25; leak is 0.34, over 0.1.")


def test_a_figure_just_beyond_its_limit_is_told_with_the_digits_that_say_so() -> None:
    assert judge({"psnr": 24.9999}, PSNR).sentence == "psnr is 24.9999, under 25."


@pytest.mark.parametrize("limit", [Limit(at_least=0), Limit(at_most=0)])
def test_what_is_no_number_does_not_pass(limit: Limit) -> None:
    assert not judge({"psnr": math.nan}, {"psnr": limit}).is_open


def test_what_was_not_measured_does_not_pass_and_the_reason_is_told() -> None:
    assert judge({"psnr": 30.0}, {"csim": Limit(at_least=0.5)}, {"csim": "No weights are named."}).sentence == "csim was not measured: No weights are named."
    assert judge({"psnr": 30.0, "l1": 1.0}, {"pnsr": Limit(at_least=1)}).sentence == "pnsr was not measured; there are l1, psnr."


def test_of_figures_with_a_sign_the_size_is_judged() -> None:
    limit = {"sync_offset": Limit(at_most=2)}
    assert judge({"sync_offset": -12.0}, limit).sentence == "sync_offset is 12, over 2."
    assert judge({"sync_offset": -1.0}, limit).is_open
    assert {name for name, metric in METRICS.items() if metric.better == NOUGHT} == NEAREST_NOUGHT


@pytest.mark.parametrize("wrong", [{}, {"at_least": 2, "at_most": 1}, {"at_least": math.nan}, {"least": 1}])
def test_a_threshold_that_bounds_nothing_or_everything_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Limit.model_validate(wrong)
