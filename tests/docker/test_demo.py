"""The demo's whole path with a tiny budget: real footage made, real Ray jobs, real Airflow DAG runs, a real dub and its page."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from models.checkpoint import read_header
from tasks.corpus.store import CorpusStore
from tasks.media.probe import probe

DEMO = Path(__file__).parents[2] / "docker" / "local" / "demo.py"
LIMIT_S = 900
DAGS = ["bulk_dubbing", "ingest_corpus", "train_landmark_generator", "train_renderer"]

pytestmark = [
    pytest.mark.timeout(LIMIT_S),
    pytest.mark.skipif(not (DEMO.parents[2] / ".venv-airflow" / "bin" / "airflow").exists(), reason="needs the control environment beside the data one"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the demo says it made, with its lines under `lines`."""
    out = tmp_path_factory.mktemp("demo") / "with a space"
    done = subprocess.run([sys.executable, DEMO, "--out", out, "--budget", "tiny", "--json"], capture_output=True, text=True, timeout=LIMIT_S - 30)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    return {**json.loads(lines[-1]), "lines": lines[:-1]}


def test_all_four_dag_runs_succeeded_in_airflows_database(made: dict[str, Any]) -> None:
    database = Path(made["folder"]) / "airflow" / "airflow.db"
    with closing(sqlite3.connect(database)) as connection:
        runs = connection.execute("SELECT dag_id, state FROM dag_run ORDER BY dag_id").fetchall()
        events = connection.execute("SELECT a.name, e.extra FROM asset_event e JOIN asset a ON a.id = e.asset_id ORDER BY a.name").fetchall()
    assert runs == [(dag_id, "success") for dag_id in DAGS]
    assert [name for name, _ in events] == ["corpus", "dubs", "landmark-generator", "renderer"]
    assert json.loads(events[0][1])["clips"] >= 2
    assert json.loads(events[1][1])["done"] == 1


def test_there_are_a_corpus_and_two_checkpoints(made: dict[str, Any]) -> None:
    assert CorpusStore.open(made["corpus"]).clips().num_rows >= 2
    assert read_header(made["landmark_generator"]).kind == "landmark-generator"
    assert read_header(made["renderer"]).kind == "renderer"


def test_what_dubs_is_what_was_published_with_a_card_that_names_its_sources(made: dict[str, Any]) -> None:
    for kind in ("landmark_generator", "renderer"):
        weights = Path(made[kind])
        assert json.loads((weights.parents[1] / "current.json").read_text())["version"] == weights.parent.name
        assert f"{made['folder']}/footage" in (weights.parent / "README.md").read_text()
        assert weights.stem.replace("-", "_") == kind


def test_the_dub_is_as_long_as_the_speech(made: dict[str, Any]) -> None:
    dub, speech = probe(made["dubbed_video"]), probe(Path(made["folder"]) / "speech.wav")
    assert dub.has_video
    assert dub.has_audio
    assert (dub.video_codec, dub.audio_codec) == ("h264", "aac")
    assert dub.duration_s is not None
    assert speech.duration_s is not None
    assert abs(dub.duration_s - speech.duration_s) < 0.1


def test_the_page_is_one_file_with_the_videos_inside(made: dict[str, Any]) -> None:
    page = Path(made["page"]).read_text(encoding="utf-8")
    assert page.count("<video") >= 2
    assert "data:video/mp4;base64," in page
    assert 'src="http' not in page


def test_it_says_where_everything_is_and_how_long_each_stage_took(made: dict[str, Any]) -> None:
    stages = list(made["seconds_by_stage"])
    assert stages == ["footage", "start of Ray and Airflow", "ingest_corpus", "train_landmark_generator", "train_renderer", "bulk_dubbing", "page"]
    text = "\n".join(made["lines"])
    for name in ("page", "dubbed_video", "landmark_generator", "renderer", "corpus"):
        assert made[name] in text
        assert Path(made[name]).exists()


def test_nothing_goes_on_running_afterwards(made: dict[str, Any]) -> None:
    folder = made["folder"]
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        assert f"DUBMILL_SERVICES={folder}".encode() not in environment.split(b"\0")
