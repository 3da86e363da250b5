"""The runs whose loss curves are kept, and how they are made again: `python -m tests.tasks.training.golden_curves RUN` prints them as JSON.

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
COMMON = {"preset": "small", "device": "cpu", "learning_rate": 1e-3, "validation_samples": 2, "validation_clips": 1, "preview_every": 0}
WITHOUT_FEATURES = {"pixel_weight": 5.0, "warp_weight": 0.0, "perceptual_weight": 0.0}
"""VGG-19 is most of a renderer's step on a CPU; three steps with it are a run of their own."""
RUNS: dict[str, dict[str, Any]] = {
    "landmark-generator": {"steps": STEPS, "batch_size": 16, "lip_opening_weight": 0.0, "silence_share": 0.0},
    "renderer": {"steps": STEPS, "batch_size": 2, "references": 1, "warm_up_steps": 40, "learning_rate": 3e-4, **WITHOUT_FEATURES},
    "renderer-all-losses": {"steps": 3, "batch_size": 2, "references": 1, "warm_up_steps": 1},
}
NOT_KEPT = {"step", "split", "phase", "learning_rate", "gradient_norm"}
Curves = dict[str, list[float]]


def curves(run: str, **changes: Any) -> Curves:
    """The losses of one of RUNS on drawn faces, one thread; `changes` to its settings. A loss that begins with a later phase has a shorter curve."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = make_training_corpus(Path(folder, "store"), {"train": [30, 40, 25, 35], "val": [12]})
        out = Path(folder, "out")
        settings = {"store": store.uri, "out": str(out), "snapshot": SNAPSHOT, "validate_every": STEPS} | COMMON | RUNS[run] | changes
        if run == "landmark-generator":
            train_landmark_generator(LandmarkGeneratorTraining.model_validate(settings))
        else:
            train_renderer(RendererTraining.model_validate(settings))
        rows = [json.loads(line) for line in (out / "state" / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if row["split"] == "train"]
    return {name: [round(row[name], 7) for row in steps if name in row] for name in steps[-1].keys() - NOT_KEPT}


def main() -> None:
    """Prints the curves of the run that is named, with settings `name=number` changed."""
    run, *changes = sys.argv[1:]
    print(json.dumps(curves(run, **{name: json.loads(value) for name, value in (change.split("=") for change in changes)}), sort_keys=True))


if __name__ == "__main__":
    main()
