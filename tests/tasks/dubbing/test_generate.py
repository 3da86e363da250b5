import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from schemas.errors import CheckpointError
from schemas.settings import CropSettings, DubSettings
from tasks.dubbing.generate import Generator, Networks, check_headers
from tasks.mel_windows import mel_windows, window_start
from tests.tasks.dubbing.random_networks import write_random_networks


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


@torch.inference_mode()
def test_the_middle_of_every_window_is_kept(networks: Networks) -> None:
    pose, mel = random(80, 2, 74), random(260, 80, seed=1)
    references = random(5, 2, 74, seed=2), random(5, 2, 57, seed=3)
    content = Generator(networks).speak(pose, range(3, 83), mel, *references)
    assert content.shape == (80, 2, 57)
    for place in (0, 1, 40, 79):
        around = [min(max(place + offset, 0), 79) for offset in range(-2, 3)]
        starts = np.array([window_start(3 + place + offset) for offset in range(-2, 3)])
        window = networks.landmark_generator(
            torch.from_numpy(mel_windows(mel, starts))[None], torch.from_numpy(pose[around])[None], *(torch.from_numpy(array)[None] for array in references)
        )
        assert content[place] == pytest.approx(window[0, 2].numpy(), abs=1e-5)


def test_reference_faces_are_encoded_once_a_batch_of_windows(networks: Networks) -> None:
    encoded: list[int] = []
    handle = networks.landmark_generator.face_encoder.register_forward_hook(lambda _, inputs, __: encoded.append(len(inputs[0])))
    Generator(networks).speak(random(70, 2, 74), range(70), random(260, 80, seed=1), random(5, 2, 74, seed=2), random(5, 2, 57, seed=3))
    handle.remove()
    assert encoded == [5, 5]  # 64 windows, then 6


@torch.inference_mode()
def test_rendering_in_a_batch_is_what_the_network_gives_one_by_one(networks: Networks) -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (3, 128, 128, 3), dtype=np.uint8)
    sketches = np.random.default_rng(1).integers(0, 255, (3, 5, 128, 128, 3), dtype=np.uint8)
    mels = random(3, 1, 80, 16)
    generator = Generator(networks)
    generator.remember(pictures, pictures[::-1])
    rendered = generator.render(pictures, sketches, mels)
    assert rendered.shape == (3, 128, 128, 3)

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array.copy()).movedim(-1, -3).float() / 255

    alone, _ = networks.renderer(
        tensor(pictures[1:2]), tensor(sketches[1:2]), tensor(pictures)[None], tensor(pictures[::-1])[None], torch.from_numpy(mels[1:2])
    )
    assert rendered[1].astype(int) == pytest.approx((alone[0].permute(1, 2, 0) * 255).round().numpy(), abs=1)


def test_bf16_is_close_to_fp32(networks: Networks) -> None:
    arguments = random(10, 2, 74), range(10), random(40, 80, seed=1), random(5, 2, 74, seed=2), random(5, 2, 57, seed=3)
    exact, rough = Generator(networks).speak(*arguments), Generator(networks, "bf16").speak(*arguments)
    assert rough.dtype == np.float32
    assert rough == pytest.approx(exact, abs=0.05)


def test_checkpoints_that_do_not_fit_are_refused_in_a_sentence(tmp_path: Path, settings: DubSettings) -> None:
    other_crop = write_random_networks(tmp_path, landmark_crop=CropSettings(padding="iplap-train"))
    with pytest.raises(CheckpointError, match="crop"):
        Networks.load(other_crop)
    with pytest.raises(CheckpointError, match="landmark generator"):
        check_headers(settings.replaced(renderer=settings.landmark_generator))
    with pytest.raises(CheckpointError, match="not there"):
        check_headers(settings.replaced(renderer=str(tmp_path / "none.safetensors")))


def test_the_size_of_pictures_does_not_matter_to_landmarks(tmp_path: Path) -> None:
    assert check_headers(write_random_networks(tmp_path, landmark_crop=CropSettings(size=256))) == CropSettings()


def test_it_imports_without_the_media_libraries() -> None:
    code = "import sys, tasks.dubbing.generate; print([name for name in ('mediapipe','dlib','librosa','ray','rich','av') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
