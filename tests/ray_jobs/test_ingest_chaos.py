"""Ingest jobs whose processes are killed: after the last resume the store holds what it would hold had nobody been killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from schemas.settings import IngestSettings, write_settings
from tasks.corpus.ingest import ingest_here
from tasks.corpus.store import CorpusStore
from tasks.corpus.verify import verify_store
from tasks.progress import silent
from tests.footage import make_talking_clip

REPOSITORY = Path(__file__).parents[2]
CLIPS = 4
MOST_RUNS = 4
"""One is killed, one does the rest; a raylet that dies may take a second one with it on a busy machine."""
RUN_LIMIT_S = 240.0
PLACE_COLUMNS = ("batch", "faces_shard", "faces_offset")
"""Where a clip lies; which batch holds it may differ after a resume."""
SOAK_ROUNDS = 20


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("footage")
    for seed in range(CLIPS):
        make_talking_clip(root / f"speaker {seed % 2}" / f"{seed}.mp4", seconds=0.6, seed=seed)
    (root / "text.mp4").write_text("no video")
    return root


@pytest.fixture(scope="module")
def undisturbed(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    ingest_here(settings_for(footage, store), silent)
    return content(store)


def settings_for(footage: Path, store: Path) -> IngestSettings:
    return IngestSettings(sources=(str(footage),), store=str(store), batch_sources=2, workers=2)


def content(location: Path) -> dict[str, Any]:
    """All that a store holds, by clip_id: rows, landmarks, sound, coded pictures; and what it turned away."""
    store = CorpusStore.open(str(location))
    rows = {row["clip_id"]: row for row in store.clips().to_pylist()}
    arrays = {clip.clip_id: clip for clip in store.read_clips((row["batch"], row["clip_id"]) for row in rows.values())}
    held: dict[str, Any] = {}
    for clip_id, clip in arrays.items():
        pictures = [store.face_picture_bytes(clip.faces_shard, offset, size) for offset, size in zip(clip.faces_offset, clip.faces_size, strict=True)]
        row = {name: value for name, value in rows[clip_id].items() if name not in PLACE_COLUMNS}
        held[clip_id] = (row, clip.mel.tobytes(), clip.pose.tobytes(), clip.content.tobytes(), clip.boxes.tobytes(), pictures)
    return held | {"rejects": sorted((row["source"], row["reason"]) for row in store.rejects().to_pylist())}


@contextmanager
def job(settings: IngestSettings, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """An ingest job with a Ray of its own, in a session of its own; what is left of it afterwards is ended."""
    write_settings(settings, str(folder / "settings.yaml"))
    command = [
        sys.executable,
        "-m",
        "ray_jobs.ingest",
        "--settings",
        str(folder / "settings.yaml"),
        "--result",
        str(folder / f"result-{time.monotonic_ns()}.json"),
    ]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with (folder / "log.txt").open("a") as log:
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=log, stderr=log, text=True, start_new_session=True)
        try:
            yield process
        finally:
            for left in reversed(session_of(process.pid)):
                kill(left)
            process.wait()


def session_of(leader: int) -> list[int]:
    """The processes of a session, all of which a job started."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                session = int((folder / "stat").read_text().rpartition(")")[2].split()[3])
            except OSError:
                continue  # it has just ended
            if session == leader:
                found.append(int(folder.name))
    return found


def kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def name_of(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def is_raylet(name: str) -> bool:
    return name.partition(" ")[0].endswith("/raylet")


def is_worker(name: str) -> bool:
    return name.startswith("ray::BatchActor")


VICTIMS: dict[str, Callable[[str], bool]] = {"worker": is_worker, "raylet": is_raylet, "driver": lambda name: "ray_jobs.ingest" in name}


def kill_one(running: subprocess.Popen[str], kind: str, chance: random.Random, within_s: float) -> bool:
    """Kills a process of that kind at a random moment after its like have come up; False: the job was done before."""
    deadline_s = time.monotonic() + RUN_LIMIT_S
    while not any(is_worker(name_of(process)) for process in session_of(running.pid)):
        if running.poll() is not None or time.monotonic() > deadline_s:
            return False
        time.sleep(0.05)
    time.sleep(chance.uniform(0, within_s))
    victims = [process for process in session_of(running.pid) if VICTIMS[kind](name_of(process))]
    if not victims or running.poll() is not None:
        return False
    kill(chance.choice(sorted(victims)))
    return True


def disturbed_and_resumed(settings: IngestSettings, folder: Path, kinds: tuple[str, ...], seed: int, within_s: float) -> tuple[list[bool], int]:
    """Whether each was killed in the first run, one after the other, and how many runs it took until one ended well."""
    chance, killed = random.Random(seed), []
    for run in range(1, MOST_RUNS + 1):
        with job(settings, folder) as running:
            if run == 1:
                killed = [kill_one(running, kind, chance, within_s) for kind in kinds]
            try:
                if running.wait(RUN_LIMIT_S) == 0:
                    return killed, run
            except subprocess.TimeoutExpired:
                continue
    pytest.fail(f"no run ended well: {(folder / 'log.txt').read_text()[-3000:]}")


def check_disturbed(footage: Path, undisturbed: dict[str, Any], folder: Path, kinds: tuple[str, ...], seed: int, within_s: float) -> None:
    store = folder / "store"
    killed, runs = disturbed_and_resumed(settings_for(footage, store), folder, kinds, seed, within_s)
    print(f"{', '.join(kinds)} killed: {killed} (false: too late), {runs} runs")
    assert content(store) == undisturbed
    assert verify_store(str(store), silent) == []
    assert ingest_here(settings_for(footage, store), silent).batches == ()


@pytest.mark.timeout(1500)  # of a machine with every core at work
def test_killed_processes_cost_time_and_nothing_else(footage: Path, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    check_disturbed(footage, undisturbed, tmp_path, ("worker", "driver"), seed=1, within_s=1.0)


@pytest.mark.soak
def test_two_runs_at_once_make_the_store_of_one(footage: Path, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    store = tmp_path / "store"
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    settings = settings_for(footage, store).replaced(workers=1)
    with job(settings, tmp_path / "one") as first, job(settings, tmp_path / "two") as second:
        assert (first.wait(RUN_LIMIT_S), second.wait(RUN_LIMIT_S)) == (0, 0)
    assert content(store) == undisturbed
    assert verify_store(str(store), silent) == []
    summaries = [json.loads(path.read_text()) for path in tmp_path.glob("*/result-*.json")]
    written = [batch for summary in summaries for batch in summary["batches"]]
    assert sorted(written) == CorpusStore.open(str(store)).batches(), "each batch is written by exactly one of them"


@pytest.mark.soak
@pytest.mark.parametrize("number", range(SOAK_ROUNDS))
def test_kills_at_random_moments(footage: Path, undisturbed: dict[str, Any], tmp_path: Path, number: int) -> None:
    kind = ("worker", "raylet", "driver")[number % 3]
    check_disturbed(footage, undisturbed, tmp_path, (kind,), seed=100 + number, within_s=5.0)
