"""Which sources are tried again, and what is said of those that were. The tables hold only what planning reads."""

from pathlib import Path

import pytest

from schemas.jobs import BatchPlan
from schemas.reasons import Reason
from schemas.settings import IngestSettings
from schemas.tables import CLIPS
from tasks.corpus import layout
from tasks.corpus.batch import _batch_files
from tasks.corpus.clip import Reject
from tasks.corpus.plan import plan_batches
from tasks.corpus.stats import corpus_stats
from tasks.corpus.store import CorpusStore
from tasks.places import write_bytes
from tasks.report.corpus import corpus_facts

SHORT = ("abc-s0t0", Reason.TOO_SHORT)
"""A clip of a source, turned away for good."""


@pytest.fixture
def settings(tmp_path: Path) -> IngestSettings:
    (tmp_path / "footage").mkdir()
    (tmp_path / "footage" / "a.mp4").write_bytes(b"a")
    return IngestSettings(sources=(str(tmp_path / "footage"),), store=str(tmp_path / "store"))


def finish(settings: IngestSettings, plan: BatchPlan, *rejects: tuple[str | None, Reason]) -> None:
    """Writes the batch with these rejects of its one source and no clip."""
    write_bytes(layout.plan_location(settings.store, plan.batch), plan.model_dump_json().encode())
    with _batch_files(settings, plan) as files:
        for clip_id, reason in rejects:
            files.add(Reject(plan.sources[0].uri, clip_id, "decode", reason, "so it is"))
    assert CorpusStore.open(settings.store).table(layout.CLIPS, plan.batch).schema.equals(CLIPS)


@pytest.mark.parametrize(
    ("rejects", "tried_again"),
    [
        ([(None, Reason.TIME_LIMIT)], True),
        ([SHORT, (None, Reason.TIME_LIMIT)], True),
        ([SHORT], False),
        ([SHORT, (None, Reason.DAMAGED)], False),
        ([(None, Reason.NO_FACE)], False),
    ],
)
def test_a_source_is_tried_again_when_its_own_reject_is_retryable(
    settings: IngestSettings, rejects: list[tuple[str | None, Reason]], tried_again: bool
) -> None:
    (plan,) = plan_batches(settings).batches
    finish(settings, plan, *rejects)
    assert [batch.retry_of for batch in plan_batches(settings).batches] == ([plan.batch] if tried_again else [])


def test_rejects_that_a_later_try_replaced_count_no_more(settings: IngestSettings) -> None:
    (first,) = plan_batches(settings).batches
    finish(settings, first, SHORT, (None, Reason.TIME_LIMIT))
    (second,) = plan_batches(settings).batches
    assert corpus_stats(settings.store).rejects == {"time-limit": 1, "too-short": 1}
    write_bytes(layout.plan_location(settings.store, second.batch), second.model_dump_json().encode())
    assert corpus_stats(settings.store).retryable == 1, "a try that is not finished replaces nothing"
    finish(settings, second, (None, Reason.UNREADABLE))
    (third,) = plan_batches(settings).batches
    finish(settings, third, (None, Reason.NO_FACE))
    stats, facts = corpus_stats(settings.store), corpus_facts(settings.store)
    assert (stats.rejects, stats.retryable) == ({"no-face": 1}, 0)
    assert [(group.reason, group.count) for group in facts.rejects] == [("no-face", 1)]
    assert (facts.sources, facts.clips, facts.frames, facts.duration_s) == (stats.sources, stats.clips, stats.frames, stats.hours * 3600) == (1, 0, 0, 0.0)
