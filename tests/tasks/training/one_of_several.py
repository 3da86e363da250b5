"""One worker of a group, a process of its own: `python -m tests.tasks.training.one_of_several RANK WORKERS FOLDER`. Run by test_workers.py.

It trains what FOLDER/runs.json asks for, one run after the other: a list of kinds and settings.
"""

import json
import sys
from pathlib import Path

from torch import distributed

from schemas.settings import LandmarkGeneratorTraining, RendererTraining
from tasks.progress import silent
from tasks.training import session
from tasks.training.landmark_generator import train_landmark_generator
from tasks.training.renderer import train_renderer
from tasks.training.session import Session
from tests.tasks.training.small_dubmill import small_networks


def main(rank: int, workers: int, folder: Path) -> None:
    session.BUCKET_NUMBERS = 2000  # so that there are several buckets
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=workers)
    with small_networks():
        train_all(rank, workers, folder)
    distributed.destroy_process_group()


def train_all(rank: int, workers: int, folder: Path) -> None:
    for kind, settings in json.loads((folder / "runs.json").read_text()):
        if kind == "renderer":
            train_renderer(RendererTraining.model_validate(settings), silent, Session(rank, workers))
        else:
            train_landmark_generator(LandmarkGeneratorTraining.model_validate(settings), silent, Session(rank, workers))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
