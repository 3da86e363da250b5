import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.fast_renderer import FastRenderer
from schemas.errors import CheckpointError, SettingsError
from schemas.settings import CropSettings, DubSettings
from tasks.dubbing.generate import Generator, Networks, check_headers
from tasks.mel_windows import mel_windows, window_start
from tests.tasks.dubbing.random_networks import write_random_networks
from tests.tasks.dubbing.without_compiler import no_compiler


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


def test_everything_is_encoded_once_for_all_windows_and_references_once_for_all_calls(networks: Networks) -> None:
    network = networks.fast_landmark_generator(torch.float32)
    encoded: dict[str, list[int]] = {"face": [], "audio": [], "pose": []}
    handles = [
        network.get_submodule(f"{name}_encoder").register_forward_hook(lambda _, inputs, __, counts=counts: counts.append(len(inputs[0])))
        for name, counts in encoded.items()
    ]
    generator = Generator(networks)
    for _ in range(2):
        generator.speak(random(70, 2, 74), range(70), random(260, 80, seed=1), random(5, 2, 74, seed=2), random(5, 2, 57, seed=3))
    for handle in handles:
        handle.remove()
    assert encoded["face"] == [5]
    assert sum(encoded["audio"]) == 2 * (70 + 4)  # two steps beyond each end
    assert sum(encoded["pose"]) == 2 * 70


def test_other_references_are_encoded_anew(networks: Networks) -> None:
    generator, arguments = Generator(networks), (random(4, 2, 74), range(4), random(40, 80, seed=1), random(5, 2, 74, seed=2))
    one, other = (generator.speak(*arguments, random(5, 2, 57, seed=seed)) for seed in (3, 4))
    assert not np.array_equal(one, other)
    assert np.array_equal(other, Generator(networks).speak(*arguments, random(5, 2, 57, seed=4)))


@torch.inference_mode()
@pytest.mark.parametrize("references", [1, 3])
def test_rendering_in_batches_is_what_the_network_gives_one_by_one(networks: Networks, references: int) -> None:
    faces, sketches, mels = drawn(7)
    generator = Generator(networks)
    generator.remember(faces[:references], faces[::-1][:references])
    assert 7 % generator.frames_at_once, "the last batch is a smaller one"
    rendered = generator.render(faces, sketches, mels)
    assert rendered.shape == (7, 128, 128, 3)
    reference_faces, reference_sketches = tensor(faces[:references])[None], tensor(faces[::-1][:references])[None]
    for frame in (0, 1, 6):
        one = slice(frame, frame + 1)
        alone, _ = networks.renderer(tensor(faces[one]), tensor(sketches[one]), reference_faces, reference_sketches, torch.from_numpy(mels[one]))
        assert rendered[frame].astype(int) == pytest.approx((alone[0].permute(1, 2, 0) * 255).round().numpy(), abs=1)


def test_bf16_pictures_are_within_45_db(networks: Networks) -> None:
    faces, sketches, mels = drawn(2)
    exact, rough = (rendered_in(networks, precision, faces, sketches, mels) for precision in ("fp32", "bf16"))
    error = ((exact.astype(float) - rough) / 255) ** 2
    assert -10 * np.log10(max(error.mean(), 1e-9)) >= 45


def rendered_in(networks: Networks, precision: str, faces: np.ndarray, sketches: np.ndarray, mels: np.ndarray) -> np.ndarray:
    generator = Generator(networks, precision)
    generator.remember(faces, faces[::-1])
    return generator.render(faces, sketches, mels)


def drawn(frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Faces and sketches of noise, mel windows."""
    pictures = np.random.default_rng(0).integers(0, 255, (frames, 128, 128, 3), dtype=np.uint8)
    sketches = np.random.default_rng(1).integers(0, 255, (frames, 5, 128, 128, 3), dtype=np.uint8)
    return pictures, sketches, random(frames, 1, 80, 16)


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.copy()).movedim(-1, -3).float() / 255


def test_dubs_that_follow_each_other_share_what_was_prepared(networks: Networks) -> None:
    faces, _, _ = drawn(1)
    for _ in range(2):
        Generator(networks, "bf16").remember(faces, faces)
    assert networks.fast_renderer(torch.bfloat16, compiled=False) is networks.fast_renderer(torch.bfloat16, compiled=False)
    assert networks.fast_renderer(torch.bfloat16, compiled=False) is not networks.fast_renderer(torch.float32, compiled=False)


def test_how_many_frames_at_once_can_be_said(networks: Networks) -> None:
    faces, _, _ = drawn(1)
    generators = Generator(networks), Generator(networks, batch_frames=3), Generator(networks, memory_share=1e-9)
    for generator in generators:
        generator.remember(faces, faces)
    assert [generator.frames_at_once for generator in generators] == [4, 3, 1]


def test_a_compiled_generator_fills_its_batches_up_to_the_most_that_it_is_given_and_no_further(networks: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    translated = translated_batches(monkeypatch)
    generator = Generator(replace(networks, _fast={}), compiled=True, batch_frames=32)
    faces, sketches, mels = drawn(5)
    generator.remember(faces[:1], faces[:1])
    generator.expect_at_most(3)
    generator.expect_at_most(8)
    assert len(generator.render(faces, sketches, mels)) == 5
    assert translated == [3, 3]


def test_a_compiled_generator_computes_a_power_of_two_of_frames(networks: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    translated_batches(monkeypatch)
    monkeypatch.setattr("models.fast_renderer.MOST_FRAMES_ON_CPU", 23)
    faces, _, _ = drawn(1)
    generators = Generator(networks), Generator(replace(networks, _fast={}), compiled=True)
    for generator in generators:
        generator.remember(faces, faces)
    assert [generator.frames_at_once for generator in generators] == [23, 16]


def translated_batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches of frames that are computed from now on, in order; nothing is compiled."""
    sizes: list[int] = []
    translate = FastRenderer.translate
    monkeypatch.setattr(FastRenderer, "compile", lambda *_, **__: None)
    monkeypatch.setattr(FastRenderer, "translate", lambda network, faces, *rest: sizes.append(len(faces)) or translate(network, faces, *rest))
    return sizes


def test_a_containers_limit_is_the_memory_of_its_cpu(networks: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.dubbing.generate.available_memory_bytes", lambda: 1000)
    faces, _, _ = drawn(1)
    generator = Generator(networks)
    generator.remember(faces, faces)
    assert generator.frames_at_once == 1


def test_references_come_first(networks: Networks) -> None:
    with pytest.raises(ValueError, match="remember"):
        Generator(networks).render(*drawn(1))


def test_fp16_is_for_gpus(networks: Networks) -> None:
    with pytest.raises(SettingsError, match="fp16 is for GPUs"):
        Generator(networks, "fp16")


def test_a_machine_that_cannot_compile_says_so(networks: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    no_compiler(monkeypatch)
    with pytest.raises(SettingsError, match=r"a C\+\+ compiler.*compile: false"):
        Generator(networks, compiled=True)


@pytest.mark.soak
def test_compiled_pictures_are_the_same(networks: Networks) -> None:
    faces, sketches, mels = drawn(5)
    eager, compiled = Generator(networks), Generator(networks, compiled=True)
    for generator in (eager, compiled):
        generator.remember(faces[:3], faces[2:])
    assert compiled.render(faces, sketches, mels).astype(int) == pytest.approx(eager.render(faces, sketches, mels).astype(int), abs=1)


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
