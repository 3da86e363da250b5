"""Where the time of a dub goes, cold and with a kept template, and how much memory it takes by its length.

    python -m tests.bench.dubbing stages [--seconds 10 60] [--video-seconds 60] [--height 720] [--preset small] [--references 5] [--precision bf16]
    python -m tests.bench.dubbing memory [--minutes 1 5] [--height 360]

Drawn footage of a talking face, as long as its speech or as long as is said; networks with random weights. `stages`: seconds by stage of a dub that makes
the template and of one that finds it, in one process, after a short dub that nobody times: the first one pays for what libraries make once.
`memory`: the peak of a process that dubs, with tiny networks, for each length, and megabytes a minute between them.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from imageio_ffmpeg import get_ffmpeg_exe

from models import LandmarkGenerator, Renderer
from models.checkpoint import save_checkpoint
from models.landmark_generator import PRESETS as LANDMARK_GENERATOR_PRESETS
from models.renderer import PRESETS as RENDERER_PRESETS
from schemas.checkpoints import CheckpointHeader
from schemas.settings import CropSettings, DubSettings
from tasks.dubbing.dub import dub_video
from tasks.dubbing.generate import Networks
from tests.footage import make_speech, make_talking_clip
from tests.tasks.dubbing.random_networks import write_random_networks

DRAWN_S = 60.0
"""Seconds of footage that are drawn; longer videos repeat them."""
MEGABYTE = 1024
"""Kilobytes, which `ru_maxrss` counts."""


def footage(folder: Path, seconds: float, height: int, video_seconds: float | None = None) -> tuple[Path, Path]:
    """A video and a speech of one length, or a video of its own; the picture is 16 to 9."""
    size, long_s = (round(height * 16 / 9 / 2) * 2, height), video_seconds or seconds
    drawn = make_talking_clip(folder / f"drawn-{long_s:g}-{height}.mp4", min(long_s, DRAWN_S), size=size)
    video = folder / f"{long_s:g}-{height}.mp4"
    repeated = ["-stream_loop", "-1", "-i", drawn, "-t", f"{long_s:g}", "-c", "copy", video]
    subprocess.run([get_ffmpeg_exe(), "-v", "error", "-protocol_whitelist", "file", *repeated], check=True)
    return video, make_speech(folder / f"{seconds:g}.wav", seconds)


def random_networks(folder: Path, preset: str) -> DubSettings:
    """Checkpoints of a preset's size, random weights."""
    torch.manual_seed(0)
    landmark_generator, renderer = LandmarkGenerator(LANDMARK_GENERATOR_PRESETS[preset]), Renderer(RENDERER_PRESETS[preset])
    paths = {}
    for kind, network in (("landmark-generator", landmark_generator), ("renderer", renderer)):
        paths[kind.replace("-", "_")] = str(folder / f"{kind}.safetensors")
        save_checkpoint(paths[kind.replace("-", "_")], network, CheckpointHeader(kind=kind, architecture=network.size_settings, crop=CropSettings()))
    return DubSettings(**paths)


def stages(lengths_s: list[float], video_s: float | None, height: int, preset: str, references: int, precision: str) -> None:
    """Prints a row a length and template."""
    print("| speech, s | video, s | template | all, s | by stage |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = random_networks(folder, preset).replaced(references=references, precision=precision, templates=str(folder / "templates"))
        networks = Networks.load(settings)
        dub_video(*map(str, footage(folder, 1.5, height)), str(folder / "first.mp4"), settings, networks=networks)
        for length_s in lengths_s:
            video, speech = footage(folder, length_s, height, video_s)
            for template in ("cold", "warm"):
                start = time.perf_counter()
                summary = dub_video(str(video), str(speech), str(folder / "dub.mp4"), settings, networks=networks)
                by_stage = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in summary.seconds_by_stage.items())
                print(f"| {length_s:g} | {video_s or length_s:g} | {template} | {time.perf_counter() - start:.1f} | {by_stage} |", flush=True)


def memory(lengths_min: list[float], height: int) -> None:
    """Prints the peak of each length, and what a minute adds."""
    print("| minutes | peak, MB | MB a minute more |\n|---|---|---|")
    before: tuple[float, float] | None = None
    for minutes in lengths_min:
        command = [sys.executable, "-m", "tests.bench.dubbing", "one", str(minutes), "--height", str(height)]
        peak_mb = float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]))
        more = f"{(peak_mb - before[1]) / (minutes - before[0]):.2f}" if before else ""
        print(f"| {minutes:g} | {peak_mb:.0f} | {more} |", flush=True)
        before = minutes, peak_mb


def one(minutes: float, height: int) -> None:
    """Dubs footage that another process made, and prints this one's peak in megabytes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make = f"from pathlib import Path; from tests.bench.dubbing import footage; footage(Path({name!r}), {minutes * 60}, {height})"
        subprocess.run([sys.executable, "-c", make], check=True, capture_output=True)
        video, speech = folder / f"{minutes * 60:g}-{height}.mp4", folder / f"{minutes * 60:g}.wav"
        dub_video(str(video), str(speech), str(folder / "dub.mp4"), write_random_networks(folder).replaced(encoder_preset="veryfast", references=3))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MEGABYTE)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    of_stages, of_memory, of_one = (commands.add_parser(name) for name in ("stages", "memory", "one"))
    of_stages.add_argument("--seconds", type=float, nargs="+", default=[10.0, 60.0])
    of_stages.add_argument("--video-seconds", type=float, help="as long as the speech where it is not given")
    of_stages.add_argument("--preset", choices=RENDERER_PRESETS, default="small")
    of_stages.add_argument("--references", type=int, default=25)
    of_stages.add_argument("--precision", default="fp32")
    of_stages.add_argument("--height", type=int, default=720)
    of_memory.add_argument("--minutes", type=float, nargs="+", default=[1.0, 5.0])
    of_one.add_argument("minutes", type=float)
    for command in (of_memory, of_one):
        command.add_argument("--height", type=int, default=360)
    options = parser.parse_args()
    if options.command == "stages":
        stages(options.seconds, options.video_seconds, options.height, options.preset, options.references, options.precision)
    elif options.command == "memory":
        memory(options.minutes, options.height)
    else:
        one(options.minutes, options.height)


if __name__ == "__main__":
    main()
