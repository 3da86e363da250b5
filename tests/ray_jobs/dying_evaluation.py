"""Actors for the tests of `ray_jobs.evaluate`: in a module of their own, because Ray's workers import them by name."""

import os
from pathlib import Path

from ray_jobs.evaluate import EvaluationActor
from schemas.jobs import EvaluationPair
from tasks.evaluation.evaluate_pair import Row

DEADLY, ONCE = "deadly", "once"


class DyingActor(EvaluationActor):
    """Compares, unless a pair ends it: DEADLY ones each time, ONCE ones the first time."""

    def compare(self, pair: EvaluationPair) -> list[Row]:
        mark = Path(self._settings.out) / f"{pair.name}.begun"
        if pair.name.startswith(DEADLY) or (pair.name.startswith(ONCE) and not mark.exists()):
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
            os._exit(1)
        return super().compare(pair)
