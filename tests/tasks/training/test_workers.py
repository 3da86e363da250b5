import subprocess
import sys
from pathlib import Path

import pytest
import torch

from schemas.settings import LandmarkGeneratorTraining
from tasks.training.batch_norm import WorkersBatchNorm, normalise_over_workers
from tests.tasks.training.test_loop import rows_of

WORKER = Path(__file__).with_name("one_of_several.py")
ROOT = Path(__file__).parents[3]


def train_with(workers: int, settings: LandmarkGeneratorTraining, folder: Path) -> LandmarkGeneratorTraining:
    folder.mkdir()
    settings = settings.replaced(out=str(folder / "run"), batch_size=5, steps=3)
    commands = [[sys.executable, str(WORKER), str(rank), str(workers), str(folder), settings.model_dump_json()] for rank in range(workers)]
    processes = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for command in commands]
    for process in processes:
        _, told = process.communicate(timeout=240)
        assert process.returncode == 0, told[-2000:]
    return settings


def test_losses_do_not_depend_on_the_number_of_workers(landmark_settings: LandmarkGeneratorTraining, tmp_path: Path) -> None:
    alone = train_with(1, landmark_settings, tmp_path / "one")
    shared = train_with(2, landmark_settings, tmp_path / "two")  # parts of three and two samples
    for one, other in zip(rows_of(alone), rows_of(shared), strict=True):
        exactly = one["step"] <= 1  # later on Adam, which divides by the gradients' size, makes more of rounding errors
        for name in one.keys() - {"split"}:
            assert other[name] == pytest.approx(one[name], rel=1e-4 if exactly else 2e-3), (one, name)


def test_normalising_over_workers_keeps_names_and_tensors() -> None:
    network = torch.nn.Sequential(torch.nn.Conv1d(2, 3, 1), torch.nn.Sequential(torch.nn.BatchNorm1d(3)))
    before = network.state_dict(keep_vars=True)
    normalise_over_workers(network)
    after = network.state_dict(keep_vars=True)
    assert isinstance(network[1][0], WorkersBatchNorm)
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)
