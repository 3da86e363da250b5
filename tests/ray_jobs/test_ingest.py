"""The job on a small Ray of its own: the same store as in one process."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ray_jobs import ingest
from schemas.errors import StoreError
from schemas.settings import IngestSettings, write_settings
from tasks.corpus.ingest import ingest_here
from tasks.corpus.store import CorpusStore
from tasks.corpus.verify import verify_store
from tasks.progress import silent
from tests.footage import make_talking_clip
from tests.ray_jobs import killing_sources

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("footage")
    for name, seed in (("anna/one", 0), ("anna/two", 1), ("bert", 2)):
        make_talking_clip(root / f"{name}.mp4", seconds=0.8, seed=seed)
    (root / "text.mp4").write_text("no video")
    return root


def settings_for(footage: Path, store: Path) -> IngestSettings:
    return IngestSettings(sources=(str(footage),), store=str(store), batch_sources=1, workers=2)


def files(store: Path) -> dict[str, bytes]:
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def test_a_job_process_makes_the_same_store_as_one_process(footage: Path, tmp_path: Path) -> None:
    here = ingest_here(settings_for(footage, tmp_path / "here"), silent)
    settings = tmp_path / "settings.yaml"
    write_settings(settings_for(footage, tmp_path / "spread"), str(settings))
    command = [sys.executable, "-m", "ray_jobs.ingest", "--settings", str(settings), "--result", str(tmp_path / "result.json")]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert "progress 4/4" in done.stdout
    assert files(tmp_path / "spread") == files(tmp_path / "here")
    summary = json.loads((tmp_path / "result.json").read_text())
    assert summary | {"store": ""} == json.loads(here.model_dump_json()) | {"store": ""}

    before = files(tmp_path / "spread")
    again = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "result.json").read_text())["batches"] == []
    assert files(tmp_path / "spread") == before


def test_an_error_in_a_worker_is_the_job_s_one_sentence(footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    actor = ingest.BatchActor(settings_for(footage, tmp_path).model_dump_json())
    (tmp_path / "plans").write_text("in the way")
    plan = ingest.plan_batches(settings_for(footage, tmp_path / "elsewhere")).batches[0]
    row = actor({"plan": plan.model_dump_json()})
    assert row["counts"] == ""
    assert row["error"].endswith(".")
    monkeypatch.setattr(ingest, "_written", lambda *arguments: iter([row]))
    with pytest.raises(StoreError, match="cannot be written"):
        ingest.run(settings_for(footage, tmp_path / "third"), silent)


def test_a_source_that_kills_its_worker_is_turned_away_alone(footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    for name in ("1 deadly", "3 moody"):
        (sources / f"{name}.mp4").write_text("no video")
    shutil.copy(footage / "bert.mp4", sources / "2 good.mp4")
    settings = settings_for(sources, tmp_path / "store").replaced(batch_sources=2)
    planned = [batch.batch for batch in ingest.plan_batches(settings).batches]
    for name in ("BatchActor", "batch_row", "survives"):
        monkeypatch.setattr(ingest, name if name == "BatchActor" else f"_{name}", getattr(killing_sources, name))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    told: list[tuple[int, int | None]] = []
    summary = ingest.run(settings, lambda done, total=None, note="": told.append((done, total)))

    store = CorpusStore.open(settings.store)
    assert summary.batches == tuple(store.batches()) == tuple(sorted(planned))
    assert told[-1] == (3, 3)
    kept = [Path(source).name for source in store.clips(["source"])["source"].to_pylist()]
    refused = {Path(row["source"]).name: (row["stage"], row["reason"], row["retryable"]) for row in store.rejects().to_pylist()}
    assert kept == ["2 good.mp4"]
    assert refused == {
        "1 deadly.mp4": ("worker", "worker-lost", True),
        "3 moody.mp4": ("worker", "worker-lost", True),
    }
    assert verify_store(settings.store, silent) == []
    assert len(ingest.plan_batches(settings).batches) == 2, "what was lost is tried again"
