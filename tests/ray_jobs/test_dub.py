import contextlib
import json
import os
import shutil
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path

import av
import pyarrow.parquet as pq
import pytest
import ray
from ray.exceptions import OutOfMemoryError

from ray_jobs import dub
from ray_jobs.actors import Pool, cores_a_worker, outcome
from ray_jobs.cluster import connect
from ray_jobs.dub import DubActor, Workers, pool_for, run
from schemas.errors import DubmillError, StoreError
from schemas.jobs import DubJob
from schemas.settings import BulkDubSettings
from tasks.dubbing.results import Row, read_results
from tasks.dubbing.speech import read_speech
from tasks.dubbing.stamp import read_dub_stamp
from tasks.media.probe import probe
from tasks.progress import silent
from tests.footage import make_speech, make_talking_clip
from tests.ray_jobs.exiting_worker import DEADLY, HANGING, LATE, MUTE, ONCE, DyingActor, ExitingActor, GracefulActor, SayingActor
from tests.tasks.dubbing.random_networks import write_random_networks

VERSIONS = {"landmark_generator": "1" * 16, "renderer": "2" * 16}
REASONS = {"missing": "missing", "text": "not-media", "truncated": "damaged", "nobody": "no-face", "mute": "no-audio"}
"""What becomes of a job whose video, or in the case of the mute one whose speech, is of that kind."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray of this file's own, started once: no actors may be left from one test to the next."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with connect():
            yield


def saying_settings(out: Path, **changes: object) -> BulkDubSettings:
    values = {"landmark_generator": "none", "renderer": "none", "jobs": "jobs.csv", "out": str(out), "workers": 1, "device": "cpu"}
    return BulkDubSettings.model_validate(values | changes)


def said(settings: BulkDubSettings, names: list[str], actor: type[DubActor] = SayingActor) -> list[Row]:
    jobs = tuple(DubJob(job_id=name, video="same.mp4", speech="s", out=f"{name}.mp4") for name in names)
    with Workers(settings, VERSIONS, len(jobs), actor) as workers:
        return list(workers(jobs))


def begun(settings: BulkDubSettings) -> list[list[str]]:
    """job_id and process of each beginning of a job, in order."""
    return [line.split() for line in (Path(settings.out) / "begun").read_text().splitlines()]


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_dies_loses_its_job_alone_and_that_is_tried_once_more_at_the_end(tmp_path: Path) -> None:
    settings = saying_settings(tmp_path, workers=(os.cpu_count() or 1) + 1)  # one of which finds no room, and keeps nobody waiting
    pairs = 4 * (settings.workers or 1)  # a worker takes a pair, and what it has not begun when it dies is another's
    names = ["first", "second", DEADLY, HANGING, ONCE, "third", *map(str, range(2 * pairs - 6))]
    rows = {str(row["job_id"]): row for row in said(settings, names)}
    assert sorted(rows) == sorted(names)
    assert {name for name, row in rows.items() if row["status"] == "done"} == set(names) - {DEADLY, HANGING}
    assert (rows[DEADLY]["reason"], rows[DEADLY]["renderer"], rows[HANGING]["reason"]) == ("worker-lost", "2" * 16, "time-limit")
    order = [name for name, _ in begun(settings)]
    assert Counter(order) == Counter({name: 1 + (name in (DEADLY, ONCE)) for name in names})
    assert set(order[-2:]) == {DEADLY, ONCE}


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(("names", "started"), [(["first", HANGING], 1), (["first", DEADLY], 2)])
def test_a_worker_is_replaced_only_for_a_job_that_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], started: int) -> None:
    starts: list[Pool] = []
    start = Workers._start_actor
    monkeypatch.setattr(Workers, "_start_actor", lambda self, pool: starts.append(pool) or start(self, pool))
    assert len(said(saying_settings(tmp_path), names)) == len(names)
    assert len(starts) == started


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_dies_of_the_last_job_of_the_canary_is_replaced_for_the_rest(tmp_path: Path) -> None:
    canary, rest = (tuple(DubJob(job_id=name, video="same.mp4", speech="s", out=f"{name}.mp4") for name in names) for names in (["first", HANGING], ["second"]))
    with Workers(saying_settings(tmp_path), VERSIONS, 3, SayingActor) as workers:
        assert [row["status"] for jobs in (canary, rest) for row in workers(jobs)] == ["done", "failed", "done"]


@pytest.mark.usefixtures("cluster")
def test_what_hangs_is_told_from_what_dies_of_something_else_late_in_its_time(tmp_path: Path) -> None:
    rows = said(saying_settings(tmp_path), [LATE, HANGING, MUTE], GracefulActor)
    assert {row["job_id"]: row["reason"] for row in rows} == {LATE: "worker-lost", HANGING: "time-limit", MUTE: "time-limit"}


def test_a_worker_that_ray_ends_for_memory_has_not_hung_however_long_it_had_its_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def evict(_: object) -> None:
        raise OutOfMemoryError("the node ran low on memory")

    monkeypatch.setattr(ray, "get", evict)
    death = outcome("a reference")
    assert (death.preempted, death.evicted) == (False, True)

    monkeypatch.setattr(Workers, "_has_hung", lambda *_: True)
    monkeypatch.setattr(dub, "_kill", lambda _: None)
    job, lost = DubJob(job_id="a", video="v", speech="s", out="a.mp4"), []
    rows = list(Workers(saying_settings(tmp_path), VERSIONS, 1)._bury(dub._Worker("an actor"), job, death, deque(), lost))
    assert (rows, lost) == ([], [job])


@pytest.mark.usefixtures("cluster")
def test_workers_that_cannot_begin_end_the_run_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="Workers die before they begin a job"):
        said(saying_settings(tmp_path), ["a"], DyingActor)
    with pytest.raises(DubmillError, match=r"^There is no renderer\.$"):
        said(saying_settings(tmp_path, renderer="renderer"), ["a"])


def make_inputs(folder: Path) -> dict[str, dict[str, str]]:
    """Video and speech by kind of job."""
    clips = {seed: make_talking_clip(folder / f"clip-{seed}.mp4", seconds=0.24, size=(160, 160), seed=seed) for seed in range(3)}
    speech = make_speech(folder / "speech.wav", seconds=0.2)
    whole = clips[0].read_bytes()
    (folder / "truncated.mp4").write_bytes(whole[:600])
    (folder / "text.mp4").write_text("no video")
    make_talking_clip(folder / "nobody.mp4", seconds=0.2, size=(160, 160), hidden_frames=range(100))
    make_talking_clip(folder / "mute.mp4", seconds=0.2, size=(160, 160), sound=False)
    bad = {kind: {"video": str(folder / f"{kind}.mp4"), "speech": str(speech)} for kind in ("missing", "text", "truncated", "nobody")}
    good = {f"good-{seed}": {"video": str(clip), "speech": str(speech)} for seed, clip in clips.items()}
    return good | bad | {"mute": {"video": str(clips[0]), "speech": str(folder / "mute.mp4")}}


def write_list(folder: Path, count: int, bad: int) -> dict[str, str | None]:
    """Writes a job list; what is to become of each job: the reason why it fails, None for a good one."""
    inputs = make_inputs(folder)
    kinds = [list(REASONS)[number % len(REASONS)] for number in range(bad)]
    special = [f"{kind}-{number:03}" for number, kind in enumerate(kinds)] + [
        f"{DEADLY}-0",
        f"{DEADLY}-1",
        *(f"{ONCE}-{n}" for n in range(max(1, count // 50))),
    ]
    names = special + [f"good-{number:03}" for number in range(count - len(special))]
    rows = [
        {"job_id": name, "out": f"{name[-1]}/{name}.mp4", "priority": number % 2} | inputs.get(name.split("-")[0], inputs[f"good-{number % 3}"])
        for number, name in enumerate(names)
    ]
    (folder / "jobs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {name: "worker-lost" if DEADLY in name else REASONS.get(name.split("-")[0]) for name in names}


def rows_written(settings: BulkDubSettings) -> list[str]:
    """job_id of every row of every part, also of those that another row replaces."""
    parts = (Path(settings.out) / "results").iterdir()
    return [name for part in parts for name in pq.read_table(part, columns=["job_id"]).column("job_id").to_pylist()]


def played(path: Path) -> tuple[int, float | None, bool]:
    """What comes out of a file when all of it is decoded: frames, the seconds that they last, and whether there is sound to the end."""
    with av.open(str(path)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    duration_s = probe(path).duration_s
    return frames, duration_s, read_speech(path).duration_s >= (duration_s or 0)  # the last packet of AAC is a whole one


def is_alive(process: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, 0)
        return True
    return False


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(("count", "bad"), [(20, 5), pytest.param(200, 15, marks=pytest.mark.soak)])
def test_every_job_of_a_list_ends_as_it_should_and_nothing_is_done_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, bad: int) -> None:
    expected = write_list(tmp_path, count, bad)
    networks = write_random_networks(tmp_path / "networks").replaced(references=1, landmark_references=2)
    settings = BulkDubSettings(**networks.model_dump(), jobs=str(tmp_path / "jobs.jsonl"), out=str(tmp_path / "dubs"), workers=2, canary=max(14, count // 4))
    monkeypatch.setattr(dub, "DubActor", ExitingActor)
    summary = run(settings, silent)

    assert summary.failed == Counter(reason for reason in expected.values() if reason)
    assert (summary.jobs, summary.done) == (count, count - bad - 2)
    rows = read_results(settings.out)
    assert {name: row["reason"] for name, row in rows.items()} == expected
    beginnings = Counter(name for name, _ in begun(settings))
    killing = {name for name in expected if DEADLY in name or ONCE in name}
    assert beginnings == Counter({name: 1 + (name in killing) for name in expected})
    assert sorted(rows_written(settings)) == sorted(expected)
    first_processes = {name: int(process) for name, process in reversed(begun(settings)) if name in killing}
    assert len(set(first_processes.values())) == len(killing) == count // 50 + 2 + (count < 50), "each of them killed another worker"
    assert not any(map(is_alive, first_processes.values()))
    outputs = {path.name: path for path in Path(settings.out).rglob("*") if path.is_file() and path.parent.name != "results" and path.name != "begun"}
    assert set(outputs) == {f"{name}.mp4" for name, reason in expected.items() if reason is None}
    assert all(read_dub_stamp(str(path))["synthetic"] for path in outputs.values())
    assert {played(path) for path in outputs.values()} == {(5, 0.2, True)}
    assert {(row["frames"], row["duration_s"]) for row in rows.values() if row["status"] == "done"} == {(5, 0.2)}
    assert {str(row["output"]) for row in rows.values() if row["status"] == "done"} == set(map(str, outputs.values()))

    before = {path: path.stat().st_mtime_ns for path in outputs.values()}
    shutil.copy(tmp_path / "jobs.jsonl", tmp_path / "all.jsonl")
    good = [line for line in (tmp_path / "all.jsonl").read_text().splitlines() if expected[json.loads(line)["job_id"]] is None]
    (tmp_path / "jobs.jsonl").write_text("\n".join(good))
    monkeypatch.setattr(dub, "connect", lambda: pytest.fail("a cluster was wanted for nothing"))
    again = run(settings, silent)
    assert (again.already_done, again.done, again.failed) == (len(good), 0, {})
    assert {path: path.stat().st_mtime_ns for path in before} == before


CPU_NODE, GPU_NODE = {"CPU": 8.0}, {"CPU": 16.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("nodes", "workers", "gpus", "cores"),
    [
        ([{"CPU": 8.0}], 1, 0, 8),
        ([{"CPU": 8.0}], 3, 0, 2),
        ([{"CPU": 8.0}, {"CPU": 8.0}], 1, 0, 8),  # a worker cannot lie on two nodes
        ([{"CPU": 8.0}, {"CPU": 8.0}], 3, 0, 4),
        ([{"CPU": 16.0}, {"CPU": 4.0}, {}], 2, 0, 8),
        ([{"CPU": 2.0}], 5, 0, 1),
        ([{"CPU": 64.0}, {"CPU": 8.0, "GPU": 2.0}], 2, 1, 4),  # the large node has no GPU
        ([{"CPU": 16.0, "GPU": 2.0}], 9, 1, 8),  # seven wait for machines of that kind
        ([{"CPU": 16.0}], 2, 1, 1),  # no machine of that kind is there yet
        ([], 1, 0, 1),
    ],
)
def test_workers_share_the_cores_of_nodes(nodes: list[dict[str, float]], workers: int, gpus: int, cores: int) -> None:
    assert cores_a_worker(nodes, workers, gpus) == cores


@pytest.mark.parametrize(
    ("nodes", "asked", "address", "pool"),
    [
        ([CPU_NODE], {}, "", Pool(1, 8, 0)),
        ([CPU_NODE, GPU_NODE], {}, "", Pool(2, 8, 1)),
        ([CPU_NODE, GPU_NODE], {"device": "cpu", "workers": 3}, "", Pool(3, 8, 0)),
        ([CPU_NODE, GPU_NODE], {"workers": 6}, "", Pool(6, 8, 1)),
        ([CPU_NODE], {"device": "cuda", "workers": 6}, "cluster", Pool(6, 1, 1)),
        ([CPU_NODE], {"device": "cuda", "workers": 6}, "", Pool(6, 1, 0)),
        ([CPU_NODE], {"workers": 600}, "", Pool(50, 1, 0)),
    ],
)
def test_a_worker_has_a_gpu_of_its_own_and_more_of_them_let_the_cluster_grow(
    nodes: list[dict[str, float]], asked: dict[str, object], address: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    settings = saying_settings(Path("dubs")).model_dump() | {"workers": None, "device": "auto"} | asked
    assert pool_for(BulkDubSettings.model_validate(settings), nodes, 50) == pool
