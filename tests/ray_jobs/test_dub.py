import json
from pathlib import Path

import pytest

from ray_jobs.dub import run
from schemas.settings import BulkDubSettings
from tasks.dubbing.results import read_results
from tasks.progress import silent
from tests.footage import make_speech, make_talking_clip
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
