"""What is lost with fewer reference pictures: one trained renderer, the same held-out samples, more and fewer of their references.

    python -m tests.bench.fewer_references OUT STORE [--references 25 10 5 3] [--samples 48]

OUT is the folder of a training run, STORE its corpus; metrics are those of its validation. One that was trained with as
few as it is given may lose less.
"""

import argparse
from pathlib import Path

from models.checkpoint import load_renderer
from schemas.settings import RendererTraining, check_settings
from tasks.training.corpus import open_corpus
from tasks.training.pictures import FacePictures
from tasks.training.renderer_validation import RendererValidation
from tasks.training.session import one_process
from tasks.training.state import read_run

SHOWN = ("psnr", "ssim", "l1", "warp_l1", "mouth_lmd_px", "mouth_sharpness")


def metrics(out: str, store: str, references: int, samples: int) -> dict[str, float]:
    """Of the run's weights on its validation split."""
    run = read_run(out, "renderer")
    if run is None:
        raise SystemExit(f"There is no training run in {out}.")
    changed = {"store": store, "out": out, "snapshot": run.snapshot, "references": references, "validation_samples": samples}
    settings = check_settings(RendererTraining, {**run.settings, **changed})
    corpus, device = open_corpus(settings, None, one_process("cpu")), one_process("cpu").device
    footage = corpus.lessons.validation
    validation = RendererValidation(footage, FacePictures(corpus.store, footage, settings.cache, settings.picture_cache_mb), settings, device)
    return validation.measure(load_renderer(str(Path(out) / "renderer.safetensors"), device))


def main() -> None:
    """Prints a row a number of references."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("store")
    parser.add_argument("--references", type=int, nargs="+", default=[25, 10, 5, 3])
    parser.add_argument("--samples", type=int, default=48)
    options = parser.parse_args()
    print("| references | " + " | ".join(SHOWN) + " |\n|" + "---|" * (1 + len(SHOWN)))
    for references in options.references:
        found = metrics(options.out, options.store, references, options.samples)
        print(f"| {references} | " + " | ".join(f"{found[name]:.4g}" for name in SHOWN) + " |", flush=True)


if __name__ == "__main__":
    main()
