import json
import os
from pathlib import Path

import pytest

from ray_jobs.dub import cores_a_worker, run, spread
from schemas.jobs import DubJob
from schemas.settings import BulkDubSettings
from tasks.dubbing.bulk import BulkPlan
from tasks.dubbing.results import read_results
from tasks.progress import silent
from tests.footage import make_speech, make_talking_clip
from tests.ray_jobs.exiting_worker import DEADLY, ExitingWorker
from tests.tasks.dubbing.random_networks import write_random_networks


def test_a_list_is_dubbed_on_ray_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = make_talking_clip(tmp_path / "clip.mp4", seconds=0.4)
    speech = make_speech(tmp_path / "speech.wav", seconds=0.3)
    jobs = [{"job_id": f"good-{number}", "video": str(clip), "speech": str(speech), "out": f"{number}.mp4"} for number in range(3)]
    jobs.append({"job_id": "missing", "video": "none.mp4", "speech": str(speech), "out": "none.mp4"})
    (tmp_path / "jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
    networks = write_random_networks(tmp_path / "networks")
    settings = BulkDubSettings(**networks.model_dump(), jobs=str(tmp_path / "jobs.jsonl"), out=str(tmp_path / "dubs"), workers=1)
    summary = run(settings, silent)
    assert (summary.jobs, summary.done, summary.failed) == (4, 3, {"missing": 1})
    rows = read_results(settings.out)
    assert [rows[f"good-{number}"]["frames"] for number in range(3)] == [8, 8, 8]
    assert all((tmp_path / "dubs" / f"{number}.mp4").is_file() for number in range(3))

    (tmp_path / "jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs[:3]))
    monkeypatch.setattr("ray_jobs.dub.connect", lambda: pytest.fail("a cluster was wanted for nothing"))
    again = run(settings, silent)
    assert (again.already_done, again.done, again.failed) == (3, 0, {})


@pytest.mark.soak
def test_a_job_that_kills_its_worker_is_alone_given_up(tmp_path: Path) -> None:
    names = ["first", "second", DEADLY, "third", "fourth", "fifth", "sixth", "seventh", "eighth"]
    jobs = tuple(DubJob(job_id=name, video="same.mp4", speech="s", out=f"{name}.mp4") for name in names)
    settings = BulkDubSettings(landmark_generator="none", renderer="none", jobs="jobs.csv", out=str(tmp_path), workers=1, device="cpu")
    versions = {"landmark_generator": "1" * 16, "renderer": "2" * 16}
    rows = list(spread(settings, BulkPlan(jobs, len(jobs), {}, versions), ExitingWorker))
    assert sorted(str(row["job_id"]) for row in rows) == sorted(names)
    assert {row["job_id"] for row in rows if row["status"] == "done"} == set(names) - {DEADLY}
    assert {row["detail"] for row in rows[:-1]} == {f"{os.cpu_count()} threads"}
    assert (rows[-1]["job_id"], rows[-1]["reason"], rows[-1]["renderer"]) == (DEADLY, "worker-lost", "2" * 16)


@pytest.mark.parametrize(
    ("nodes", "workers", "gpu_share", "cores"),
    [
        ([{"CPU": 8.0}], 1, 0.0, 8),
        ([{"CPU": 8.0}], 3, 0.0, 2),
        ([{"CPU": 8.0}, {"CPU": 8.0}], 1, 0.0, 8),  # a worker cannot lie on two nodes
        ([{"CPU": 8.0}, {"CPU": 8.0}], 3, 0.0, 4),
        ([{"CPU": 16.0}, {"CPU": 4.0}, {}], 2, 0.0, 8),
        ([{"CPU": 2.0}], 5, 0.0, 1),
        ([{"CPU": 64.0}, {"CPU": 8.0, "GPU": 2.0}], 2, 1.0, 4),  # the large node has no GPU
        ([{"CPU": 12.0, "GPU": 1.0}], 3, 1 / 3, 4),
    ],
)
def test_workers_share_the_cores_of_nodes(nodes: list[dict[str, float]], workers: int, gpu_share: float, cores: int) -> None:
    assert cores_a_worker(nodes, workers, gpu_share) == cores
