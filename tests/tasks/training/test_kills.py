"""Training killed at a random moment and resumed: every loss as in the run that nobody killed."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from models.checkpoint import read_tensors
from schemas.settings import LandmarkGeneratorTraining, RendererTraining, TrainingSettings, write_settings
from tasks.corpus.store import CorpusStore
from tasks.training.landmark_generator import train_landmark_generator
from tasks.training.renderer import train_renderer
from tasks.training.state import state_location, weights_location
from tests.tasks.training.small_dubmill import DROPOUT, small_networks
from tests.tasks.training.test_workers import training_rows
from tests.training_corpus import SNAPSHOT

ROOT = Path(__file__).parents[3]
STEPS, CHECKPOINT_EVERY = 60, 4
LONGEST_DELAY_S = 0.1
"""After the row of the chosen step the kill waits for up to so long, so that it may also meet a checkpoint half written."""
SOAK_ROUNDS = 10
RUN_LIMIT_S = 120.0
Undisturbed = Callable[[str], TrainingSettings]


def settings_for(kind: str, corpus: CorpusStore, folder: Path) -> TrainingSettings:
    common = {"store": corpus.uri, "out": str(folder / "run"), "snapshot": SNAPSHOT, "preset": "small", "device": "cpu"}
    common |= {"validation_samples": 2, "validation_clips": 1, "preview_every": 0}
    often = {"steps": STEPS, "validate_every": CHECKPOINT_EVERY, "rate_warm_up_steps": 10, "schedule": "cosine"}
    if kind == "renderer":
        return RendererTraining(**common, **often, batch_size=2, references=1, channels_last=False, warm_up_steps=STEPS // 2)
    return LandmarkGeneratorTraining(**common, **often, batch_size=4, reference_jitter_frames=2)


def start(kind: str, settings: TrainingSettings, folder: Path, *, resume: bool = False) -> subprocess.Popen[str]:
    write_settings(settings, str(folder / "settings.yaml"))
    command = [sys.executable, "-m", "tests.tasks.training.small_dubmill", "train", kind, "--settings", str(folder / "settings.yaml")]
    command += ["--resume"] * resume
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | {DROPOUT: "0.1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> None:
    _, told = process.communicate(timeout=RUN_LIMIT_S)
    assert process.returncode == 0, told[-3000:]


@pytest.fixture(scope="module")
def undisturbed(corpus: CorpusStore, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """The settings of a finished run of a kind; made when first asked for."""
    made: dict[str, TrainingSettings] = {}

    def _make(kind: str) -> TrainingSettings:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            made[kind] = settings_for(kind, corpus, folder)
            with small_networks(dropout=0.1):
                train_landmark_generator(made[kind]) if kind == "landmark-generator" else train_renderer(made[kind])
        return made[kind]

    return _make


def kill_at(process: subprocess.Popen[str], settings: TrainingSettings, step: int, delay_s: float) -> None:
    """SIGKILL when the rows show the step, and a moment later."""
    wait_for(process, settings, step)
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def wait_for(process: subprocess.Popen[str], settings: TrainingSettings, step: int) -> None:
    """Until the rows show the step."""
    rows, limit = Path(state_location(settings.out, "metrics.jsonl")), time.monotonic() + RUN_LIMIT_S
    while not (rows.exists() and f'"step": {step},' in rows.read_text()):
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < limit
        time.sleep(0.002)


def require_the_same(settings: TrainingSettings, expected: TrainingSettings, kind: str) -> None:
    """Every loss and every weight."""
    rows, wanted = training_rows(settings.out), training_rows(expected.out)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    for row, other in zip(rows, wanted, strict=True):
        assert row == pytest.approx(other, rel=1e-6, abs=1e-9)
    tensors, others = (read_tensors(weights_location(of.out, kind)) for of in (settings, expected))
    for name, tensor in tensors.items():
        assert (tensor.double() - others[name].double()).abs().max().item() <= 1e-6, name


def kill_and_resume(kind: str, seed: int, corpus: CorpusStore, folder: Path, expected: TrainingSettings) -> None:
    """Killed at one step, and once more at a later one."""
    chance = random.Random(seed)
    settings = settings_for(kind, corpus, folder)
    steps = chance.randrange(1, STEPS // 2 - 5), chance.randrange(STEPS // 2 + 5, STEPS - 12)
    for attempt, step in enumerate(steps):
        kill_at(start(kind, settings, folder, resume=attempt > 0), settings, step, chance.uniform(0, LONGEST_DELAY_S))
    finish(start(kind, settings, folder, resume=True))
    require_the_same(settings, expected, kind)


def test_a_run_that_is_killed_and_resumed_is_the_same_run(corpus: CorpusStore, tmp_path: Path, undisturbed: Undisturbed) -> None:
    kill_and_resume("landmark-generator", 1, corpus, tmp_path, undisturbed("landmark-generator"))


@pytest.mark.parametrize(("number", "exit_code"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.soak), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_says_how_to_go_on(number: signal.Signals, exit_code: int, corpus: CorpusStore, tmp_path: Path) -> None:
    settings = settings_for("landmark-generator", corpus, tmp_path).replaced(steps=100_000, schedule="constant")
    process = start("landmark-generator", settings, tmp_path)
    wait_for(process, settings, CHECKPOINT_EVERY + 1)
    process.send_signal(number)
    _, told = process.communicate(timeout=RUN_LIMIT_S)
    assert process.returncode == exit_code
    said = re.fullmatch(r"dubmill: Training stopped at step (\d+); the last checkpoint is of step (\d+); go on with --resume.", told.splitlines()[-1])
    assert said, told
    stopped_at, saved = map(int, said.groups())
    assert stopped_at > CHECKPOINT_EVERY
    assert (stopped_at - saved) in range(CHECKPOINT_EVERY + 1)
    assert Path(state_location(settings.out, "checkpoints", f"{saved:09d}.pt")).is_file()
    assert "Traceback" not in told
    assert not [path for path in Path(settings.out).rglob(".*") if "partial" in path.name]


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["landmark-generator", "renderer"])
@pytest.mark.parametrize("seed", range(SOAK_ROUNDS))
def test_killed_ten_times_at_random(kind: str, seed: int, corpus: CorpusStore, tmp_path: Path, undisturbed: Undisturbed) -> None:
    kill_and_resume(kind, seed, corpus, tmp_path, undisturbed(kind))
