"""Frames a second of both networks at dubbing: the plain forward against `tasks.dubbing.generate`'s forms, in the same run and taking turns.

    python -m tests.bench.generation [--device auto] [--preset published] [--size 128] [--references 25] [--compile] [--turns 3] [--threads N]

The plain forward computes as the original does: one frame at a time, for each reference anew all that its warp takes (encoding it, and what the
sketches ask of the flow module), and a window of five mel windows and poses with all of its references for each frame's landmarks. Weights are
random, with flows of several pixels. Figures are medians of wall-clock time; beside them, on a CPU, the processor time of a frame, which others
on the machine do not touch as much (with several threads it holds their waiting for each other: give --threads 1). Floating point operations are
counted by torch, and set against a plain matrix product's. On a GPU the plain forward has torch's own defaults, which means TF32 in convolutions.
"""

import argparse
import functools
import math
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from models import landmark_generator, renderer
from models.fast_landmark_generator import FastLandmarkGenerator
from models.fast_renderer import FastRenderer, Room
from models.landmark_generator import LandmarkGenerator
from models.renderer import WEIGHT_FLOOR, Renderer, WarpedReferences, at_half_size, half_grid, sample, sampling_grid
from tasks.dubbing.generate import MEMORY_SHARE, PRECISIONS, free_memory_bytes

AnyNetwork = TypeVar("AnyNetwork", LandmarkGenerator, Renderer)

LANDMARK_REFERENCES = 15
WINDOWS = 64
"""Frames whose landmarks are generated in a turn of ours, as `tasks.dubbing.generate` does at once."""
PLAIN_WINDOWS = 4
"""Of the plain forward: it takes each for itself."""
LINE_SHARE = 0.95
"""Sketches are drawn as noise: a few lit pixels."""
MATRIX = {"cuda": 8192, "cpu": 2048}
"""Side of the matrices whose product shows what the machine can do."""
GPU_FRAMES = 64
"""Frames of a turn of ours on a GPU, where a frame takes milliseconds; on a CPU it is as many as are computed at once."""


@dataclass(frozen=True)
class Contender:
    """One way to compute frames."""

    name: str
    work: Callable[[], Tensor]
    frames: int
    """That one call of `work` computes."""
    dtype: torch.dtype


@dataclass(frozen=True)
class Cost:
    """Of a frame."""

    wall_s: float
    processor_s: float
    flop: float


@torch.inference_mode()
def main() -> None:
    """Prints a table a network."""
    options = _options()
    device = torch.device(options.device)
    torch.manual_seed(0)
    # Of what is asked for alone: on a processor without bfloat16 its product takes minutes.
    peaks = {dtype: _peak_flops(device, dtype) for dtype in {torch.float32, *(PRECISIONS[name] for name in options.precision)}}
    rates = ", ".join(f"{peak / 1e12:.3g} TFLOP/s in {str(dtype).removeprefix('torch.')}" for dtype, peak in peaks.items())
    print(f"{_machine(device)}; a matrix product makes {rates}")
    if "landmark-generator" in options.network:
        _compare(f"landmark generator, {LANDMARK_REFERENCES} references", _landmark_contenders(options, device), options, peaks)
    if "renderer" in options.network:
        _compare(f"renderer, {options.size} px, {options.references} references", _renderer_contenders(options, device), options, peaks)
    if device.type == "cuda":
        print(f"\nMemory at most: {torch.cuda.max_memory_allocated(device) / 2**20:.0f} MiB")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--preset", default="published", choices=("published", "small"))
    parser.add_argument("--size", default=128, type=int, choices=(128, 256))
    parser.add_argument("--references", default=25, type=int)
    parser.add_argument("--network", nargs="+", default=["landmark-generator", "renderer"], choices=("landmark-generator", "renderer"))
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"], choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--compile", action="store_true", help="ours only")
    parser.add_argument("--turns", default=3, type=int)
    parser.add_argument("--threads", type=int, help="of a CPU; default: all")
    parser.add_argument("--profile", action="store_true", help="where ours spends its time, operation by operation")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    return options


def _compare(name: str, contenders: list[Contender], options: argparse.Namespace, peaks: dict[torch.dtype, float]) -> None:
    """Each in its turn, as often as asked for; what each gives is held against what the first, plain one gives."""
    print(f"\n| {name} | frames/s | times | processor s a frame | times | GFLOP a frame | of the peak | max difference | PSNR, dB |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    given = [_first(contender, contenders[0].frames) for contender in contenders]
    flops = [_counted_flop(contender) for contender in contenders]
    turns = [[_timed(contender) for contender in contenders] for _ in range(options.turns)]
    costs = [Cost(*(statistics.median(of) for of in zip(*(turn[i] for turn in turns), strict=True)), flop) for i, flop in enumerate(flops)]
    for contender, cost, pictures in zip(contenders, costs, given, strict=True):
        _print_row(contender, cost, costs[0], peaks, (pictures - given[0]) if contender is not contenders[0] else None)
    if options.profile:
        for contender in contenders[1:]:
            _print_profile(contender)


def _print_row(contender: Contender, cost: Cost, plain: Cost, peaks: dict[torch.dtype, float], difference: Tensor | None) -> None:
    peak = peaks[contender.dtype]
    closeness = " | " if difference is None else f"{difference.abs().max():.1e} | {_psnr_db(difference):.1f}"
    print(
        f"| {contender.name} | {1 / cost.wall_s:.4g} | {plain.wall_s / cost.wall_s:.2f} | {cost.processor_s:.4g} | {plain.processor_s / cost.processor_s:.2f} "
        f"| {cost.flop / 1e9:.4g} | {cost.flop / cost.wall_s / peak:.0%} | {closeness} |",
        flush=True,
    )


def _renderer_contenders(options: argparse.Namespace, device: torch.device) -> list[Contender]:
    network = _like_a_trained(Renderer(renderer.PRESETS[options.preset].replaced(size=options.size))).to(device)
    faces, sketches = _pictures(device, options.size, options.references), _sketches(device, options.size, options.references)
    frames = GPU_FRAMES if device.type == "cuda" else 1
    target, shown, mel = _pictures(device, options.size, 1), _sketches(device, options.size, 5)[None], torch.randn(1, 1, 80, 16, device=device)
    contenders = [Contender("plain, float32", lambda: plain_face(network, target, shown, faces, sketches, mel), 1, torch.float32)]
    for precision in options.precision:
        fast = FastRenderer.of(network, PRECISIONS[precision])
        if options.compile:
            fast.compile(dynamic=False)
        work = _in_batches(fast, _repeated(frames, target, shown, mel), (faces, sketches))
        contenders.append(Contender(f"ours, {precision}", work, frames, fast.dtype))
    return contenders


def _in_batches(fast: FastRenderer, inputs: tuple[Tensor, ...], references: tuple[Tensor, Tensor]) -> Callable[[], Tensor]:
    """The frames as `Generator.render` computes them, references known."""
    known = fast.encode_references(*references)
    free_bytes = free_memory_bytes(references[0].device)
    room = Room.within(MEMORY_SHARE * free_bytes, fast, references[0].shape[2], len(known))

    def work() -> Tensor:
        batches = zip(*(torch.split(values, room.frames) for values in inputs), strict=True)
        return torch.cat([fast.translate(face, shown, fast.warp(known, shown, room.references), mel) for face, shown, mel in batches])

    return work


def plain_face(network: Renderer, face: Tensor, sketches: Tensor, reference_faces: Tensor, reference_sketches: Tensor, mel: Tensor) -> Tensor:
    """One face, everything computed for each reference anew: (1, 3, S, S), from references (N, 3, S, S)."""
    warped, weights = [], []
    for reference, lines in zip(reference_faces, reference_sketches, strict=True):
        fine, coarse = network.flow.reference_encoder(torch.cat([reference, lines])[None])
        flow, weight = network.flow(coarse, network.flow.modulations(sketches.flatten(1, 2)))
        grid = sampling_grid(flow)
        warped.append((weight * sample(reference[None], grid), weight * sample(fine, grid), at_half_size(weight) * sample(coarse, half_grid(grid))))
        weights.append(weight)
    total = torch.stack(weights).sum(0) + WEIGHT_FLOOR
    faces, fines, coarses = (torch.stack(of).sum(0) for of in zip(*warped, strict=True))
    return network.translate(face, sketches, WarpedReferences(faces / total, fines / total, coarses / at_half_size(total)), mel)


def _landmark_contenders(options: argparse.Namespace, device: torch.device) -> list[Contender]:
    network = _like_a_trained(LandmarkGenerator(landmark_generator.PRESETS[options.preset])).to(device)
    mels, pose = torch.randn(WINDOWS + 4, 1, 80, 16, device=device), torch.rand(WINDOWS + 4, 2, 74, device=device)
    references = torch.rand(LANDMARK_REFERENCES, 2, 74, device=device), torch.rand(LANDMARK_REFERENCES, 2, 57, device=device)
    windows = torch.arange(WINDOWS, device=device)[:, None] + torch.arange(5, device=device)

    def plain() -> Tensor:
        """Each window by itself, all of it, the references too; the middle frame is kept."""
        return torch.cat([network(mels[w][None], pose[w][None], *(r[None] for r in references))[:, 2] for w in windows[:PLAIN_WINDOWS]])

    def ours(fast: FastLandmarkGenerator) -> Tensor:
        """What two neighbouring runs share, their references, is computed each time; each end's four steps too."""
        return fast(fast.encode_audio(mels)[windows], fast.encode_pose(pose)[windows], fast.encode_references(*references))

    contenders = [Contender("plain, float32", plain, PLAIN_WINDOWS, torch.float32)]
    for precision in options.precision:
        fast = FastLandmarkGenerator.of(network, PRECISIONS[precision])
        contenders.append(Contender(f"ours, {precision}", functools.partial(ours, fast), WINDOWS, fast.dtype))
    return contenders


def _like_a_trained(network: AnyNetwork) -> AnyNetwork:
    """Batch statistics that are not the first ones, and flows of several pixels: random weights would move nothing."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    if isinstance(network, Renderer):
        network.flow.flow_head.weight.mul_(10)
    return network.eval()


def _pictures(device: torch.device, size_px: int, count: int) -> Tensor:
    """Smooth pictures (count, 3, S, S) in 0..1."""
    rough = torch.rand(count, 3, 8, 8, device=device)
    return nn.functional.interpolate(rough, size=(size_px, size_px), mode="bicubic").clamp(0, 1)


def _sketches(device: torch.device, size_px: int, count: int) -> Tensor:
    return (torch.rand(count, 3, size_px, size_px, device=device) > LINE_SHARE).float()


def _repeated(frames: int, *values: Tensor) -> tuple[Tensor, ...]:
    return tuple(value.repeat(frames, *(1 for _ in value.shape[1:])) for value in values)


def _exactly(contender: Contender) -> AbstractContextManager[object]:
    """float32 of ours as `Generator` computes it on a GPU: without TF32."""
    if torch.cuda.is_available() and contender.dtype is torch.float32:
        return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    return nullcontext()


def _counted_flop(contender: Contender) -> float:
    """Of a frame; attention is counted only where torch does not fuse a whole layer."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False) as counter:
            contender.work()
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return counter.get_total_flops() / contender.frames


def _timed(contender: Contender) -> tuple[float, float]:
    """Seconds of wall-clock and of processor time a frame."""
    with nullcontext() if contender.name.startswith("plain") else _exactly(contender):
        began_s, processor_s = time.perf_counter(), time.process_time()
        if contender.work().is_cuda:
            torch.cuda.synchronize()
        return (time.perf_counter() - began_s) / contender.frames, (time.process_time() - processor_s) / contender.frames


def _first(contender: Contender, frames: int) -> Tensor:
    """What a contender gives, exactly where it is float32: the first frames. The first call warms up, and compiles."""
    with _exactly(contender):
        return contender.work()[:frames].float().cpu()


def _peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Floating point operations a second of a large matrix product."""
    side = MATRIX[device.type]
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    times = []
    for _ in range(5):
        began_s = time.perf_counter()
        (matrix @ matrix)[0, 0].item()
        times.append(time.perf_counter() - began_s)
    return 2 * side**3 / statistics.median(times)


def _psnr_db(difference: Tensor) -> float:
    """Of values whose peak is 1."""
    return -10 * math.log10(max(difference.square().mean().item(), 1e-30))


def _print_profile(contender: Contender) -> None:
    """Time by operation, the longest first."""
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])
    with profile(activities=activities) as recorded:
        contender.work()
    column = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    print(f"\n{contender.name}, {contender.frames} frames\n{recorded.key_averages().table(sort_by=column, row_limit=16, max_name_column_width=40)}")


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"


if __name__ == "__main__":
    main()
