"""The runs whose loss curves are kept, and how they are made again: `python -m tests.tasks.training.golden_curves` prints them as JSON.

Made again on purpose only: when the recipe or the networks change so that losses must change.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from schemas.settings import LandmarkGeneratorTraining, RendererTraining
from tasks.training.landmark_generator import train_landmark_generator
from tasks.training.renderer import train_renderer
from tests.training_corpus import SNAPSHOT, make_training_corpus

STEPS = 60
FOLDER = Path(__file__).with_name("golden")
KEPT = {"landmark-generator": ("l1", "velocity"), "renderer": ("pixel", "warp", "adversarial", "discriminator")}
"""Losses of each network whose curves are kept; some begin with a later phase."""

Curves = dict[str, list[float]]


def curves(kind: str, **changes: Any) -> Curves:
    """The losses of STEPS steps of a trainer with the small preset on drawn faces, one thread; `changes` to its settings."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = make_training_corpus(Path(folder, "store"), {"train": [30, 40, 25, 35], "val": [12]})
        common = {"store": store.uri, "out": str(Path(folder, "out")), "snapshot": SNAPSHOT, "preset": "small", "device": "cpu", "steps": STEPS}
        common |= {"validate_every": STEPS, "validation_samples": 2, "validation_clips": 1, "preview_every": 0}
        if kind == "landmark-generator":
            train_landmark_generator(LandmarkGeneratorTraining.model_validate(common | {"batch_size": 16, "learning_rate": 1e-3} | changes))
        else:
            # Two pictures a step, one reference, pixels beside the published losses: 60 steps then show learning within a minute or two.
            renderer = {"batch_size": 2, "references": 1, "learning_rate": 1e-3, "pixel_weight": 5.0, "warm_up_steps": STEPS // 2}
            train_renderer(RendererTraining.model_validate(common | renderer | changes))
        return _curves(Path(folder, "out", "state", "metrics.jsonl"), KEPT[kind])


def _curves(metrics: Path, names: tuple[str, ...]) -> Curves:
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    return {name: [round(row[name], 6) for row in rows if row["split"] == "train" and name in row] for name in names}


def main() -> None:
    """Prints the curves of the network that is named, with settings `name=number` changed."""
    kind, *changes = sys.argv[1:]
    print(json.dumps(curves(kind, **{name: json.loads(value) for name, value in (change.split("=") for change in changes)})))


if __name__ == "__main__":
    main()
