"""The review job over a local Ray makes the batch that one process makes."""

import json
from pathlib import Path
from typing import Any

from ray_jobs import review_dubs
from tasks.progress import silent
from tasks.review.batch import review_here
from tests.reviewed_run import make_reviewed_run


def test_a_cluster_makes_the_batch_of_one_process(tmp_path: Path) -> None:
    run = make_reviewed_run(tmp_path, ("anna",))
    told: list[tuple[int, int | None]] = []
    summary = review_dubs.run(run, lambda done, total=None, note="": told.append((done, total)))
    assert (summary.dubs, summary.made, summary.failed_jobs, told[-1]) == (1, 1, 1, (1, 1))
    review_here(run.replaced(review=str(tmp_path / "here")), silent)
    assert content(tmp_path / "review") == content(tmp_path / "here")


def content(prefix: Path) -> dict[str, Any]:
    """The JSON files of a prefix by their names."""
    return {str(path.relative_to(prefix)): json.loads(path.read_text()) for path in sorted(prefix.rglob("*.json"))}
