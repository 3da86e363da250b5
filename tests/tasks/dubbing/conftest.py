"""Footage, speech and networks that the dubbing tests share: made once."""

from pathlib import Path

import pytest
import torch

from schemas.settings import DubSettings
from tasks.dubbing.generate import Networks
from tests.footage import make_speech, make_talking_clip
from tests.tasks.dubbing.random_networks import write_random_networks


@pytest.fixture(scope="session", autouse=True)
def _one_core() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> DubSettings:
    return write_random_networks(tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="session")
def networks(settings: DubSettings) -> Networks:
    return Networks.load(settings)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of a talking face at 25 frames a second."""
    return make_talking_clip(tmp_path_factory.mktemp("footage") / "clip.mp4")


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_speech(tmp_path_factory.mktemp("speech") / "speech.wav", seconds=0.5)
