import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.hub import get_dir

from schemas.errors import CheckpointError
from tasks.evaluation.fid import InceptionFeatures, frechet_distance

ROOT = Path(__file__).parents[3]
OWN_COMMAND_LINE = (
    "import runpy, sys\nfrom tasks.evaluation.torchvision_ops import prepare_torchvision\nprepare_torchvision()\n"
    "sys.argv[0] = 'pytorch_fid'\nrunpy.run_module('pytorch_fid', run_name='__main__')"
)
"""`python -m pytorch_fid` where torchvision's compiled operators may be missing."""
CPU = torch.device("cpu")


def faces(count: int, seed: int, brightness: float) -> np.ndarray:
    """(count, 64, 64, 3) uint8 BGR: smooth colours."""
    random = np.random.default_rng(seed)
    small = random.random((count, 5, 5, 3)) * brightness * [0.3, 0.6, 1.0]
    return np.stack([(255 * cv2.resize(picture, (64, 64))).clip(0, 255).astype(np.uint8) for picture in small])


def as_tensor(pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


def own_command_line(folders: list[Path], dims: int, torch_home: Path) -> float:
    arguments = [*map(str, folders), "--device", "cpu", "--dims", str(dims), "--num-workers", "0"]
    environment = os.environ | {"TORCH_HOME": str(torch_home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", OWN_COMMAND_LINE, *arguments], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.split("FID:")[1])


def written(pictures: np.ndarray, folder: Path) -> Path:
    folder.mkdir()
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(folder / f"{number:03d}.png"), picture)
    return folder


@pytest.mark.parametrize("dims", [64, pytest.param(2048, marks=pytest.mark.soak)])
def test_the_same_number_as_pytorch_fids_own_command_line(dims: int, torch_home: Path, inception_weights: Path, tmp_path: Path) -> None:
    """With fewer pictures than features, so that both covariances are singular."""
    one, other = faces(10, seed=1, brightness=0.8), faces(12, seed=2, brightness=1.0)
    features = InceptionFeatures(str(inception_weights), CPU, dims)
    ours = frechet_distance(features(as_tensor(one)), features(as_tensor(other)))
    theirs = own_command_line([written(one, tmp_path / "one"), written(other, tmp_path / "other")], dims, torch_home)
    assert ours == pytest.approx(theirs, rel=1e-3)
    swapped = frechet_distance(features(as_tensor(one[..., ::-1].copy())), features(as_tensor(other[..., ::-1].copy())))
    assert swapped != pytest.approx(theirs, rel=1e-2)  # colours in the wrong order would have been seen


def test_the_features_are_of_each_picture_by_itself(inception_weights: Path) -> None:
    pictures = as_tensor(faces(3, seed=3, brightness=1.0))
    features = InceptionFeatures(str(inception_weights), CPU, 192)
    together = features(pictures)
    assert together.shape == (3, 192)
    assert np.allclose(together[1], features(pictures[1:2])[0], rtol=1e-4)


def test_the_distance_of_two_known_distributions() -> None:
    random = np.random.default_rng(0)
    one = random.normal(0, 1, (20000, 3)) * [1, 2, 3]
    other = random.normal(0, 1, (20000, 3)) * [2, 2, 1] + [0, 1, 0]
    assert frechet_distance(one, other) == pytest.approx(1 + (1 - 2) ** 2 + (3 - 1) ** 2, rel=0.03)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)


def test_one_picture_has_no_spread() -> None:
    with pytest.raises(ValueError, match="two pictures"):
        frechet_distance(np.ones((1, 4)), np.ones((5, 4)))


def test_pictures_that_are_no_numbers_have_no_distance() -> None:
    broken, whole = np.full((3, 4), np.nan), np.random.default_rng(0).random((3, 4))
    assert np.isnan(frechet_distance(broken, whole))
    assert np.isnan(frechet_distance(whole, broken))


def test_neither_the_cache_nor_the_random_numbers_are_touched(inception_weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    before = torch.get_rng_state()
    InceptionFeatures(str(inception_weights), CPU, 64)
    assert torch.equal(torch.get_rng_state(), before)
    assert not Path(get_dir()).exists()


def test_other_weights_are_refused_in_a_sentence(alexnet_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not hold the weights of pytorch-fid's Inception"):
        InceptionFeatures(str(alexnet_weights), CPU)
    with pytest.raises(CheckpointError, match="is not there"):
        InceptionFeatures(str(tmp_path / "none.pth"), CPU)
