"""What each part of the training recipe gives: the published recipe against ours and against single switches, at equal steps, over several seeds.

    python -m tests.bench.learning_study run landmark-generator RESULTS.jsonl --store S --upper-face-store U [--only NAME ...] [--seeds 3] [--steps 600]
    python -m tests.bench.learning_study table RESULTS.jsonl

`run` adds a line a run and leaves out those that are there already, so it may be ended and begun again, and several may run side by side with other
`--only`. Both stores hold the same clips; U was made with `crop: {anchor: upper-face}`. The snapshot `study` is frozen in each: a quarter of the speakers
validates. The small preset: on a CPU these are small networks and few steps, which say which switches help, not how good a network becomes.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from schemas.settings import LandmarkGeneratorTraining, RendererTraining, SnapshotSettings
from tasks.corpus.snapshot import freeze_snapshot
from tasks.corpus.store import CorpusStore
from tasks.training.landmark_generator import train_landmark_generator
from tasks.training.renderer import train_renderer

SNAPSHOT = SnapshotSettings(name="study", val_share=0.25, test_share=0.0)
PIXELS = {"pixel_weight": 1.0, "warp_weight": 0.0, "perceptual_weight": 0.0, "adversarial_weight": 0.0, "feature_matching_weight": 0.0}

OURS = {"ema_decay": 0.99, "schedule": "cosine", "rate_warm_up_steps": 20, "silence_share": 0.1, "lip_opening_weight": 1.0}

NEUTRAL = {"lip_opening_weight": 0.0, "silence_share": 0.0}
"""Whatever the defaults have become."""

LANDMARK_RECIPES: dict[str, dict[str, Any]] = {
    "published": {},
    "averaged weights": {"ema_decay": 0.99},
    "cosine": {"schedule": "cosine", "rate_warm_up_steps": 20},
    "upper-face": {"store": "upper"},
    "reference jitter": {"reference_jitter_frames": 3},
    "silence samples": {"silence_share": 0.1},
    "lip opening loss": {"lip_opening_weight": 1.0},
    "flip": {"flip_share": 0.5},
    "ours": OURS,
    "ours, upper-face": {"store": "upper", **OURS},
}
RENDERER_RECIPES: dict[str, dict[str, Any]] = {
    "published": {"warm_up_steps": 15},
    "ours": {"ema_decay": 0.99, "warm_up_steps": 0, **PIXELS},
    "ours with flip and colour": {"ema_decay": 0.99, "warm_up_steps": 0, "flip_share": 0.5, "colour_jitter": 0.15, **PIXELS},
    "ours, upper-face": {"store": "upper", "ema_decay": 0.99, "warm_up_steps": 0, **PIXELS},
}
RECIPES = {"landmark-generator": LANDMARK_RECIPES, "renderer": RENDERER_RECIPES}


def run(kind: str, results: Path, stores: dict[str, str], options: argparse.Namespace) -> None:
    """Trains every recipe with every seed that has no line yet."""
    for seed in range(options.seeds):
        for name in options.only or RECIPES[kind]:
            key = {"kind": kind, "recipe": name, "seed": seed, "steps": options.steps, "size": options.size}
            if not any(key.items() <= line.items() for line in _lines(results)):
                metrics = _train(kind, name, stores, seed, options)
                with results.open("a") as file:
                    file.write(json.dumps(key | metrics) + "\n")


def _train(kind: str, recipe: str, stores: dict[str, str], seed: int, options: argparse.Namespace) -> dict[str, Any]:
    changes = {**RECIPES[kind][recipe]}
    store = stores[changes.pop("store", "all")]
    freeze_snapshot(CorpusStore.open(store), SNAPSHOT)
    with tempfile.TemporaryDirectory() as folder:
        out = options.keep or folder
        common = {"store": store, "out": str(Path(out, f"{kind}-{recipe}-{seed}-{options.size}")), "snapshot": SNAPSHOT.name}
        common |= {"steps": options.steps, "batch_size": options.batch_size, "learning_rate": options.learning_rate, "seed": seed}
        common |= {"ema_decay": 0.0, "validate_every": options.steps, "validation_samples": options.samples, "preview_every": options.preview_every}
        common |= {"precision": options.precision, "keep_checkpoints": 1, "preset": "small", "device": "cpu"}
        if kind == "landmark-generator":
            summary = train_landmark_generator(LandmarkGeneratorTraining.model_validate(common | {"validation_clips": 24, **NEUTRAL} | changes))
        else:
            of_renderer = {"references": options.references, "size": options.size, "silence_share": 0.0}
            summary = train_renderer(RendererTraining.model_validate(common | of_renderer | changes))
    return {"metrics": summary.metrics, "samples_per_second": summary.samples_per_second}


def _lines(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def table(results: Path) -> str:
    """Markdown: a row a recipe of a network at a size and so many steps, mean and spread (standard deviation) over the seeds."""
    lines = _lines(results)
    rows = []
    names = list(dict.fromkeys(name for line in lines for name in line["metrics"] if name != "held_out"))
    for kind, recipe, size, steps in dict.fromkeys(map(_group, lines)):
        runs = [line["metrics"] for line in lines if _group(line) == (kind, recipe, size, steps)]
        numbers = (_mean_and_spread([run[name] for run in runs if name in run]) for name in names)
        rows.append([f"{kind}, {recipe}, {size} px, {steps} steps ({len(runs)})", *numbers])
    return "\n".join("| " + " | ".join(row) + " |" for row in [["recipe (runs)", *names], ["---"] * (len(names) + 1), *rows])


def _group(line: dict[str, Any]) -> tuple[str, str, int, int]:
    return line["kind"], line["recipe"], line["size"], line["steps"]


def _mean_and_spread(values: list[float]) -> str:
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4g}{spread}"


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    of_run = commands.add_parser("run")
    of_run.add_argument("kind", choices=RECIPES)
    of_run.add_argument("results", type=Path)
    of_run.add_argument("--store", required=True)
    of_run.add_argument("--upper-face-store")
    of_run.add_argument("--only", nargs="*")
    of_run.add_argument("--seeds", type=int, default=3)
    of_run.add_argument("--steps", type=int, default=600)
    of_run.add_argument("--batch-size", type=int, default=32)
    of_run.add_argument("--learning-rate", type=float, default=1e-3)
    of_run.add_argument("--samples", type=int, default=256)
    of_run.add_argument("--size", type=int, default=128)
    of_run.add_argument("--references", type=int, default=3)
    of_run.add_argument("--precision", default="fp32")
    of_run.add_argument("--preview-every", type=int, default=0)
    of_run.add_argument("--keep", help="folder in which the runs' own folders stay")
    of_run.add_argument("--threads", type=int, default=1)
    commands.add_parser("table").add_argument("results", type=Path)
    options = parser.parse_args()
    if options.command == "table":
        print(table(options.results))
        return
    torch.set_num_threads(options.threads)
    run(options.kind, options.results, {"all": options.store, "upper": options.upper_face_store}, options)


if __name__ == "__main__":
    main()
