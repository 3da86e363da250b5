"""One worker of a group, a process of its own: `python one_of_several.py RANK WORKERS FOLDER SETTINGS`. Run by test_workers.py."""

import sys
from pathlib import Path

import torch
from torch import distributed

from schemas.checkpoints import LandmarkGeneratorSize
from schemas.settings import LandmarkGeneratorTraining
from tasks.progress import silent
from tasks.training import landmark_generator
from tasks.training.session import Session


def main(rank: int, workers: int, folder: Path, settings: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=workers)
    # Without dropout, whose masks are each worker's own, nothing may depend on how many workers there are.
    landmark_generator.PRESETS["small"] = LandmarkGeneratorSize(width=32, layers=1, heads=2, feed_forward=32, dropout=0.0)
    landmark_generator.train_landmark_generator(LandmarkGeneratorTraining.model_validate_json(settings), silent, Session(rank, workers))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
