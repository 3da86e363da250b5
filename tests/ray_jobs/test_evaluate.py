"""Evaluation spread over actors: the same figures as in one process, also when workers die."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import ray

from ray_jobs import evaluate
from ray_jobs.actors import Pool
from ray_jobs.cluster import connect
from ray_jobs.evaluate import pool_for, run
from schemas.settings import EvaluateSettings
from tasks.evaluation.evaluate import CLIPS_TABLE, evaluate_here
from tasks.progress import silent
from tests.footage import make_talking_clip
from tests.manipulations import blurred
from tests.ray_jobs.dying_evaluation import DyingActor
from tests.tasks.evaluation.foreign_networks import write_inception

FRAMES = 12

pytestmark = pytest.mark.soak  # minutes of FaceMesh in processes of their own; the figures themselves are tested without Ray


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> EvaluateSettings:
    folder = tmp_path_factory.mktemp("pairs")
    for name, seed in (("one", 0), ("two", 1), ("once", 2)):
        real = make_talking_clip(folder / "real" / f"{name}.mp4", FRAMES / 25, seed=seed)
        (folder / "made").mkdir(exist_ok=True)
        blurred(real, folder / "made" / f"{name}.mp4", FRAMES)
    weights = write_inception(folder / "inception.pth")
    return EvaluateSettings(generated=f"{folder}/made", real=f"{folder}/real", fid_weights=str(weights), pictures=2, workers=2, resamples=10)


@pytest.fixture(scope="module")
def cluster() -> object:
    with connect():
        yield ray


def test_actors_find_what_one_process_finds_also_when_one_dies_with_its_sums(
    settings: EvaluateSettings, cluster: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = evaluate_here(settings.replaced(out=f"{tmp_path}/here"), silent)
    monkeypatch.setattr(evaluate, "EvaluationActor", DyingActor)
    told: list[tuple[int, int | None]] = []
    spread = run(settings.replaced(out=f"{tmp_path}/spread"), lambda done, total=None, note="": told.append((done, total)))
    assert (tmp_path / "spread" / "once.begun").exists(), "its worker died"
    rows = [pq.read_table(tmp_path / where / CLIPS_TABLE).to_pylist() for where in ("here", "spread")]
    assert rows[0] == rows[1]
    ours, theirs = ({figure.name: figure for figure in summary.metrics} for summary in (here, spread))
    assert theirs.pop("fid").generated.value == pytest.approx(ours.pop("fid").generated.value, rel=1e-7)  # type: ignore[union-attr]
    assert ours == theirs
    assert spread.pictures == here.pictures == 6
    assert told[-1] == (3, 3)


def test_a_pair_that_kills_two_workers_is_given_up_and_the_others_are_compared(
    settings: EvaluateSettings, cluster: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for side in ("made", "real"):
        (tmp_path / side).mkdir()
        for name in ("one", "deadly"):
            shutil.copy(Path(str(settings.generated)).parent / side / "one.mp4", tmp_path / side / f"{name}.mp4")
    monkeypatch.setattr(evaluate, "EvaluationActor", DyingActor)
    found = run(settings.replaced(generated=f"{tmp_path}/made", real=f"{tmp_path}/real", out=f"{tmp_path}/out", metrics=("psnr",)), silent)
    assert (found.pairs, found.compared) == (2, 1)
    (given_up,) = found.not_compared
    assert (given_up.name, given_up.detail) == ("deadly", "Two workers died while they compared it.")


def test_there_is_an_actor_a_core_for_videos_and_one_a_gpu_for_dubs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "cluster")
    nodes = [{"CPU": 8.0, "GPU": 2.0}]
    videos = EvaluateSettings(generated="a", real="b")
    assert pool_for(videos, nodes, pairs=100) == Pool(8, 1, 0)
    assert pool_for(videos, nodes, pairs=2) == Pool(2, 4, 0)
    assert pool_for(videos.replaced(workers=4), nodes, pairs=100) == Pool(4, 2, 0)
    assert pool_for(EvaluateSettings(store="s"), nodes, pairs=100) == Pool(2, 4, 1)
    assert pool_for(EvaluateSettings(store="s", device="cpu"), nodes, pairs=100) == Pool(8, 1, 0)
    assert pool_for(videos.replaced(device="cuda"), nodes, pairs=100) == Pool(2, 4, 1)
    assert pool_for(EvaluateSettings(store="s", device="cuda"), [{"CPU": 8.0}], pairs=100) == Pool(1, 1, 1), "the cluster grows by what waits"
