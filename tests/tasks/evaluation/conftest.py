"""What the evaluation's tests share."""

from pathlib import Path

import pytest
import torch

from tests.tasks.evaluation.foreign_networks import INCEPTION_FILE, write_alexnet, write_inception


@pytest.fixture(scope="session", autouse=True)
def _one_core() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def alexnet_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_alexnet(tmp_path_factory.mktemp("alexnet") / "alexnet.pth")


@pytest.fixture(scope="session")
def torch_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TORCH_HOME in which pytorch-fid's own command line finds its weights."""
    home = tmp_path_factory.mktemp("torch_home")
    write_inception(home / "hub" / "checkpoints" / INCEPTION_FILE)
    return home


@pytest.fixture(scope="session")
def inception_weights(torch_home: Path) -> Path:
    return torch_home / "hub" / "checkpoints" / INCEPTION_FILE
