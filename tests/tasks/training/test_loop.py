import errno
import importlib.metadata
import io
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from models.checkpoint import load_landmark_generator, read_header, save_checkpoint
from schemas.checkpoints import LandmarkGeneratorSize
from schemas.errors import CheckpointError, DubmillError, SettingsError, StoreError
from schemas.job_log import DAG_RUN_VARIABLE
from schemas.settings import LandmarkGeneratorTraining, RendererTraining, SnapshotSettings, TrainingSettings
from tasks.corpus.snapshot import freeze_snapshot
from tasks.corpus.store import CorpusStore
from tasks.file_hash import file_hash
from tasks.places import exists, read_bytes
from tasks.progress import Progress
from tasks.training import landmark_generator
from tasks.training.corpus import Corpus
from tasks.training.footage import read_lessons
from tasks.training.landmark_generator import KIND, LandmarkGeneratorTrainer, train_landmark_generator
from tasks.training.landmark_validation import LandmarkValidation
from tasks.training.precision import Precision
from tasks.training.run import ancestors_of
from tasks.training.session import Session, StepFacts
from tasks.training.state import Position, read_run, require_same_settings, saved_run_to_resume, settings_of_run
from tests.training_corpus import SNAPSHOT, make_training_corpus

pytestmark = pytest.mark.usefixtures("quick_networks")


def rows_of(settings: TrainingSettings) -> list[dict]:
    return [json.loads(line) for line in (Path(settings.out) / "state" / "metrics.jsonl").read_text().splitlines()]


def numbers(rows: list[dict]) -> list[list[float]]:
    return [[value for name, value in row.items() if name != "split"] for row in rows]


def test_a_resumed_run_equals_an_uninterrupted_one(landmark_settings: LandmarkGeneratorTraining, tmp_path: Path) -> None:
    whole = landmark_settings.replaced(out=str(tmp_path / "whole"))
    train_landmark_generator(whole)
    train_landmark_generator(landmark_settings.replaced(steps=3))
    summary = train_landmark_generator(landmark_settings.replaced(resume=True))
    assert summary.step == 6
    for one, other in zip(numbers(rows_of(landmark_settings)), numbers(rows_of(whole)), strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def interrupt_at(step: int) -> Progress:
    def interrupt(done: int, total: int | None = None, note: str = "") -> None:
        if done == step:
            raise KeyboardInterrupt

    return interrupt


def test_what_a_kill_left_half_written_goes_at_the_next_start(landmark_settings: LandmarkGeneratorTraining) -> None:
    out = Path(landmark_settings.out)
    with pytest.raises(KeyboardInterrupt):
        train_landmark_generator(landmark_settings, interrupt_at(5))
    of_this_run = [
        ".landmark-generator.0a1b2c3d.partial.safetensors",
        "state/.metrics.0a1b2c3d.partial.jsonl",
        "state/checkpoints/.000000003.0a1b2c3d.partial.pt",
        "state/previews/.step_3.0a1b2c3d.partial.mp4",
    ]
    of_others = [".renderer.0a1b2c3d.partial.safetensors", ".gitignore"]
    for name in (*of_this_run, *of_others):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(b"half")
    train_landmark_generator(landmark_settings.replaced(resume=True))
    assert not [name for name in of_this_run if (out / name).exists()]
    assert all((out / name).exists() for name in of_others)


def test_more_steps_than_are_asked_for(landmark_settings: LandmarkGeneratorTraining, caplog: pytest.LogCaptureFixture) -> None:
    train_landmark_generator(landmark_settings)
    caplog.clear()
    summary = train_landmark_generator(landmark_settings.replaced(resume=True, steps=3))
    assert summary.step == 6
    assert "has 6 steps already, more than the 3 that are asked for" in caplog.text
    caplog.clear()
    train_landmark_generator(landmark_settings.replaced(resume=True))
    assert "already" not in caplog.text


def test_an_interrupted_run_says_how_far_it_came(landmark_settings: LandmarkGeneratorTraining) -> None:
    with pytest.raises(KeyboardInterrupt) as stopped:
        train_landmark_generator(landmark_settings, interrupt_at(2))
    assert stopped.value.__notes__ == ["Training stopped at step 2; there is no checkpoint yet"]
    with pytest.raises(KeyboardInterrupt) as stopped:
        train_landmark_generator(landmark_settings, interrupt_at(5))
    assert stopped.value.__notes__ == ["Training stopped at step 5; the last checkpoint is of step 3"]


def test_an_interrupted_run_leaves_a_state_to_go_on_from(landmark_settings: LandmarkGeneratorTraining, tmp_path: Path) -> None:
    whole = landmark_settings.replaced(out=str(tmp_path / "whole"))
    train_landmark_generator(whole)
    with pytest.raises(KeyboardInterrupt):
        train_landmark_generator(landmark_settings, interrupt_at(5))
    assert read_header(f"{landmark_settings.out}/landmark-generator.safetensors").step == 3
    train_landmark_generator(landmark_settings.replaced(resume=True))
    for one, other in zip(numbers(rows_of(landmark_settings)), numbers(rows_of(whole)), strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_what_a_run_leaves(landmark_settings: LandmarkGeneratorTraining, corpus: CorpusStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DAG_RUN_VARIABLE, "train/monday/train")
    summary = train_landmark_generator(landmark_settings)
    out = Path(landmark_settings.out)
    assert [path.name for path in out.rglob("*.safetensors")] == ["landmark-generator.safetensors"]
    assert {path.name for path in (out / "state").iterdir()} == {"checkpoints", "metrics.jsonl", "summary.json", "tensorboard", "previews"}
    assert sorted(path.name for path in (out / "state" / "checkpoints").iterdir()) == ["000000003.pt", "000000006.pt"]
    header = read_header(summary.checkpoint)
    assert (header.kind, header.step, header.origin, header.snapshot) == ("landmark-generator", 6, "trained", SNAPSHOT)
    assert (header.crop, header.mel) == (corpus.format.crop, corpus.format.mel)
    assert (header.store, summary.store, header.dag_run) == (corpus.uri, corpus.uri, "train/monday/train")
    assert header.metrics == summary.metrics
    assert header.code_version
    validations = [row for row in rows_of(landmark_settings) if row["split"] == "val"]
    assert [row["step"] for row in validations] == [0, 3, 6]
    assert {name: value for name, value in validations[0].items() if name not in ("step", "split")} == summary.metrics_at_start


def test_weights_name_the_very_snapshot_and_the_store_without_its_secrets(landmark_settings: LandmarkGeneratorTraining, corpus: CorpusStore) -> None:
    frozen = freeze_snapshot(corpus, SnapshotSettings(min_frames=5, min_face_px=0, twins="all"))
    summary = train_landmark_generator(landmark_settings.replaced(snapshot=frozen.name))
    assert read_header(summary.checkpoint).snapshot_checksum == frozen.checksum != ""
    grown = ancestors_of(summary.checkpoint)[-1]
    assert (grown.snapshot, grown.snapshot_checksum, grown.store) == (frozen.name, frozen.checksum, corpus.uri)
    named = CorpusStore("s3://key:hidden@bucket/corpus", corpus.format)
    assert Corpus(named, frozen, read_lessons(corpus, frozen)).place == "s3://bucket/corpus"


def test_whoever_watches_is_told_of_each_step(landmark_settings: LandmarkGeneratorTraining) -> None:
    told: list[StepFacts] = []
    summary = train_landmark_generator(landmark_settings, session=Session(on_step=told.append))
    rows = [row for row in rows_of(landmark_settings) if row["split"] == "train"]
    assert [step.losses for step in told] == [{name: value for name, value in row.items() if name not in ("step", "split")} for row in rows]
    assert [step.samples for step in told] == [landmark_settings.batch_size] * 6
    seconds, waited_s = (sum(getattr(step, name) for step in told) for name in ("seconds", "waited_s"))
    assert all(0 <= step.waited_s <= step.seconds for step in told)
    assert summary.input_wait_share == pytest.approx(waited_s / seconds)
    assert summary.samples_per_second == pytest.approx(6 * landmark_settings.batch_size / seconds)


def test_the_loss_falls(landmark_settings: LandmarkGeneratorTraining) -> None:
    summary = train_landmark_generator(landmark_settings.replaced(steps=60, batch_size=16, learning_rate=3e-3, validate_every=60, clip_gradient_norm=100.0))
    assert summary.metrics["l1"] < 0.5 * summary.metrics_at_start["l1"]


def test_a_finished_run_is_done_at_once(landmark_settings: LandmarkGeneratorTraining) -> None:
    first = train_landmark_generator(landmark_settings)
    weights = Path(first.checkpoint)
    written_at = weights.stat().st_mtime_ns
    assert train_landmark_generator(landmark_settings.replaced(resume=True, store="/nowhere")) == first
    assert weights.stat().st_mtime_ns == written_at


def test_resuming_nothing_starts_afresh_and_says_so(landmark_settings: LandmarkGeneratorTraining, caplog: pytest.LogCaptureFixture) -> None:
    summary = train_landmark_generator(landmark_settings.replaced(resume=True, steps=1))
    assert summary.step == 1
    assert "starts afresh" in caplog.text


def test_a_state_of_another_size_is_refused(landmark_settings: LandmarkGeneratorTraining, monkeypatch: pytest.MonkeyPatch) -> None:
    train_landmark_generator(landmark_settings.replaced(steps=1))
    monkeypatch.setitem(landmark_generator.PRESETS, "small", LandmarkGeneratorSize(width=16, layers=1, heads=2, feed_forward=32))
    with pytest.raises(CheckpointError, match="another preset"):
        train_landmark_generator(landmark_settings.replaced(resume=True))


def test_a_state_made_with_other_settings_is_refused_by_their_names(landmark_settings: LandmarkGeneratorTraining) -> None:
    train_landmark_generator(landmark_settings.replaced(steps=1))
    others = {"seed": 1, "batch_size": 8, "learning_rate": 1e-3, "preset": "published", "snapshot": "other", "references": 3}
    for name, value in others.items():
        with pytest.raises(SettingsError, match=rf"other settings \({name} [^;]+, not {value}\)"):
            train_landmark_generator(landmark_settings.replaced(resume=True, **{name: value}))
    with pytest.raises(SettingsError, match=r"\(batch_size 4, not 8; seed 0, not 1\)"):
        train_landmark_generator(landmark_settings.replaced(resume=True, seed=1, batch_size=8, steps=1))
    went_on = train_landmark_generator(landmark_settings.replaced(resume=True, steps=2, validate_every=1, device="auto", max_non_finite=1))
    assert went_on.step == 2


def test_other_perceptual_weights_are_other_settings(landmark_settings: LandmarkGeneratorTraining, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    train_landmark_generator(landmark_settings.replaced(steps=1))
    saved = read_run(landmark_settings.out, KIND)
    assert saved is not None
    renderer = RendererTraining(store="store", out="out", perceptual_weights="vgg.safetensors")
    monkeypatch.chdir(tmp_path)
    saved = replace(saved, settings=settings_of_run(renderer))
    require_same_settings(saved, renderer.replaced(perceptual_weights=str(tmp_path / "vgg.safetensors")))
    with pytest.raises(SettingsError, match="perceptual_weights"):
        require_same_settings(saved, renderer.replaced(perceptual_weights="other.safetensors"))
    require_same_settings(saved, renderer.replaced(fid_weights="inception.pth"))  # it only measures


def test_a_snapshot_of_the_same_name_with_other_clips_is_refused(landmark_settings: LandmarkGeneratorTraining, tmp_path: Path) -> None:
    train_landmark_generator(landmark_settings.replaced(steps=1))
    store = make_training_corpus(tmp_path / "other", {"train": [30, 40], "val": [30]})
    with pytest.raises(SettingsError, match="other clips than the snapshot"):
        train_landmark_generator(landmark_settings.replaced(resume=True, store=store.uri))


def test_a_forgotten_resume_deletes_nothing(landmark_settings: LandmarkGeneratorTraining) -> None:
    former = train_landmark_generator(landmark_settings)
    before = sorted(Path(landmark_settings.out).rglob("*"))
    with pytest.raises(SettingsError, match="holds a run of 6 steps already; give --resume"):
        train_landmark_generator(landmark_settings.replaced(seed=1))
    assert sorted(Path(landmark_settings.out).rglob("*")) == before
    assert Path(former.checkpoint).exists()


def test_a_fresh_start_leaves_nothing_of_the_former_run_to_go_on_from(landmark_settings: LandmarkGeneratorTraining, caplog: pytest.LogCaptureFixture) -> None:
    former = train_landmark_generator(landmark_settings)
    with pytest.raises(KeyboardInterrupt):
        train_landmark_generator(landmark_settings, interrupt_at(2), Session(run_name="another"))
    assert Path(former.checkpoint).exists()
    assert not (Path(landmark_settings.out) / "state" / "summary.json").exists()
    train_landmark_generator(landmark_settings.replaced(resume=True, steps=1))
    assert "starts afresh" in caplog.text


def test_workers_that_nobody_starts_are_told(landmark_settings: LandmarkGeneratorTraining, caplog: pytest.LogCaptureFixture) -> None:
    train_landmark_generator(landmark_settings.replaced(workers=2, steps=1))
    assert "The 2 workers of the settings are for Ray and torchrun" in caplog.text


def test_a_named_run_goes_on_from_its_own_state_alone(landmark_settings: LandmarkGeneratorTraining) -> None:
    assert saved_run_to_resume(landmark_settings, KIND, "monday") is None
    train_landmark_generator(landmark_settings.replaced(steps=3), session=Session(run_name="monday"))
    for resume in (False, True):
        settings = landmark_settings.replaced(resume=resume)
        own = saved_run_to_resume(settings, KIND, "monday")
        assert own is not None
        assert own.position.step == 3
        assert saved_run_to_resume(settings.replaced(seed=1), KIND, "tuesday") is None
    assert saved_run_to_resume(landmark_settings, KIND) is None
    with pytest.raises(SettingsError, match="seed"):
        saved_run_to_resume(landmark_settings.replaced(seed=1), KIND, "monday")
    train_landmark_generator(landmark_settings.replaced(resume=True))  # by a person: the run keeps its name
    own = saved_run_to_resume(landmark_settings, KIND, "monday")
    assert own is not None
    assert own.position.step == 6


def test_lost_weights_of_a_finished_run_are_saved_again(landmark_settings: LandmarkGeneratorTraining) -> None:
    first = train_landmark_generator(landmark_settings)
    weights = Path(first.checkpoint)
    content = weights.read_bytes()
    weights.unlink()
    again = train_landmark_generator(landmark_settings.replaced(resume=True))
    assert again.replaced(samples_per_second=first.samples_per_second, input_wait_share=first.input_wait_share) == first
    assert weights.read_bytes() == content


def test_lost_weights_are_given_back_from_the_best_checkpoint_and_not_from_the_last(
    landmark_settings: LandmarkGeneratorTraining, falling_scores: list[float]
) -> None:
    falling_scores[:] = [0, 5, 2]
    weights = Path(train_landmark_generator(landmark_settings).checkpoint)
    content = weights.read_bytes()
    weights.unlink()
    assert train_landmark_generator(landmark_settings.replaced(resume=True)).best_step == 3
    assert weights.read_bytes() == content
    weights.unlink()
    (Path(landmark_settings.out) / "state" / "checkpoints" / "000000003.pt").unlink()
    assert train_landmark_generator(landmark_settings.replaced(resume=True)).best_step == 6
    header = read_header(str(weights))
    assert (header.step, header.metrics) == (6, {"l1": -2.0})


def test_a_metric_that_is_no_number_is_kept_as_such(landmark_settings: LandmarkGeneratorTraining, falling_scores: list[float]) -> None:
    falling_scores[:] = [0, float("nan"), float("nan")]
    summary = train_landmark_generator(landmark_settings)
    assert math.isnan(summary.metrics["l1"])
    assert math.isnan(read_header(summary.checkpoint).metrics["l1"])
    assert math.isnan(train_landmark_generator(landmark_settings.replaced(resume=True)).metrics["l1"])


def test_a_full_disk_is_one_sentence(landmark_settings: LandmarkGeneratorTraining, monkeypatch: pytest.MonkeyPatch) -> None:
    class FullDisk(io.BytesIO):
        def write(self, content: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode="r", **rest: FullDisk() if path.suffix == ".pt" and mode == "wb" else opened(path, mode, **rest))
    with pytest.raises(StoreError, match=r"000000003.pt cannot be written: No space left on device\."):
        train_landmark_generator(landmark_settings)


def test_a_resumed_run_keeps_its_curves_on_tensorboard(landmark_settings: LandmarkGeneratorTraining) -> None:
    train_landmark_generator(landmark_settings.replaced(steps=3))
    train_landmark_generator(landmark_settings.replaced(resume=True))
    boards = EventAccumulator(str(Path(landmark_settings.out) / "state" / "tensorboard"))
    boards.Reload()
    assert [point.step for point in boards.Scalars("train/l1")] == [1, 2, 3, 4, 5, 6]


def test_the_summary_of_fewer_steps_is_not_taken_for_the_end(landmark_settings: LandmarkGeneratorTraining) -> None:
    train_landmark_generator(landmark_settings.replaced(steps=3))
    summary = Path(landmark_settings.out) / "state" / "summary.json"
    of_three_steps = summary.read_bytes()
    train_landmark_generator(landmark_settings.replaced(resume=True))
    summary.write_bytes(of_three_steps)  # as if the run had been killed between its last state and its summary
    assert train_landmark_generator(landmark_settings.replaced(resume=True)).step == 6


def test_the_summary_of_a_moved_run_names_weights_that_are_there(landmark_settings: LandmarkGeneratorTraining, tmp_path: Path) -> None:
    train_landmark_generator(landmark_settings)
    moved = shutil.move(landmark_settings.out, tmp_path / "moved")
    summary = train_landmark_generator(landmark_settings.replaced(resume=True, out=str(moved)))
    assert Path(summary.checkpoint) == moved / "landmark-generator.safetensors"


def test_metrics_are_there_while_training_goes_on(landmark_settings: LandmarkGeneratorTraining) -> None:
    seen: list[int] = []

    def look(done: int, total: int | None = None, note: str = "") -> None:
        seen.append(int(rows_of(landmark_settings)[-1]["step"]))

    train_landmark_generator(landmark_settings, look)
    assert seen == [0, 1, 2, 3, 4, 5]  # progress is told just before the step's own row


def test_half_a_row_and_rows_that_will_be_made_again_are_cut(landmark_settings: LandmarkGeneratorTraining) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_landmark_generator(landmark_settings, interrupt_at(5))
    metrics = Path(landmark_settings.out) / "state" / "metrics.jsonl"
    assert rows_of(landmark_settings)[-1]["step"] == 4
    with metrics.open("a") as file:
        file.write('{"step": 5, "spl')
    train_landmark_generator(landmark_settings.replaced(resume=True))
    assert [row["step"] for row in rows_of(landmark_settings)] == [0, 1, 2, 3, 3, 4, 5, 6, 6]


def test_training_does_not_need_an_installed_package(landmark_settings: LandmarkGeneratorTraining, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("tasks.version.version", version)
    assert read_header(train_landmark_generator(landmark_settings.replaced(steps=1)).checkpoint).code_version == ""


def test_a_damaged_state_is_one_sentence(landmark_settings: LandmarkGeneratorTraining) -> None:
    state = Path(landmark_settings.out) / "state" / "checkpoints" / "000000003.pt"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"No training state .* can be read"):
        train_landmark_generator(landmark_settings.replaced(resume=True))


def test_a_damaged_checkpoint_costs_the_steps_after_the_one_before_it(landmark_settings: LandmarkGeneratorTraining, caplog: pytest.LogCaptureFixture) -> None:
    train_landmark_generator(landmark_settings)
    before = rows_of(landmark_settings)
    newest = Path(landmark_settings.out) / "state" / "checkpoints" / "000000006.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    train_landmark_generator(landmark_settings.replaced(resume=True))
    assert "the one before it is taken" in caplog.text
    for one, other in zip(numbers(rows_of(landmark_settings)), numbers(before), strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_the_newest_checkpoints_and_the_best_are_kept(landmark_settings: LandmarkGeneratorTraining, falling_scores: list[float]) -> None:
    falling_scores[:] = [0, 1, 5, 2, 3, 4, 3]
    summary = train_landmark_generator(landmark_settings.replaced(validate_every=1, keep_checkpoints=2))
    names = sorted(path.name for path in (Path(landmark_settings.out) / "state" / "checkpoints").iterdir())
    assert names == ["000000002.pt", "000000005.pt", "000000006.pt"]
    assert summary.best_step == 2
    assert read_header(summary.checkpoint).step == 2


def test_a_run_stops_when_nothing_becomes_better_and_is_then_finished(landmark_settings: LandmarkGeneratorTraining, falling_scores: list[float]) -> None:
    falling_scores[:] = [0, 1, 5, 2, 3, 4, 3]
    settings = landmark_settings.replaced(validate_every=1, stop_after=3)
    summary = train_landmark_generator(settings)
    assert (summary.step, summary.best_step, summary.stopped_early) == (5, 2, True)
    assert summary.metrics["l1"] == -5
    assert train_landmark_generator(settings.replaced(resume=True)) == summary
    falling_scores[:] = [6.0] * 10
    assert train_landmark_generator(settings.replaced(resume=True, stop_after=5)).best_step == 6


@pytest.fixture
def falling_scores(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Scores of the validations to come, in order."""
    scores: list[float] = []
    monkeypatch.setattr(LandmarkValidation, "measure", lambda self, network: {"l1": -scores.pop(0)})
    monkeypatch.setattr(LandmarkValidation, "preview", lambda self, network: None)
    return scores


def test_a_run_may_start_from_a_checkpoint_whose_weights_count_until_better_ones_come(
    landmark_settings: LandmarkGeneratorTraining, tmp_path: Path, falling_scores: list[float]
) -> None:
    falling_scores[:] = [0, 1, 2]
    first = train_landmark_generator(landmark_settings)
    falling_scores[:] = [5, 1, 2]
    tuned = train_landmark_generator(landmark_settings.replaced(start_from=first.checkpoint, out=str(tmp_path / "tuned"), seed=4))
    assert tuned.best_step == 0
    (ancestor,) = read_header(tuned.checkpoint).ancestors
    assert (ancestor.version, ancestor.origin, ancestor.step) == (file_hash(Path(first.checkpoint))[:12], "trained", 6)
    for one, other in zip(load_landmark_generator(first.checkpoint).parameters(), load_landmark_generator(tuned.checkpoint).parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_resumed_run_remembers_what_it_began_with(landmark_settings: LandmarkGeneratorTraining, tmp_path: Path) -> None:
    first = train_landmark_generator(landmark_settings.replaced(steps=1))
    tuning = landmark_settings.replaced(start_from=first.checkpoint, out=str(tmp_path / "tuned"), steps=3)
    train_landmark_generator(tuning)
    Path(first.checkpoint).unlink()
    summary = train_landmark_generator(LandmarkGeneratorTraining.model_validate({**tuning.model_dump(), "resume": True, "steps": 6}))
    run = read_run(tuning.out, KIND)
    assert run is not None
    assert [ancestor["snapshot"] for ancestor in run.ancestors] == [SNAPSHOT]
    assert len(read_header(summary.checkpoint).ancestors) == 1


def test_a_start_with_another_crop_is_refused(landmark_settings: LandmarkGeneratorTraining, tmp_path: Path) -> None:
    first = train_landmark_generator(landmark_settings.replaced(steps=1))
    network = load_landmark_generator(first.checkpoint)
    other = str(tmp_path / "other.safetensors")
    save_checkpoint(other, network, network.header.replaced(crop=network.header.crop.replaced(padding=0.3)))
    with pytest.raises(CheckpointError, match=r"padding 0.3.*padding 0.08"):
        train_landmark_generator(landmark_settings.replaced(start_from=other, out=str(tmp_path / "tuned")))


def test_what_is_frozen_stays_as_it_was(landmark_settings: LandmarkGeneratorTraining, tmp_path: Path) -> None:
    first = train_landmark_generator(landmark_settings)
    changes = {"start_from": first.checkpoint, "freeze": ("audio_encoder", "batch-norm"), "out": str(tmp_path / "tuned"), "learning_rate": 1e-2}
    train_landmark_generator(landmark_settings.replaced(**changes))
    before, run = load_landmark_generator(first.checkpoint).state_dict(), read_run(changes["out"], KIND)
    assert run is not None
    for name, value in run.networks["network"].items():
        is_frozen = name.startswith("audio_encoder") or ".normalisation." in name
        assert torch.equal(value, before[name]) == is_frozen, name


def test_the_weights_to_use_are_the_averaged_ones(landmark_settings: LandmarkGeneratorTraining) -> None:
    summary = train_landmark_generator(landmark_settings.replaced(ema_decay=0.5, validate_every=6))
    run = read_run(landmark_settings.out, KIND)
    assert run is not None
    kept = load_landmark_generator(summary.checkpoint).state_dict()
    assert all(torch.equal(kept[name], value) for name, value in run.averaged.items())
    assert not torch.equal(kept["mouth_head.weight"], run.networks["network"]["mouth_head.weight"])


def test_the_learning_rate_is_in_the_rows_and_resumed_in_the_middle_of_its_fall(landmark_settings: LandmarkGeneratorTraining, tmp_path: Path) -> None:
    falling = landmark_settings.replaced(schedule="cosine", rate_warm_up_steps=2)
    whole = falling.replaced(out=str(tmp_path / "whole"))
    train_landmark_generator(whole)
    rates = [row["learning_rate"] for row in rows_of(whole) if row["split"] == "train"]
    assert rates[0] < rates[1] < rates[2] > rates[3] > rates[5]
    with pytest.raises(KeyboardInterrupt):
        train_landmark_generator(falling, interrupt_at(5))
    with pytest.raises(SettingsError, match="steps 6, not 12"):
        train_landmark_generator(falling.replaced(resume=True, steps=12))
    train_landmark_generator(falling.replaced(resume=True))
    for one, other in zip(numbers(rows_of(falling)), numbers(rows_of(whole)), strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_a_loss_on_the_lip_opening_is_a_loss_of_its_own(landmark_settings: LandmarkGeneratorTraining) -> None:
    train_landmark_generator(landmark_settings.replaced(lip_opening_weight=2.0))
    for row in rows_of(landmark_settings):
        if row["split"] == "train":
            assert row["loss"] == pytest.approx(row["l1"] + row["velocity"] + 2 * row["lip_opening"], rel=1e-5)


@pytest.fixture
def poisoned_steps(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Steps (0-based) whose batch holds a number that is none."""
    steps: set[int] = set()
    learn = LandmarkGeneratorTrainer.backward
    count = iter(range(10_000))

    def backward(self: LandmarkGeneratorTrainer, batch: object, position: Position, share: float) -> dict[str, torch.Tensor]:
        if next(count) in steps:
            batch.mels[:] = float("nan")
        return learn(self, batch, position, share)

    monkeypatch.setattr(LandmarkGeneratorTrainer, "backward", backward)
    return steps


def test_a_step_that_is_no_number_is_left_out(landmark_settings: LandmarkGeneratorTraining, poisoned_steps: set[int]) -> None:
    poisoned_steps.add(1)
    summary = train_landmark_generator(landmark_settings)
    rows = [row for row in rows_of(landmark_settings) if row["split"] == "train"]
    assert rows[1] == {"step": 2, "split": "train", "skipped": 1.0}
    assert all("l1" in row for row in rows[2:])
    assert summary.metrics["l1"] < 100


def test_too_many_such_steps_end_the_run(landmark_settings: LandmarkGeneratorTraining, poisoned_steps: set[int]) -> None:
    poisoned_steps.update(range(10))
    with pytest.raises(DubmillError, match="3 steps had a loss or gradient that is no number"):
        train_landmark_generator(landmark_settings.replaced(max_non_finite=2))


def test_two_clips_and_a_short_batch_are_enough(landmark_settings: LandmarkGeneratorTraining, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = make_training_corpus(tmp_path / "two", {"train": [6, 25]})
    summary = train_landmark_generator(landmark_settings.replaced(store=store.uri, steps=2, batch_size=128))
    assert summary.step == 2
    assert summary.metrics["held_out"] == 0
    assert "no validation clips" in caplog.text


def test_what_a_user_can_mend_is_one_sentence(landmark_settings: LandmarkGeneratorTraining, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no corpus store"):
        train_landmark_generator(landmark_settings.replaced(store=str(tmp_path / "nowhere")))
    with pytest.raises(StoreError, match="no snapshot"):
        train_landmark_generator(landmark_settings.replaced(snapshot="other"))
    with pytest.raises(SettingsError, match="batch_size"):
        train_landmark_generator(landmark_settings.replaced(batch_size=1))
    store = make_training_corpus(tmp_path / "short", {"train": [5]})
    with pytest.raises(StoreError, match="6 frames"):
        train_landmark_generator(landmark_settings.replaced(store=store.uri))


def test_a_bucket_has_the_metrics_too_while_training_goes_on(landmark_settings: LandmarkGeneratorTraining, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.training.state.REWRITE_EVERY_S", 0.0)
    settings = landmark_settings.replaced(out="memory://bucket/run")
    with pytest.raises(KeyboardInterrupt):
        train_landmark_generator(settings, interrupt_at(3))
    rows = map(json.loads, read_bytes("memory://bucket/run/state/metrics.jsonl").splitlines())
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert not exists("memory://bucket/run/state/checkpoints")


def test_a_gradient_beyond_fp16_lowers_the_loss_scale_and_is_not_counted(landmark_settings: LandmarkGeneratorTraining, monkeypatch: pytest.MonkeyPatch) -> None:
    descend = Precision.descend
    scales: list[float] = []

    def overflowing_once(self: Precision, loss: torch.Tensor) -> None:
        if not scales:
            self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)  # no GPU is needed to go beyond what a number can hold
        scales.append(self.scaler.get_scale())
        descend(self, loss * 4)

    monkeypatch.setattr(Precision, "descend", overflowing_once)
    summary = train_landmark_generator(landmark_settings)
    rows = [row for row in rows_of(landmark_settings) if row["split"] == "train"]
    assert rows[0] == {"step": 1, "split": "train", "loss_scale": 2.0**126}
    assert scales[1] == 2.0**126
    assert scales == sorted(scales, reverse=True)
    assert summary.skipped == 0
