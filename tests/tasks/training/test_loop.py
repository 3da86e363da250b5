import json
from pathlib import Path

import pytest
import torch

from models.checkpoint import read_header
from schemas.errors import CheckpointError, DubmillError, SettingsError, StoreError
from schemas.settings import LandmarkGeneratorTraining, TrainingSettings
from tasks.corpus.store import CorpusStore
from tasks.training.landmark_generator import LandmarkGeneratorTrainer, train_landmark_generator
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


def test_an_interrupted_run_leaves_a_state_to_go_on_from(landmark_settings: LandmarkGeneratorTraining, tmp_path: Path) -> None:
    def interrupt(done: int, total: int | None = None, note: str = "") -> None:
        if done == 5:
            raise KeyboardInterrupt

    whole = landmark_settings.replaced(out=str(tmp_path / "whole"))
    train_landmark_generator(whole)
    with pytest.raises(KeyboardInterrupt):
        train_landmark_generator(landmark_settings, interrupt)
    assert read_header(f"{landmark_settings.out}/landmark-generator.safetensors").step == 3
    train_landmark_generator(landmark_settings.replaced(resume=True))
    for one, other in zip(numbers(rows_of(landmark_settings)), numbers(rows_of(whole)), strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_what_a_run_leaves(landmark_settings: LandmarkGeneratorTraining, corpus: CorpusStore) -> None:
    summary = train_landmark_generator(landmark_settings)
    out = Path(landmark_settings.out)
    assert [path.name for path in out.rglob("*.safetensors")] == ["landmark-generator.safetensors"]
    assert {path.name for path in (out / "state").iterdir()} == {"state.pt", "metrics.jsonl", "summary.json", "tensorboard"}
    header = read_header(summary.checkpoint)
    assert (header.kind, header.step, header.origin, header.snapshot) == ("landmark-generator", 6, "trained", SNAPSHOT)
    assert (header.crop, header.mel) == (corpus.format.crop, corpus.format.mel)
    assert header.metrics == summary.metrics
    assert header.code_version
    validations = [row for row in rows_of(landmark_settings) if row["split"] == "val"]
    assert [row["step"] for row in validations] == [0, 3, 6]
    assert {name: validations[0][name] for name in ("l1", "velocity")} == summary.metrics_at_start


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


def test_a_state_of_another_size_is_refused(landmark_settings: LandmarkGeneratorTraining) -> None:
    train_landmark_generator(landmark_settings.replaced(steps=1))
    with pytest.raises(CheckpointError, match="another preset"):
        train_landmark_generator(landmark_settings.replaced(resume=True, preset="published"))


def test_a_damaged_state_is_one_sentence(landmark_settings: LandmarkGeneratorTraining) -> None:
    state = Path(landmark_settings.out) / "state" / "state.pt"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="cannot be read"):
        train_landmark_generator(landmark_settings.replaced(resume=True))


@pytest.fixture
def poisoned_steps(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Steps (0-based) whose batch holds a number that is none."""
    steps: set[int] = set()
    learn = LandmarkGeneratorTrainer.backward
    count = iter(range(10_000))

    def backward(self: LandmarkGeneratorTrainer, batch: object, epochs: float, share: float) -> dict[str, torch.Tensor]:
        if next(count) in steps:
            batch.mels[:] = float("nan")
        return learn(self, batch, epochs, share)

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
