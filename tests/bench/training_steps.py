"""Steps a second of both networks: plain float32 against the fast path, the arithmetic of a step, and how long it waits for input.

    python -m tests.bench.training_steps [--device auto] [--preset published] [--batch-size N] [--network landmark-generator] [--store STORE --snapshot NAME]

Plain is float32, contiguous, not compiled; the fast path is what helps on the device (see `fast_path`). Both take turns on the same batch, so
that both meet the same load; figures are medians. A step is all of it: losses, gradients, clipping, Adam. On a CPU the batches are smaller than
the published ones, and it says so. The floating point operations of a step are counted by torch, and set against a plain matrix product's.
On a GPU plain has torch's own defaults, which means TF32 in convolutions. Without a store drawn faces are trained on, read from a folder.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from models.renderer import PRESETS, Renderer
from schemas.settings import LandmarkGeneratorTraining, RendererTraining
from tasks.progress import silent
from tasks.training.batches import batches_ahead
from tasks.training.corpus import open_corpus
from tasks.training.landmark_generator import LandmarkGeneratorTrainer
from tasks.training.loop import TrainingRun
from tasks.training.renderer import RendererTrainer
from tasks.training.samples import to_device
from tasks.training.session import one_process
from tests.training_corpus import SNAPSHOT, make_training_corpus

AnyTraining = LandmarkGeneratorTraining | RendererTraining
PUBLISHED_BATCH = {"landmark-generator": 128, "renderer": 96}
CPU_BATCH = {"landmark-generator": 16, "renderer": 2}
TURNS = {"cuda": 30, "cpu": 5}
INPUT_STEPS = {"cuda": 60, "cpu": 8}
"""Steps over which waiting for input is measured."""
MATRIX = {"cuda": 8192, "cpu": 2048}
"""Side of the matrices whose product shows what the machine can do."""
REFERENCE_CHOICES = ((128, 3), (128, 25), (256, 3), (256, 5))
"""Side in pixels and references, of which the arithmetic of a dubbed frame is counted."""


@dataclass(frozen=True)
class Figures:
    """Of one network in one phase, plain and fast."""

    name: str
    batch_size: int
    plain_s: float
    fast_s: float
    first_fast_s: float
    """The first step of the fast path, in which it is compiled."""
    step_flop: int
    waiting_share: float


def fast_path(settings: AnyTraining, device: torch.device) -> AnyTraining:
    """What helps: on GPUs half precision, channels last and compiling; on CPUs, whose memory is never laid out so, bfloat16 alone."""
    if device.type == "cuda":
        return settings.replaced(precision="auto", channels_last=True, compile=True)
    return settings.replaced(precision="bf16", compile=False)


def main() -> None:
    """Prints the tables."""
    options = _options()
    device = one_process(options.device).device
    peaks = {dtype: _peak_flops(device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    print(f"{_machine(device)}; a matrix product makes {peaks[torch.float32] / 1e12:.3g} TFLOP/s in float32, {peaks[torch.bfloat16] / 1e12:.3g} in bfloat16")
    print("| network | batch | plain, steps/s | fast, steps/s | times | first fast step, s | TFLOP a step | of the peak, plain | fast | waits for input |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for settings in _wanted(options, device, Path(folder)):
            _print_figures(_figures(settings, device), peaks)
    _print_reference_costs()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--preset", default="published", choices=("published", "small"))
    parser.add_argument("--batch-size", type=int, help="default: the published one on GPUs, a smaller one on CPUs")
    parser.add_argument("--network", action="append", choices=("landmark-generator", "renderer"), help="default: both")
    parser.add_argument("--store", help="corpus store; default: drawn faces")
    parser.add_argument("--snapshot", help="of that store")
    return parser.parse_args()


def _wanted(options: argparse.Namespace, device: torch.device, folder: Path) -> Iterator[AnyTraining]:
    """The landmark generator, and the renderer in both of its phases."""
    kinds = options.network or ["landmark-generator", "renderer"]
    sizes = PUBLISHED_BATCH if device.type == "cuda" else CPU_BATCH
    sizes = {kind: options.batch_size or sizes[kind] for kind in kinds}
    store = options.store or make_training_corpus(folder / "corpus", {"train": [30] * max(sizes.values()), "val": [30]}).uri
    common = {"store": store, "snapshot": options.snapshot or (None if options.store else SNAPSHOT), "preset": options.preset, "device": device.type}
    for kind in kinds:
        if sizes[kind] < PUBLISHED_BATCH[kind]:
            print(f"| ({kind}: batches of {sizes[kind]}, not the published {PUBLISHED_BATCH[kind]}) | | | | | | | | | |")
        if kind == "landmark-generator":
            yield LandmarkGeneratorTraining(**common, batch_size=sizes[kind], out=str(folder / kind))
            continue
        for warm_up in (1, 0):
            yield RendererTraining(**common, batch_size=sizes[kind], out=str(folder / f"{kind}-{warm_up}"), warm_up_steps=warm_up)


def _figures(settings: AnyTraining, device: torch.device) -> Figures:
    plain = _run_of(settings.replaced(precision="fp32", channels_last=False, compile=False))
    fast = _run_of(fast_path(settings, device))
    batch = to_device(plain._batch(0), device)
    with FlopCounterMode(display=False) as counter:  # the first step of each warms up
        plain._learn(batch)
    first_fast_s = _timed_s(fast._learn, batch)
    times = [(_timed_s(plain._learn, batch), _timed_s(fast._learn, batch)) for _ in range(TURNS[device.type])]
    plain_s, fast_s = (statistics.median(of) for of in zip(*times, strict=True))
    waiting = _waiting_share(fast, INPUT_STEPS[device.type])
    return Figures(_name(settings), plain.batch_size, plain_s, fast_s, first_fast_s, counter.get_total_flops(), waiting)


def _run_of(settings: AnyTraining) -> TrainingRun[Any]:
    """A run as the command line would make it, at its first step."""
    session = one_process(settings.device)
    corpus = open_corpus(settings, None, session)
    trainer = RendererTrainer if isinstance(settings, RendererTraining) else LandmarkGeneratorTrainer
    return TrainingRun(trainer(settings, corpus, session.device), settings, corpus, session, silent)


def _name(settings: AnyTraining) -> str:
    if isinstance(settings, LandmarkGeneratorTraining):
        return f"landmark generator, {settings.references} references"
    return f"renderer, {settings.references} references, {'the warp alone' if settings.warm_up_steps else 'all losses'}"


def _waiting_share(run: TrainingRun[Any], steps: int) -> float:
    """The share of the time in which a batch was waited for, once the first is there."""
    with batches_ahead(run._batch, range(steps + 1), run.settings.batches_ahead) as batches:
        run._learn(to_device(next(batches), run.session.device))
        began_s, waited_s = time.perf_counter(), batches.waited_s
        for batch in batches:
            run._learn(to_device(batch, run.session.device))
        return (batches.waited_s - waited_s) / (time.perf_counter() - began_s)


def _timed_s(learn: Callable[[Any], object], batch: Any) -> float:
    """Seconds of a step. It reads its losses before the optimiser's step, for which a GPU is waited for too: else the other way's next step would."""
    began_s = time.perf_counter()
    learn(batch)
    if batch[0].is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - began_s


def _peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Floating point operations a second of a large matrix product."""
    side = MATRIX[device.type]
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    times = []
    for _ in range(10):
        began_s = time.perf_counter()
        (matrix @ matrix)[0, 0].item()
        times.append(time.perf_counter() - began_s)
    return 2 * side**3 / statistics.median(times)


def _print_figures(figures: Figures, peaks: dict[torch.dtype, float]) -> None:
    plain, fast = (figures.step_flop / seconds for seconds in (figures.plain_s, figures.fast_s))
    print(
        f"| {figures.name} | {figures.batch_size} | {1 / figures.plain_s:.3g} | {1 / figures.fast_s:.3g} | {figures.plain_s / figures.fast_s:.2f} "
        f"| {figures.first_fast_s:.1f} | {figures.step_flop / 1e12:.3g} | {plain / peaks[torch.float32]:.0%} | {fast / peaks[torch.bfloat16]:.0%} "
        f"| {figures.waiting_share:.1%} |",
        flush=True,
    )


def _print_reference_costs() -> None:
    """What a face costs by size and number of references; counted without computing anything."""
    print("\n| renderer, one face | references | GFLOP a frame, references known | GFLOP to know the references | GFLOP in all |\n|---|---|---|---|---|")
    for size, references in REFERENCE_CHOICES:
        frame, known = (flop / 1e9 for flop in _face_flop(size, references))
        print(f"| {size} px | {references} | {frame:.1f} | {known:.1f} | {frame + known:.1f} |")


def _face_flop(size: int, references: int) -> tuple[int, int]:
    """Of a frame whose references are known, as in dubbing, and of encoding these references, once a video."""
    with torch.device("meta"), torch.no_grad():
        network = Renderer(PRESETS["published"].replaced(size=size)).eval()
        face, pictures, sketches = torch.zeros(1, 3, size, size), torch.zeros(1, references, 3, size, size), torch.zeros(1, 5, 3, size, size)
        with FlopCounterMode(display=False) as encoding:
            known = network.encode_references(pictures, pictures)
        with FlopCounterMode(display=False) as rendering:
            network.translate(face, sketches, network.warp(known, sketches), torch.zeros(1, 1, 80, 16))
    return int(rendering.get_total_flops()), int(encoding.get_total_flops())


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"


if __name__ == "__main__":
    main()
