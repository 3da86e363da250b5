"""What a dub costs on a machine where others want the cores too, with threads that spin while they wait and with ours, which sleep.

    python -m tests.bench.busy_machine [--seconds 2] [--turns 3]

Drawn footage, the small preset, 5 references; once alone on the machine and once beside as many processes that count as it has cores. The two ways take
turns. Prints medians: seconds of rendering.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.dubbing import footage, random_networks

WAYS = {"spin": "ACTIVE", "sleep": "PASSIVE"}
RENDER = """
import sys
from schemas.settings import DubSettings
from tasks.dubbing.dub import dub_video
video, speech, out, settings = sys.argv[1:]
print(dub_video(video, speech, out, DubSettings.model_validate_json(settings)).seconds_by_stage["render"])
"""


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    print(f"| {os.cpu_count()} cores | threads spin, s | threads sleep, s | times |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="dubmill-") as name:
        folder = Path(name)
        settings = random_networks(folder, "small").replaced(references=5)
        arguments = [*map(str, footage(folder, options.seconds, 360)), str(folder / "dub.mp4"), settings.model_dump_json()]
        for title, others in (("alone", 0), ("beside others", os.cpu_count() or 1)):
            with counting(others):
                seconds = [{way: rendering_s(arguments, policy) for way, policy in WAYS.items()} for _ in range(options.turns)]
            spin, sleep = (statistics.median(turn[way] for turn in seconds) for way in WAYS)
            print(f"| {title} | {spin:.1f} | {sleep:.1f} | {spin / sleep:.1f} |", flush=True)


def rendering_s(arguments: list[str], policy: str) -> float:
    """Seconds of the rendering in a process of its own."""
    environment = os.environ | {"OMP_WAIT_POLICY": policy}
    said = subprocess.run([sys.executable, "-c", RENDER, *arguments], env=environment, check=True, capture_output=True, text=True).stdout
    return float(said.splitlines()[-1])


@contextmanager
def counting(processes: int) -> Iterator[None]:
    """Processes that want a core each."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
