"""Two actors against one: how much more footage two cores ingest than one, start-up left out.

    python -m tests.bench.actors [--clips 24] [--seconds 4] [--json FILE]

Each actor keeps writing batches of the same footage until all are through; only the time from the first batch's begin to the last one's
end is counted, after each actor has written one batch to warm up. Nothing else should run on the machine: it wants two free cores.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import ray

from ray_jobs.cluster import connect
from ray_jobs.ingest import BatchActor, Row, row_of
from schemas.settings import IngestSettings
from tasks.corpus.ingest import plan_batches
from tests.footage import make_talking_clip

BATCH_SOURCES = 2
"""Small batches, so that neither of two actors waits long for the other at the end."""
DIFFERENT_CLIPS = 4


def main() -> None:
    """Prints seconds and frames a second with one actor and with two, and the ratio of the two."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="dubmill-bench-") as folder, connect():
        footage = _footage(Path(folder) / "footage", options.clips + 2 * BATCH_SOURCES, options.seconds)
        figures = {str(actors): _measured(footage, Path(folder) / f"store {actors}", actors) for actors in (1, 2)}
    figures["ratio"] = {"frames_per_second": figures["2"]["frames_per_second"] / figures["1"]["frames_per_second"]}
    print(json.dumps(figures, indent=2))
    if options.json:
        Path(options.json).write_text(json.dumps(figures))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--clips", type=int, default=24, help="sources that are timed")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each")
    parser.add_argument("--json", help="file for the figures")
    return parser.parse_args()


def _footage(folder: Path, clips: int, seconds: float) -> Path:
    """Clips of 512 x 512 pixels. Few are encoded, the others are copies of them, which are cut like any other source."""
    originals = [make_talking_clip(folder / f"{seed}.mp4", seconds, size=(512, 512), seed=seed).read_bytes() for seed in range(DIFFERENT_CLIPS)]
    for number in range(DIFFERENT_CLIPS, clips):
        (folder / f"{number}.mp4").write_bytes(originals[number % DIFFERENT_CLIPS])
    return folder


def _measured(footage: Path, store: Path, actors: int) -> dict[str, float]:
    settings = IngestSettings(sources=(str(footage),), store=str(store), batch_sources=BATCH_SOURCES)
    rows = [row_of(batch) for batch in plan_batches(settings).batches]
    pool = [ray.remote(num_cpus=1)(BatchActor).remote(settings.model_dump_json()) for _ in range(actors)]
    ray.get([actor.write.remote(row) for actor, row in zip(pool, rows, strict=False)])  # warm: networks loaded, numba compiled
    started_s = time.perf_counter()
    frames = _frames(pool, rows[actors:])
    elapsed_s = time.perf_counter() - started_s
    for actor in pool:
        ray.kill(actor)
    return {"seconds": elapsed_s, "frames": frames, "frames_per_second": frames / elapsed_s}


def _frames(pool: list[object], rows: list[Row]) -> int:
    """Writes the batches, one at a time an actor; gives the frames written."""
    idle, busy, frames = list(pool), {}, 0
    while rows or busy:
        while rows and idle:
            actor = idle.pop()
            busy[actor.write.remote(rows.pop())] = actor
        [finished], _ = ray.wait(list(busy))
        idle.append(busy.pop(finished))
        frames += json.loads(ray.get(finished)["counts"])["frames"]
    return frames


if __name__ == "__main__":
    main()
