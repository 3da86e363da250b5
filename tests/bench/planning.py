"""Seconds and memory of planning: a simulated listing of a million sources, 1 % of them new, over a store on disk that knows the rest.

`python -m tests.bench.planning` prints a row a case: the first run that finds no index and makes it, and one that has it; with
`--empty-store` also a first ingest, to which all sources are new. The listing costs nothing here; a bucket takes a request for
each 1000 objects. Making the store is not measured. Each case is a process of its own, so that its peak of memory is its own.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.jobs import PlannedSource
from schemas.settings import IngestSettings
from schemas.tables import CLIPS, REJECTS
from tasks import places
from tasks.corpus import layout
from tasks.corpus.plan import plan_batch, plan_batches
from tasks.corpus.store import CorpusStore
from tasks.places import PlacedFile

BUCKET = "s3://footage/collected"
SOURCES = 1_000_000
NEW_SHARE = 0.01
WORKERS = 160
"""Forty nodes of four cores."""
SOURCE_BYTES = 1_500_000
FILES_A_FOLDER = 100


def listed(count: int) -> Iterator[PlacedFile]:
    """So many objects in the order of their names, with names and ETags as long as real ones."""
    for number in range(count):
        uri = f"{BUCKET}/speaker-{number // FILES_A_FOLDER:06d}/session-01/clip-{number:08d}.mp4"
        yield PlacedFile(uri, SOURCE_BYTES + number % 1000, f"{number:032x}")


def is_new(number: int, new_share: float) -> bool:
    """Whether a source came since the last run: new ones lie among the others, as those of a night do."""
    return int((number + 1) * new_share) > int(number * new_share)


def settings_of(store: Path) -> IngestSettings:
    """An ingest of the simulated bucket into a store on disk."""
    return IngestSettings(sources=(BUCKET,), store=str(store), layout="folder")


def make_store(store: Path, sources: int, new_share: float) -> None:
    """A store whose finished batches hold every source but the new ones; their tables are empty."""
    settings = settings_of(store)
    CorpusStore.create_or_open(str(store), settings.format)
    for folder in (layout.PLANS, *layout.TABLES):
        (store / folder).mkdir()
    empty = {folder: _parquet(schema) for folder, schema in ((layout.REJECTS, REJECTS), (layout.CLIPS, CLIPS))}
    known = (placed for number, placed in enumerate(listed(sources)) if not is_new(number, new_share))
    while group := list(islice(known, settings.batch_sources)):
        plan = plan_batch([_planned(placed) for placed in group], settings.format, settings.cutting)
        (store / layout.PLANS / f"{plan.batch}.json").write_text(plan.model_dump_json())
        for folder, content in empty.items():
            (store / folder / f"{plan.batch}.parquet").write_bytes(content)


def _planned(placed: PlacedFile) -> PlannedSource:
    return PlannedSource(uri=placed.path, size=placed.size, version=placed.version, speaker="session-01")


def _parquet(schema: pa.Schema) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    return bytes(sink.getvalue())


@contextmanager
def simulated_bucket(sources: int) -> Iterator[None]:
    """Within it every listing gives that many objects."""
    with patch.object(places, "list_objects", lambda location: listed(sources)):
        yield


def plan_here(store: Path, sources: int) -> dict[str, object]:
    """Plans once in this process and tells what came of it, how long it took and the peak of memory."""
    start, start_cpu = time.perf_counter(), time.process_time()
    with simulated_bucket(sources):
        plan = plan_batches(settings_of(store), lambda: WORKERS)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    peak_mb = peak_memory_mb()
    new = sum(batch.sources for batch in plan.batches)
    for batch in plan.batches:  # the next case finds the same work
        places.remove(layout.plan_location(str(store), batch.batch))
    counts = {"sources": plan.sources, "known": plan.known, "new": new, "batches": len(plan.batches)}
    return counts | {"seconds": round(seconds, 2), "cpu_seconds": round(cpu_seconds, 2), "peak_mb": round(peak_mb)}


def peak_memory_mb() -> float:
    """The most memory that this program has held; unlike getrusage without that of the process it was started from."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def measure(store: Path, sources: int) -> dict[str, object]:
    """`plan_here` in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.planning", "--sources", str(sources), "--plan-here", str(store)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Makes the store, measures each case and prints it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, default=SOURCES)
    parser.add_argument("--new-share", type=float, default=NEW_SHARE)
    parser.add_argument("--empty-store", action="store_true", help="measure a first ingest too")
    parser.add_argument("--plan-here", type=Path, help="plan once into this store and print what came of it")
    options = parser.parse_args()
    if options.plan_here:
        print(json.dumps(plan_here(options.plan_here, options.sources)))
        return
    with tempfile.TemporaryDirectory(prefix="planning-") as folder:
        make_store(Path(folder) / "store", options.sources, options.new_share)
        for case in ("no index yet", "with the index"):
            print(json.dumps({"case": case, **measure(Path(folder) / "store", options.sources)}), flush=True)
        if options.empty_store:
            print(json.dumps({"case": "empty store", **measure(Path(folder) / "empty", options.sources)}), flush=True)


if __name__ == "__main__":
    main()
