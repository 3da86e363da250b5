"""Two workers against one at the same global batch, each worker a process of its own (gloo)."""

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed

from schemas.settings import LandmarkGeneratorTraining, RendererTraining
from tasks.corpus.store import CorpusStore
from tasks.training.batch_norm import WorkersBatchNorm, normalise_over_workers
from tasks.training.session import Session, from_leader, wait_for_all
from tasks.training.state import state_location
from tests.tasks.training.one_of_several import train_all
from tests.tasks.training.small_dubmill import small_networks
from tests.training_corpus import SNAPSHOT

ROOT = Path(__file__).parents[3]
FROZEN, NORMALISED, FACES = "batch norm frozen", "batch norm over workers", "faces"
STEPS = 12
Rows = list[dict[str, float]]


def runs_in(folder: Path, corpus: CorpusStore) -> dict[str, LandmarkGeneratorTraining | RendererTraining]:
    """Batches of five and three, so that two workers have parts of unequal size."""
    common = {"store": corpus.uri, "snapshot": SNAPSHOT, "preset": "small", "device": "cpu", "channels_last": False}
    common |= {"steps": STEPS, "validate_every": STEPS, "validation_samples": 2, "validation_clips": 1, "preview_every": 0}
    common |= {"rate_warm_up_steps": STEPS}  # else Adam makes steps of full length of gradients that are rounding errors
    frozen = {"freeze": ("batch-norm",)}
    return {
        FROZEN: LandmarkGeneratorTraining(**common, **frozen, batch_size=5, out=str(folder / FROZEN)),
        NORMALISED: LandmarkGeneratorTraining(**common, batch_size=5, out=str(folder / NORMALISED)),
        FACES: RendererTraining(**common, **frozen, batch_size=3, references=2, warm_up_steps=3, learning_rate=2e-5, out=str(folder / FACES)),
    }


def train_with(workers: int, corpus: CorpusStore, folder: Path) -> dict[str, Rows]:
    """The training losses of the runs, step by step."""
    folder.mkdir()
    runs = runs_in(folder, corpus)
    kinds = {name: "renderer" if isinstance(settings, RendererTraining) else "landmark-generator" for name, settings in runs.items()}
    (folder / "runs.json").write_text(json.dumps([[kinds[name], settings.model_dump(mode="json")] for name, settings in runs.items()]))
    if workers == 1:
        with small_networks():
            train_all(0, 1, folder)
    else:
        train_in_processes(workers, folder)
    return {name: training_rows(settings.out) for name, settings in runs.items()}


def train_in_processes(workers: int, folder: Path) -> None:
    commands = [[sys.executable, "-m", "tests.tasks.training.one_of_several", str(rank), str(workers), str(folder)] for rank in range(workers)]
    processes = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for command in commands]
    for process in processes:
        _, told = process.communicate(timeout=240)
        assert process.returncode == 0, told[-3000:]


def training_rows(out: str) -> Rows:
    rows = [json.loads(line) for line in Path(state_location(out, "metrics.jsonl")).read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "split"} for row in rows if row["split"] == "train"]


@pytest.fixture(scope="module")
def rows(corpus: CorpusStore, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Rows], dict[str, Rows]]:
    """Of one worker, and of two."""
    folder = tmp_path_factory.mktemp("workers")
    return train_with(1, corpus, folder / "one"), train_with(2, corpus, folder / "two")


@pytest.mark.parametrize("name", [FROZEN, FACES])
def test_losses_do_not_depend_on_the_number_of_workers(rows: tuple[dict[str, Rows], dict[str, Rows]], name: str) -> None:
    one, two = rows[0][name], rows[1][name]
    assert len(one) == STEPS
    assert "adversarial" in one[-1] or name == FROZEN
    for alone, shared in zip(one, two, strict=True):
        assert losses(shared) == pytest.approx(losses(alone), rel=1e-5)


def test_batches_are_normalised_over_workers(rows: tuple[dict[str, Rows], dict[str, Rows]]) -> None:
    one, two = rows[0][NORMALISED], rows[1][NORMALISED]
    assert losses(two[0]) == pytest.approx(losses(one[0]), rel=1e-5)
    for alone, shared in zip(one, two, strict=True):
        # Normalising so small batches makes more of rounding errors from step to step: of one process against itself with first weights
        # that differ by 6e-8 the loss differs by up to 2e-3 here, and that of two against one by no more.
        assert shared["loss"] == pytest.approx(alone["loss"], rel=1e-2)


def losses(row: dict[str, float]) -> dict[str, float]:
    """Without the gradient's norm, in which rounding errors of many thousand numbers add up."""
    return {name: value for name, value in row.items() if name != "gradient_norm"}


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))])
def test_normalising_over_workers_keeps_names_and_tensors(device: str) -> None:
    network = torch.nn.Sequential(torch.nn.Conv1d(2, 3, 1), torch.nn.Sequential(torch.nn.BatchNorm1d(3))).to(device)
    before = network.state_dict(keep_vars=True)
    normalise_over_workers(network)
    after = network.state_dict(keep_vars=True)
    assert isinstance(network[1][0], WorkersBatchNorm if device == "cpu" else torch.nn.SyncBatchNorm)
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)


@pytest.fixture
def _group_of_one() -> Iterator[None]:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("_group_of_one")
@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (2, 3, 4, 5)])
def test_of_one_worker_it_is_a_batch_normalisation_like_any_other(shape: tuple[int, ...]) -> None:
    usual = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d}[len(shape)](3)
    torch.nn.init.normal_(usual.weight)
    ours = copy.deepcopy(torch.nn.Sequential(usual))
    normalise_over_workers(ours)
    x, towards = torch.randn(shape) * 3 + 10, torch.randn(shape)
    gradients = []
    for network in (usual, ours):
        given = x.clone().requires_grad_()
        (network(given) * towards).sum().backward()
        gradients.append([given.grad, *(parameter.grad for parameter in network.parameters())])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dict(ours[0].state_dict()), dict(usual.state_dict()))


@pytest.mark.usefixtures("_group_of_one")
def test_statistics_are_full_numbers_under_autocast() -> None:
    norm = WorkersBatchNorm(1)
    x = (300 + torch.randn(1000, 1)).to(torch.bfloat16)  # in bfloat16 the sum of a thousand would be wrong by hundreds
    assert norm(x).dtype is torch.bfloat16
    assert norm.running_mean.item() == pytest.approx(0.1 * x.float().mean().item(), rel=1e-4)


def test_a_worker_alone_waits_for_nobody_and_leads_itself() -> None:
    wait_for_all(Session())
    assert from_leader("frozen", Session()) == "frozen"
