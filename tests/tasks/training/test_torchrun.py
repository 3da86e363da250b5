"""The command line under torchrun: two processes that find each other by torchrun's environment, against one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed

from schemas.errors import SettingsError
from schemas.settings import LandmarkGeneratorTraining, write_settings
from tasks.corpus.store import CorpusStore
from tasks.training import session
from tasks.training.landmark_generator import train_landmark_generator
from tasks.training.session import open_session
from tasks.training.torchrun import TORCHRUN_VARIABLES
from tests.tasks.training.small_dubmill import small_networks
from tests.tasks.training.test_workers import training_rows
from tests.training_corpus import SNAPSHOT

ROOT = Path(__file__).parents[3]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
DUBMILL = ("-m", "tests.tasks.training.small_dubmill", "train", "landmark-generator")


def settings_for(corpus: CorpusStore, folder: Path) -> LandmarkGeneratorTraining:
    return LandmarkGeneratorTraining(
        store=corpus.uri, out=str(folder / "run"), snapshot=SNAPSHOT, preset="small", device="cpu",
        steps=10, batch_size=5, validate_every=10, validation_samples=2, validation_clips=1, preview_every=0, freeze=("batch-norm",),
    )  # fmt: skip


def test_two_processes_under_torchrun_learn_what_one_learns(corpus: CorpusStore, tmp_path: Path) -> None:
    alone_settings, shared_settings = settings_for(corpus, tmp_path / "one"), settings_for(corpus, tmp_path / "two")
    with small_networks():
        train_landmark_generator(alone_settings)
    write_settings(shared_settings, str(tmp_path / "settings.yaml"))
    command = [sys.executable, *TORCHRUN, *DUBMILL, "--settings", str(tmp_path / "settings.yaml"), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = training_rows(alone_settings.out), training_rows(shared_settings.out)
    assert len(one) == 10
    for alone, shared in zip(one, two, strict=True):
        assert shared["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    assert json.loads(done.stdout)["step"] == 10  # one summary: only the process that leads prints


def test_what_a_user_can_mend_is_told_once(corpus: CorpusStore, tmp_path: Path) -> None:
    write_settings(settings_for(corpus, tmp_path).replaced(snapshot="absent"), str(tmp_path / "settings.yaml"))
    done = subprocess.run(
        [sys.executable, *TORCHRUN, *DUBMILL, "--settings", str(tmp_path / "settings.yaml")], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 1
    assert done.stderr.count("dubmill: ") == 1, done.stderr
    assert "SystemExit" not in done.stderr
    assert "DubmillError" not in done.stderr


@pytest.fixture
def _torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the only worker of a torchrun."""
    values = dict.fromkeys(TORCHRUN_VARIABLES, "0") | {"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("_torchrun")
def test_the_group_is_taken_down_after_an_error_too() -> None:
    def work_and_fail() -> None:
        with open_session("cpu") as opened:
            assert (opened.rank, opened.world_size, opened.device.type) == (0, 1, "cpu")
            assert distributed.get_backend() == "gloo"
            raise SettingsError("broken")

    with pytest.raises(SettingsError, match="broken"):
        work_and_fail()
    assert not distributed.is_initialized()


def test_without_torchrun_there_is_one_process_and_no_group() -> None:
    assert not set(TORCHRUN_VARIABLES) <= os.environ.keys()
    with open_session("cpu") as opened:
        assert (opened.rank, opened.world_size) == (0, 1)
        assert not distributed.is_initialized()


@pytest.mark.usefixtures("_torchrun")
def test_each_worker_has_the_gpu_of_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert session._device("auto", 1, 2) == torch.device("cuda:1")
    assert session._device("cpu", 1, 2) == torch.device("cpu")
    with pytest.raises(SettingsError, match="3 workers on this machine, but torch sees 2 GPUs"):
        session._device("cuda", 0, 3)
