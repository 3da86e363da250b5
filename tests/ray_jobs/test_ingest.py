"""The job on a small Ray of its own: the same store as in one process."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

from ray_jobs import ingest
from ray_jobs.actors import Death
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
    settings = settings_for(footage, tmp_path / "store")
    planned = ingest.plan_batches(settings).batches[0]
    (tmp_path / "store" / "landmarks").write_text("in the way")
    row = ingest.BatchActor(settings.model_dump_json()).write(ingest.row_of(planned))
    assert row["counts"] == ""
    assert row["error"].endswith(".")
    monkeypatch.setattr(ingest, "_written", lambda *arguments: iter([row]))
    with pytest.raises(StoreError, match="cannot be written"):
        ingest.run(settings_for(footage, tmp_path / "third"), silent)


def test_only_names_and_counts_pass_through_ray(footage: Path, tmp_path: Path) -> None:
    settings = settings_for(footage, tmp_path / "store")
    rows = [ingest.row_of(planned) for planned in ingest.plan_batches(settings).batches]
    assert {row["retry"] for row in rows} == {""}
    assert [row["sources"] for row in rows] == [1] * 4
    assert not any(str(footage) in str(row) for row in rows)


@pytest.fixture
def killing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources kill their workers by their names."""
    monkeypatch.setattr(ingest, "BatchActor", killing_sources.BatchActor)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def outcomes(store: CorpusStore) -> tuple[list[str], dict[str, tuple[str, str, bool]]]:
    """Names of the sources that were kept, and stage, reason and retryable of those that were not."""
    kept = [Path(source).name for source in store.clips(["source"])["source"].to_pylist()]
    return sorted(kept), {Path(row["source"]).name: (row["stage"], row["reason"], row["retryable"]) for row in store.rejects().to_pylist()}


@pytest.mark.usefixtures("killing")
def test_a_source_that_kills_two_workers_is_turned_away_alone(footage: Path, tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    for name, origin in (("1 text", "text"), ("2 deadly", "bert"), ("3 good", "anna/two"), ("4 once", "text")):
        shutil.copy(footage / f"{origin}.mp4", sources / f"{name}.mp4")
    settings = settings_for(sources, tmp_path / "store").replaced(batch_sources=4)
    told: list[tuple[int, int | None]] = []
    summary = ingest.run(settings, lambda done, total=None, note="": told.append((done, total)))

    store = CorpusStore.open(settings.store)
    assert told[-1] == (4, 4)
    assert summary.batches == tuple(store.batches())
    assert len(summary.batches) == 1
    lost, text = ("worker", "worker-lost", True), ("probe", "not-media", False)
    assert outcomes(store) == (["3 good.mp4"], {"1 text.mp4": text, "2 deadly.mp4": lost, "4 once.mp4": text})
    assert verify_store(settings.store, silent) == []
    assert [batch.sources for batch in ingest.plan_batches(settings).batches] == [1], "what was lost is tried again"


@pytest.mark.usefixtures("killing")
def test_a_source_that_hangs_is_ended_and_turned_away_for_its_time(footage: Path, tmp_path: Path) -> None:
    for name in ("1 stuck", "2"):
        shutil.copy(footage / "text.mp4", tmp_path / f"{name}.mp4")
    settings = settings_for(tmp_path, tmp_path / "store").replaced(batch_sources=4, clip_time_limit_s=4.0)
    ingest.run(settings, silent)
    refused = {"1 stuck.mp4": ("worker", "time-limit", True), "2.mp4": ("probe", "not-media", False)}
    assert outcomes(CorpusStore.open(settings.store)) == ([], refused)


def test_a_board_that_is_lost_with_its_machine_does_not_end_the_run(footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "Board", killing_sources.Board)
    monkeypatch.setenv(killing_sources.BOARD_DIED, str(tmp_path / "died"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    settings = settings_for(footage, tmp_path / "store").replaced(sources=(str(footage / "text.mp4"),), workers=1)
    assert ingest.run(settings, silent).rejects == {"not-media": 1}
    assert (tmp_path / "died").exists()


@pytest.mark.parametrize(("lost", "survives"), [(7, True), (1000, False)])
def test_workers_that_die_while_they_start_are_replaced_unless_all_do(monkeypatch: pytest.MonkeyPatch, lost: int, survives: bool) -> None:
    """Four workers start twice on a machine that is lost; one of them is ready before."""
    starts = itertools.count()

    def make() -> object:
        number = next(starts)
        return SimpleNamespace(ready=SimpleNamespace(remote=lambda: number))

    monkeypatch.setattr(ray, "wait", lambda references: ([references[0]], []))
    monkeypatch.setattr(ray, "kill", lambda actor: None)
    monkeypatch.setattr(ingest, "outcome", lambda number: Death(preempted=False, evicted=False) if 0 < number <= lost else True)
    pool = ingest._Pool(make, 4)
    if survives:
        while len(pool.idle) < 4:
            assert list(pool.finished()) == []
        return
    with pytest.raises(StoreError, match="die before they begin"):
        list(itertools.chain.from_iterable(pool.finished() for _ in range(20)))
    assert next(starts) <= 13


def test_what_dies_at_no_source_is_no_source_s_fault(footage: Path, tmp_path: Path) -> None:
    class Board:
        last = type("Method", (), {"remote": lambda self, batch: (-1, 0.0)})()

    deaths = ingest._Deaths(settings_for(footage, tmp_path), Board())
    row = {"batch": "aa", "sources": 3, "retry": ""}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ray.get", lambda value: value)
        deaths.count(row)
        with pytest.raises(StoreError, match="while none of its sources is touched"):
            deaths.count(row)
    assert not deaths.lost
