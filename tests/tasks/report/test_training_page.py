"""What the training page says of a run's measures, its best step, its phases, what was not measured, and its short clips."""

import json
import re
from pathlib import Path

import pytest

from schemas.errors import StoreError
from schemas.jobs import PublishSummary
from tasks.evaluation.metric_meanings import LANDMARK_GENERATOR, RENDERER, meaning
from tasks.report import training_report
from tasks.training.curves import COLOURS, WIDTHS
from tests.tasks.report.conftest import write_run, write_summary
from tests.tasks.report.test_report import Page, read_whole_page


def page_of(out: Path, tmp_path: Path) -> Page:
    training_report(out, tmp_path / "training.html")
    return read_whole_page(tmp_path / "training.html")


def landmark_run(out: Path, *, held_out: bool = True) -> Path:
    validations = [
        {"step": 0, "l1": 0.4, "articulation": 5.0, "leak": 0.41, "closure_f1": 0.0},
        {"step": 20, "l1": 0.1, "articulation": 0.7, "leak": -0.05, "closure_f1": 0.8},
        {"step": 40, "l1": 0.2, "articulation": 0.5, "leak": -0.1, "closure_f1": 0.6},
    ]
    rows = [{"step": step, "split": "train", "l1": 0.4 / step, "loss": 0.5 / step, "learning_rate": 1e-4 * step} for step in range(1, 41)]
    rows += [{"split": "val", **row} | ({} if held_out else {"held_out": 0.0}) for row in validations]
    write_run(out, "landmark-generator", rows)
    write_summary(out, "landmark-generator", best_step=20, stopped_early=True, skipped=2, input_wait_share=0.031, absent={"silence_motion": "No mouth moves."})
    return out


def test_measures_with_what_they_mean(tmp_path: Path) -> None:
    page = page_of(landmark_run(tmp_path / "run"), tmp_path)
    assert "on held-out clips at step 0 at step 20, the weights to use at step 40 ratio what it is" in page.text
    assert "articulation 5 0.7 0.5 0.10 spread of the lip opening" in page.text
    assert "1 is best" in page.text
    assert "leak 0.41 -0.05 -0.1 – how far the lips follow" in page.text, "a ratio of what lies about nought says nothing"
    assert "closure_f1 0 0.8 0.6 –" in page.text
    assert "how large a step of training is" in page.text
    assert page.count("svg") == 6


def test_whether_it_was_published_and_why_not(tmp_path: Path) -> None:
    run = landmark_run(tmp_path / "run")
    assert "last tried" not in page_of(run, tmp_path).text, "nobody has tried yet"
    sentence = "The landmark generator 0123 is not published: leak is 0.41, over 0.1."
    decision = PublishSummary(kind="landmark-generator", published=False, version="0123", location="", score=-0.1, metrics={}, sentence=sentence)
    (run / "publishing.json").write_text(decision.model_dump_json())
    assert f"Not published , when that was last tried: {sentence}" in page_of(run, tmp_path).text
    (run / "publishing.json").write_text("{")
    with pytest.raises(StoreError, match="is damaged"):
        page_of(run, tmp_path)


def test_a_constant_learning_rate_is_a_number_and_no_curve(tmp_path: Path) -> None:
    rows = [{"step": step, "split": "train", "l1": 0.4, "learning_rate": 1e-4} for step in range(1, 41)]
    page = page_of(write_run(tmp_path / "run", "landmark-generator", rows), tmp_path)
    assert "learning rate 0.0001" in page.text
    assert page.count("svg") == 1


def test_how_it_ended(tmp_path: Path) -> None:
    text = page_of(landmark_run(tmp_path / "run"), tmp_path).text
    assert "stopped before its last step" in text
    assert "3.1 %" in text
    assert "steps left out 2" in text
    assert "Not measured silence_motion : No mouth moves." in text


def test_a_run_without_validation_clips_says_so(tmp_path: Path) -> None:
    text = page_of(landmark_run(tmp_path / "run", held_out=False), tmp_path).text
    assert "no validation clips" in text
    assert "on training clips at step 0" in text


def test_phases_of_the_renderer(tmp_path: Path) -> None:
    rows = [{"step": step, "split": "train", "warp": 2.0, "phase": 1.0 if step < 15 else 2.0} for step in range(1, 41)]
    write_run(tmp_path / "run", "renderer", [*rows, {"step": 40, "split": "val", "psnr": 20.0, "l1": 0.1, "mouth_lmd_px": 3.0}])
    page = page_of(tmp_path / "run", tmp_path)
    assert "From step 1 on the warp alone is learnt. From step 15 on all losses are learnt from." in page.text
    assert "mean distance of pixels" in page.text
    assert len(re.findall("<h3>phase", page.source)) == 0


def test_short_clips_of_the_first_and_the_last_step(tmp_path: Path, clip: Path) -> None:
    out = landmark_run(tmp_path / "run")
    (out / "state" / "previews").mkdir()
    for step in (5, 20, 100):
        (out / "state" / "previews" / f"step_{step}.mp4").write_bytes(clip.read_bytes() if step != 100 else b"broken")
    page = page_of(out, tmp_path)
    assert page.count("video") == 1
    assert "step 5 ·" in page.text
    assert "The preview of step 100 cannot be read." in page.text
    assert "Left the real face." in page.text
    assert "third" not in page.text, "of one source there are two panels"


def test_a_run_that_is_still_going_on(tmp_path: Path) -> None:
    out = landmark_run(tmp_path / "run")
    (out / "state" / "summary.json").unlink()
    (out / "landmark-generator.safetensors").unlink()
    metrics = out / "state" / "metrics.jsonl"
    metrics.write_text("".join(line + "\n" for line in metrics.read_text().splitlines() if json.loads(line)["split"] == "train"))
    text = page_of(out, tmp_path).text
    assert "Nothing was measured on held-out clips." in text
    assert "Not measured" not in text


def test_curves_look_as_on_the_model_card(tmp_path: Path) -> None:
    """The page has a darker scheme too, which a picture has not: the light one counts."""
    source = page_of(landmark_run(tmp_path / "run"), tmp_path).source
    light = dict(re.findall(r"--(\w+): (#\w+)", source[source.index(":root") : source.index("@media")]))
    assert {split: light[split] for split in COLOURS} == COLOURS
    for split, width in WIDTHS.items():
        assert f"polyline.{split} {{ stroke: var(--{split}); stroke-width: {width:g}; }}" in source


def test_a_lost_face_is_in_the_mouths_distance() -> None:
    assert "no face is found counts as 25% of its side (32 of 128 pixels)" in meaning("mouth_lmd_px", "renderer")


def test_a_folder_of_fine_tuning_points_to_its_two_runs(tmp_path: Path) -> None:
    (tmp_path / "finetune.json").write_text("{}")
    with pytest.raises(StoreError, match=rf"give {tmp_path}/runs/landmark-generator or {tmp_path}/runs/renderer\.$"):
        training_report(tmp_path, tmp_path / "training.html")


def test_every_measure_says_which_way_is_better() -> None:
    for kind, names in (("landmark generator", LANDMARK_GENERATOR), ("renderer", RENDERER)):
        for name in names:
            assert meaning(name, kind).endswith(("is better", "is best", "guess")), name
    assert meaning("l1", "renderer") != meaning("l1", "landmark generator")
    assert meaning("unheard_of", "renderer") == ""
