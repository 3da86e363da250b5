"""Both training jobs over a local Ray, on drawn faces."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from models.checkpoint import read_header
from ray_jobs import train_landmark_generator, train_renderer, training
from ray_jobs.cluster import connect
from schemas.errors import SettingsError, StoreError
from schemas.job_log import RUN_VARIABLE
from schemas.settings import LandmarkGeneratorTraining, RendererTraining
from tasks.corpus.store import CorpusStore
from tasks.progress import silent
from tasks.training.landmark_generator import KIND
from tasks.training.landmark_generator import train_landmark_generator as train_here
from tasks.training.session import Session
from tasks.training.state import read_run
from tests.ray_jobs.dying_trainer import DEADLY_STEP, DIED, STARTS, train_and_die
from tests.tasks.training.test_workers import training_rows
from tests.training_corpus import make_training_corpus


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    """One Ray for all: starting it takes longer than the tests."""
    with connect():
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> CorpusStore:
    return make_training_corpus(tmp_path_factory.mktemp("corpus"), {"train": [25, 25, 25]})


def test_the_landmark_generator_with_two_workers(corpus: CorpusStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUN_VARIABLE, "monday")
    told: list[tuple[int, int | None]] = []
    settings = LandmarkGeneratorTraining(store=corpus.uri, out=str(tmp_path / "run"), preset="small", steps=2, batch_size=4, validation_samples=4, workers=2)
    summary = train_landmark_generator.run(settings, lambda done, total=None, note="": told.append((done, total)))
    assert told[-1] == (2, 2)
    assert (summary.kind, summary.step) == ("landmark-generator", 2)
    assert summary.metrics.keys() == summary.metrics_at_start.keys()
    assert corpus.snapshot(summary.snapshot).clips
    assert read_header(summary.checkpoint).metrics == summary.metrics
    assert {path.name for path in (tmp_path / "run" / "state").iterdir()} == {"checkpoints", "metrics.jsonl", "summary.json", "tensorboard", "previews"}
    saved = read_run(settings.out, "landmark-generator")
    assert saved is not None
    assert saved.name == "monday"
    again = train_landmark_generator.run(settings.replaced(workers=1), lambda *_: None)
    assert again == summary


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_workers_in_the_place_of_lost_ones_go_on_from_the_last_checkpoint(corpus: CorpusStore, tmp_path: Path, workers: int) -> None:
    common = LandmarkGeneratorTraining(
        store=corpus.uri, out=str(tmp_path / "undisturbed" / "run"), preset="small", steps=10, batch_size=4, validation_samples=4,
        validate_every=3, workers=workers, freeze=("batch-norm",),
    )  # fmt: skip
    disturbed = common.replaced(out=str(tmp_path / "disturbed" / "run"))
    (tmp_path / "undisturbed").mkdir()
    (tmp_path / "undisturbed" / DIED).touch()  # nobody dies there
    (tmp_path / "disturbed").mkdir()
    assert training.run_by_ray(KIND, train_and_die, disturbed, silent).step == 10
    if workers == 1:
        train_and_die(common, silent, Session())
    else:
        training.run_by_ray(KIND, train_and_die, common, silent)
    assert (tmp_path / "disturbed" / STARTS).read_text().split() == ["0", str(DEADLY_STEP // 3 * 3)]
    rows, expected = training_rows(disturbed.out), training_rows(common.out)
    assert [row["step"] for row in rows] == list(range(1, 11))
    for row, other in zip(rows, expected, strict=True):
        assert row == pytest.approx(other, rel=1e-6 if workers == 1 else 1e-5)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[RendererTraining | LandmarkGeneratorTraining]:
    """The settings that workers were given, by a Ray Train that goes no further."""
    settings = []

    class Trainer:
        def __init__(self, work: object, train_loop_config: dict, **_: object) -> None:
            settings.append(train_loop_config["settings"])

        def fit(self) -> None:
            raise StoreError("far enough")

    monkeypatch.setattr(training, "TorchTrainer", Trainer)
    return settings


def test_a_named_run_goes_on_from_its_own_state_whatever_resume_says(
    corpus: CorpusStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[LandmarkGeneratorTraining]
) -> None:
    settings = LandmarkGeneratorTraining(store=corpus.uri, out=str(tmp_path / "run"), preset="small", steps=1, batch_size=4, device="cpu")
    finished = train_here(settings, session=Session(run_name="monday"))

    def goes_on(steps: int, *, resume: bool) -> bool:
        with pytest.raises(StoreError, match="far enough"):
            train_landmark_generator.run(settings.replaced(steps=steps, resume=resume), lambda *_, **__: None)
        return given[-1].resume

    monkeypatch.setenv(RUN_VARIABLE, "monday")
    assert train_landmark_generator.run(settings, lambda *_, **__: None) == finished
    assert goes_on(2, resume=False)
    monkeypatch.setenv(RUN_VARIABLE, "tuesday")
    assert not goes_on(1, resume=True)
    monkeypatch.delenv(RUN_VARIABLE)
    assert goes_on(2, resume=True)
    with pytest.raises(SettingsError, match="holds a run of 1 step already"):
        goes_on(1, resume=False)


def test_workers_get_places_that_do_not_depend_on_their_folder(
    corpus: CorpusStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[RendererTraining]
) -> None:
    monkeypatch.chdir(Path(corpus.uri).parent)
    settings = RendererTraining(store=Path(corpus.uri).name, out=f"{tmp_path}/run", perceptual_weights="vgg.safetensors")
    with pytest.raises(StoreError, match="far enough"):
        train_renderer.run(settings, lambda *_, **__: None)
    assert (given[0].store, given[0].perceptual_weights) == (corpus.uri, str(Path.cwd() / "vgg.safetensors"))


@pytest.mark.parametrize(("device", "gpus", "workers", "use_gpu"), [("auto", 0, 2, False), ("auto", 2, 2, True), ("cuda", 2, 1, True), ("cpu", 1, 2, False)])
@pytest.mark.parametrize("address", ["", "cluster"])
def test_devices_of_the_cluster(monkeypatch: pytest.MonkeyPatch, device: str, gpus: int, workers: int, use_gpu: bool, address: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    cluster_with(gpus, monkeypatch)
    settings = LandmarkGeneratorTraining(store="", out="", device=device, workers=workers)
    assert training._scaling(settings).use_gpu is use_gpu


@pytest.mark.parametrize(("device", "gpus"), [("auto", 1), ("cuda", 1), ("cuda", 0)])
def test_too_few_gpus_are_said_not_passed_over(monkeypatch: pytest.MonkeyPatch, device: str, gpus: int) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)  # what was started here does not grow
    cluster_with(gpus, monkeypatch)
    with pytest.raises(SettingsError, match=rf"2 workers on device {device}, but the Ray cluster has {gpus} GPUs"):
        training._scaling(LandmarkGeneratorTraining(store="", out="", device=device, workers=2))


@pytest.mark.parametrize("gpus", [0, 1])
def test_gpus_that_are_asked_for_by_name_are_waited_for_where_a_cluster_may_grow(monkeypatch: pytest.MonkeyPatch, gpus: int) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "cluster")
    cluster_with(gpus, monkeypatch)
    scaling = training._scaling(LandmarkGeneratorTraining(store="", out="", device="cuda", workers=2))
    assert (scaling.num_workers, scaling.use_gpu) == (2, True)


def cluster_with(gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0} | ({"GPU": float(gpus)} if gpus else {}))
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 4.0}}])


@pytest.mark.soak  # the landmark generator's test has all of the job but this network
def test_the_renderer(corpus: CorpusStore, tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    settings = RendererTraining(store=corpus.uri, out=out, preset="small", references=3, steps=1, batch_size=2, validation_samples=2, warm_up_epochs=0)
    summary = train_renderer.run(settings, lambda *_, **__: None)
    assert summary.step == 1
    rows = [json.loads(line) for line in (tmp_path / "run" / "state" / "metrics.jsonl").read_text().splitlines()]
    assert {"warp", "perceptual", "adversarial", "feature_matching", "discriminator"} <= rows[1].keys()


def test_a_board_whose_process_dies_is_there_again() -> None:
    told: list[int] = []
    with training._followed(lambda done, total=None, note="": told.append(done)) as board:
        ray.get(board.write.remote((1, 3, "")))
        ray.kill(board, no_restart=False)
        assert ray.get(board.read_error.remote()) is None
        ray.get(board.write.remote((2, 3, "")))
    assert told[-1] == 2


def test_the_board_is_on_the_node_of_the_job_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[NodeAffinitySchedulingStrategy] = []
    options = training._Board.options
    monkeypatch.setattr(training._Board, "options", lambda **given: asked.append(given["scheduling_strategy"]) or options(**given))
    board = training._board()
    assert ray.get(board.read.remote()) is None
    assert [(strategy.node_id, strategy.soft) for strategy in asked] == [(ray.get_runtime_context().get_node_id(), False)]


def test_a_worker_goes_on_only_from_a_state_of_its_own_run(corpus: CorpusStore, tmp_path: Path) -> None:
    settings = LandmarkGeneratorTraining(store=corpus.uri, out=str(tmp_path / "run"), preset="small", steps=1, batch_size=4, device="cpu")
    monday, tuesday = Session(run_name="monday"), Session(run_name="tuesday")
    assert not training._going_on(settings, KIND, monday).resume
    train_here(settings, session=monday)
    assert training._going_on(settings, KIND, monday).resume
    assert not training._going_on(settings, KIND, tuesday).resume
    assert training._going_on(settings.replaced(resume=True), KIND, tuesday).resume  # the job itself chose to go on from it
    assert not training._going_on(settings, "renderer", monday).resume


def test_what_a_user_can_mend_stays_one_sentence(corpus: CorpusStore, tmp_path: Path) -> None:
    settings = LandmarkGeneratorTraining(store=str(tmp_path / "nowhere"), out=str(tmp_path / "run"), preset="small")
    with pytest.raises(StoreError, match="no corpus store"):
        train_landmark_generator.run(settings, lambda *_: None)
