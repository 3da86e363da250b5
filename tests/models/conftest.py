"""The original's figures (`golden/`), and networks filled by the rule of the numeric contract ("Checking a rewrite")."""

import json
import math
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from models import LandmarkGenerator, Renderer, landmark_generator, renderer
from models.iplap import import_iplap
from models.landmark_generator import sinusoids

GOLDEN = Path(__file__).parent / "golden"

State = dict[str, Tensor]


def ruled_tensor(name: str, shape: list[int]) -> Tensor:
    """A tensor of a published state dict, made from its name."""
    if name.endswith(".pe"):
        return sinusoids(shape[1], shape[2])[None]
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    x = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if name.endswith("running_var"):
        x = 1 + 0.1 * np.abs(x)
    elif len(shape) >= 2:
        x = x / math.sqrt(math.prod(shape[1:]))
    elif name.endswith("weight"):
        x = 1 + 0.1 * x
    else:
        x = 0.1 * x
    return torch.from_numpy(np.asarray(x, dtype=np.float32))


def uniform_input(name: str, *shape: int) -> Tensor:
    """An input in 0..1, made from its name."""
    return torch.from_numpy(np.random.default_rng(zlib.crc32(name.encode())).random(shape).astype(np.float32))


def normal_input(name: str, *shape: int) -> Tensor:
    """An input like a mel spectrogram, made from its name."""
    return torch.from_numpy(np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32))


@pytest.fixture(scope="session")
def landmark_inputs() -> tuple[Tensor, ...]:
    """mels, pose, reference_pose and reference_content of two windows with 15 references."""
    return (
        normal_input("T_mels", 2, 5, 1, 80, 16),
        uniform_input("T_pose", 2, 5, 2, 74),
        uniform_input("Nl_pose", 2, 15, 2, 74),
        uniform_input("Nl_content", 2, 15, 2, 57),
    )


@pytest.fixture(scope="session")
def renderer_inputs() -> tuple[Tensor, ...]:
    """face, sketches, reference_faces, reference_sketches and mel of two frames with four references."""
    return (
        uniform_input("face", 2, 1, 3, 128, 128)[:, 0],
        uniform_input("target_sketches", 2, 5, 3, 128, 128),
        uniform_input("ref_images", 2, 4, 3, 128, 128),
        uniform_input("ref_sketches", 2, 4, 3, 128, 128),
        normal_input("mel", 2, 1, 1, 80, 16)[:, 0],
    )


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """One thread: many small convolutions fight over cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def golden() -> dict[str, npt.NDArray[np.float32]]:
    """What the original computes."""
    with np.load(GOLDEN / "forward.npz") as figures:
        return dict(figures)


@pytest.fixture(scope="session")
def published_shapes() -> dict[str, dict[str, list[int]]]:
    """Names and shapes of the published state dicts."""
    shapes: dict[str, dict[str, list[int]]] = json.loads((GOLDEN / "state_dict_keys.json").read_text())
    return shapes


@pytest.fixture(scope="session")
def published_state(published_shapes: dict[str, dict[str, list[int]]]) -> Callable[[str], State]:
    """A published state dict by its name in `state_dict_keys.json`, filled by the rule."""
    return lambda network: {name: ruled_tensor(name, shape) for name, shape in published_shapes[network].items()}


@pytest.fixture(scope="session")
def landmark_generator_pth(published_state: Callable[[str], State], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A landmark generator's checkpoint as published from one GPU."""
    return write_pth(tmp_path_factory.mktemp("landmark-generator") / "published.pth", published_state("landmark_generator"))


@pytest.fixture(scope="session")
def renderer_pth(published_state: Callable[[str], State], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A renderer's checkpoint as published from several GPUs, with the loss's VGG-19."""
    state = published_state("renderer") | published_state("renderer_perceptual_vgg19")
    return write_pth(tmp_path_factory.mktemp("renderer") / "published.pth", {f"module.{name}": tensor for name, tensor in state.items()})


@pytest.fixture(scope="session")
def imported_landmark_generator(landmark_generator_pth: Path) -> Path:
    """That checkpoint as one of ours."""
    out = landmark_generator_pth.with_name("landmark-generator.safetensors")
    import_iplap(str(landmark_generator_pth), "landmark-generator", str(out))
    return out


@pytest.fixture(scope="session")
def imported_renderer(renderer_pth: Path) -> Path:
    """That checkpoint as one of ours; its VGG-19 features lie beside it."""
    out = renderer_pth.with_name("renderer.safetensors")
    import_iplap(str(renderer_pth), "renderer", str(out))
    return out


@pytest.fixture(scope="session")
def small_landmark_generator() -> LandmarkGenerator:
    """The small preset in evaluation mode, always the same."""
    torch.manual_seed(1)
    return LandmarkGenerator(landmark_generator.PRESETS["small"]).eval()


@pytest.fixture(scope="session")
def small_renderer() -> Renderer:
    """The small preset in evaluation mode, always the same."""
    torch.manual_seed(2)
    return Renderer(renderer.PRESETS["small"]).eval()


def write_pth(path: Path, state: State) -> Path:
    """Writes a checkpoint as the original's training does."""
    torch.save({"state_dict": state, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]}, "global_step": 610000, "global_epoch": 42}, path)
    return path
