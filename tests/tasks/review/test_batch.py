"""A bulk run becomes a batch of the review room."""

import json
import os
from pathlib import Path

import pytest

from schemas.errors import SettingsError, StoreError
from schemas.jobs import ReviewSummary
from schemas.review import OPENINGS_PER_S, PEAKS_PER_S, ReviewBatch, ReviewItem, item_key
from schemas.settings import Limit, ReviewSettings
from tasks.media.decode import read_frames
from tasks.media.probe import probe
from tasks.progress import silent
from tasks.review import batch as batch_module
from tasks.review import item as item_module
from tasks.review.batch import bulk_settings, review_here
from tests.reviewed_run import SPEECH_S

BATCH = "monday.jsonl"
HIGH = {"least_confidence": Limit(at_least=1.01)}
"""What no dub reaches."""


@pytest.fixture(scope="session")
def made(run: ReviewSettings) -> ReviewSummary:
    return review_here(run, silent)


@pytest.fixture
def folder(run: ReviewSettings, made: ReviewSummary) -> Path:
    return Path(run.review) / BATCH


def batch_in(folder: Path) -> ReviewBatch:
    return ReviewBatch.model_validate_json((folder / "batch.json").read_bytes())


def item_in(folder: Path, job_id: str = "anna") -> ReviewItem:
    return ReviewItem.model_validate_json((folder / "items" / f"{item_key(job_id)}.json").read_bytes())


def test_every_dub_of_the_run_is_shown_and_jobs_without_one_are_told(made: ReviewSummary, folder: Path) -> None:
    assert (made.dubs, made.made, made.failed_jobs, made.not_shown) == (2, 2, 1, 0)
    batch = batch_in(folder)
    assert [row.job_id for row in batch.rows] == ["anna", "ben 1"]
    assert (batch.title, batch.note) == (BATCH, "Jobs of the list without a dub: 1.")
    assert batch.gate.is_open


def test_an_item_holds_what_a_person_needs_to_judge(made: ReviewSummary, folder: Path) -> None:
    item = item_in(folder)
    assert (item.fps, item.duration_s) == (25, SPEECH_S)
    assert len(item.peaks) == pytest.approx(SPEECH_S * PEAKS_PER_S, abs=1)
    assert 0.05 < max(item.peaks) <= 1
    for curve in (item.source_opening, item.dub_opening):
        assert len(curve) == round(SPEECH_S * OPENINGS_PER_S)
    opened = [value for value in item.source_opening if value is not None]
    assert len(opened) == len(item.source_opening)
    assert max(opened) - min(opened) > 0.02, "the mouth of the clip moves"
    assert len(item.confidence) == 2
    assert item.risk == pytest.approx(1 - min(item.confidence), abs=1e-6)
    assert {"confidence", "least_confidence", "source_shown_share", "jitter", "sync_confidence"} <= item.metrics.keys()
    assert item.metrics["jitter"].real_video is not None, "beside every figure that can be had of it, the real video's"
    assert "sync_weights" in item.metrics["sync_confidence"].reason
    assert Path(item.job.video).is_absolute()
    assert (item.settings["references"], item.settings["fps"]) == (3, "source")
    assert "renderer" not in item.settings


def test_source_and_dub_are_shown_frame_beside_frame_in_the_size_that_is_asked_for(made: ReviewSummary, folder: Path) -> None:
    item = item_in(folder)
    for video in (item.source, item.dub_preview or ""):
        info = probe(folder / video)
        assert (info.height, info.video_codec, info.has_audio) == (144, "h264", True)
        assert len(list(read_frames(folder / video, 25))) == round(SPEECH_S * 25)
    assert len(list(read_frames(Path(item.dub), 25))) == round(SPEECH_S * 25)


def test_what_is_there_is_not_made_again_and_new_thresholds_hold_at_once(run: ReviewSettings, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "make_item", lambda dub: pytest.fail(f"{dub.job_id} is made again"))
    summary = review_here(run.replaced(thresholds=HIGH), silent)
    assert (summary.made, summary.dubs, summary.held) == (0, 2, 2)
    gate = item_in(folder).gate
    assert (gate.status, "under 1.01" in gate.sentence) == ("held", True)
    assert batch_in(folder).rows[0].gate == gate
    assert review_here(run, silent).held == 0


def test_a_dub_that_was_made_anew_and_an_item_that_is_damaged_are_made_again(run: ReviewSettings, folder: Path) -> None:
    anna, ben = (folder / "items" / f"{item_key(job_id)}.json" for job_id in ("anna", "ben 1"))
    whole = json.loads(anna.read_text())
    anna.write_text(json.dumps(whole | {"fingerprint": "of another dub"}))
    ben.write_text("{")
    assert review_here(run, silent).made == 2
    assert json.loads(anna.read_text())["fingerprint"] == whole["fingerprint"]


def test_other_settings_of_the_material_and_previews_that_are_gone_have_items_made_again(run: ReviewSettings, folder: Path) -> None:
    assert review_here(run.replaced(preview_crf=30), silent).made == 2
    assert review_here(run, silent).made == 2
    (folder / item_in(folder).source).unlink()
    assert review_here(run, silent).made == 1


def test_another_file_under_the_outputs_name_is_another_dub(run: ReviewSettings, folder: Path) -> None:
    item = item_in(folder)
    os.utime(item.dub, (1000, 1000))
    assert review_here(run, silent).made == 1
    assert item_in(folder).version != item.version


def test_a_row_that_was_changed_since_is_not_shown_as_the_dub_of_the_former_one(run: ReviewSettings, made: ReviewSummary, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in Path(str(bulk_settings(run).jobs)).read_text().splitlines()]
    (Path(bulk_settings(run).jobs).parent / "changed.jsonl").write_text("\n".join(json.dumps(row | {"fps": "25"}) for row in rows))
    changed = run.replaced(jobs=bulk_settings(run).jobs.replace("monday", "changed"), review=str(tmp_path / "review"))
    summary = review_here(changed, silent)
    assert (summary.dubs, summary.not_shown, summary.failed_jobs) == (0, 2, 1)
    assert all("have changed since it was dubbed" in why for why in summary.first_not_shown.values())


def test_one_dub_that_nobody_expected_to_fail_hides_no_other(run: ReviewSettings, made: ReviewSummary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passages = item_module.passages
    monkeypatch.setattr(item_module, "passages", lambda row: passages(row) if row["job_id"] == "anna" else passages({"source_shown": "no JSON"}))
    summary = review_here(run.replaced(review=str(tmp_path / "review")), silent)
    assert (summary.dubs, summary.not_shown) == (1, 1)
    assert summary.first_not_shown["ben 1"].startswith("JSONDecodeError")


def test_a_run_of_which_no_share_is_asked_for_says_so(made: ReviewSummary) -> None:
    assert (made.gate.status, made.gate.sentence) == ("passed", "No share of the jobs is asked for.")


def test_too_few_that_passed_hold_the_whole_run(run: ReviewSettings, folder: Path) -> None:
    share = run.replaced(min_passed_share=0.7)
    summary = review_here(share, silent)
    assert (summary.gate.status, summary.gate.sentence) == ("held", "2 of 3 jobs made a dub that passed, which is 0.667 of them; at least 0.7 is asked for.")
    assert batch_in(folder).gate == summary.gate
    assert review_here(run.replaced(min_passed_share=0.66), silent).gate.is_open


def test_a_dub_that_is_gone_is_named_and_the_others_are_shown(run: ReviewSettings, made: ReviewSummary, tmp_path: Path) -> None:
    dub = Path(item_in(Path(run.review) / BATCH, "ben 1").dub)
    elsewhere = run.replaced(review=str(tmp_path / "review"))
    hidden = dub.rename(dub.with_suffix(".away"))
    try:
        summary = review_here(elsewhere, silent)
    finally:
        hidden.rename(dub)
    assert (summary.dubs, summary.not_shown, list(summary.first_not_shown)) == (1, 1, ["ben 1"])
    note = batch_in(tmp_path / "review" / BATCH).note
    assert "Dubs that cannot be shown: 1. ben 1: " in note
    assert review_here(elsewhere, silent).dubs == 2


def test_settings_that_cannot_work_are_one_sentence(run: ReviewSettings, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="batch cannot be called"):
        review_here(run.replaced(batch="a/b"), silent)
    with pytest.raises(StoreError, match="no dubbing results"):
        review_here(run.replaced(out=str(tmp_path / "nothing")), silent)
