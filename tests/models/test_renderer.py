from pathlib import Path

import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from models import Renderer, load_renderer
from models.renderer import PRESETS, WarpedReferences, at_half_size, masked, sample, sampling_grid

Inputs = tuple[Tensor, ...]


@pytest.fixture(scope="module")
def published_result(imported_renderer: Path, renderer_inputs: Inputs) -> tuple[Tensor, WarpedReferences]:
    """What the published network makes of the reference inputs: generated faces and warped references. Once, it takes seconds."""
    network = load_renderer(str(imported_renderer))
    face, sketches, reference_faces, reference_sketches, mel = renderer_inputs
    with torch.no_grad():
        warped = network.warp(network.encode_references(reference_faces, reference_sketches), sketches)
        return network.translate(face, sketches, warped, mel), warped


def test_equals_the_original(published_result: tuple[Tensor, WarpedReferences], golden: dict[str, npt.NDArray]) -> None:
    generated, warped = published_result
    torch.testing.assert_close(warped.face, torch.from_numpy(golden["renderer.warped_reference"]), atol=1e-4, rtol=0)
    torch.testing.assert_close(generated, torch.from_numpy(golden["renderer.generated"]), atol=1e-4, rtol=0)


def test_warped_features_equal_the_original_s(published_result: tuple[Tensor, WarpedReferences], golden: dict[str, npt.NDArray]) -> None:
    _, warped = published_result
    for features, name in ((warped.fine, "128"), (warped.coarse, "64")):
        mean, spread = golden[f"renderer.warped_features_{name}_mean_std"]
        assert features.mean().item() == pytest.approx(mean, abs=1e-4)
        assert features.std().item() == pytest.approx(spread, abs=1e-4)


@pytest.fixture(scope="module")
def few_inputs(renderer_inputs: Inputs) -> Inputs:
    """Two targets, two references."""
    face, sketches, reference_faces, reference_sketches, mel = renderer_inputs
    return face, sketches, reference_faces[:, :2], reference_sketches[:, :2], mel


def test_forward_is_its_three_steps(small_renderer: Renderer, few_inputs: Inputs) -> None:
    face, sketches, reference_faces, reference_sketches, mel = few_inputs
    with torch.no_grad():
        generated, warped_face = small_renderer(*few_inputs)
        warped = small_renderer.warp(small_renderer.encode_references(reference_faces, reference_sketches), sketches)
        assert torch.equal(warped.face, warped_face)
        assert torch.equal(small_renderer.translate(face, sketches, warped, mel), generated)


def test_shared_references_equal_repeated_ones(small_renderer: Renderer, few_inputs: Inputs) -> None:
    face, sketches, faces, reference_sketches, mel = few_inputs
    faces, reference_sketches = faces[:1], reference_sketches[:1]
    with torch.no_grad():
        shared = small_renderer(face, sketches, faces, reference_sketches, mel)
        repeated = small_renderer(face, sketches, faces.expand(2, -1, -1, -1, -1), reference_sketches.expand(2, -1, -1, -1, -1), mel)
    torch.testing.assert_close(shared, repeated)


def test_the_lower_half_of_the_face_is_not_seen(small_renderer: Renderer, few_inputs: Inputs) -> None:
    face, *others = few_inputs
    lower, upper = face.clone(), face.clone()
    lower[:, :, 64:] = 1.0
    upper[:, :, :64] = 1.0
    with torch.no_grad():
        as_given = small_renderer(face, *others)[0]
        assert torch.equal(small_renderer(lower, *others)[0], as_given)
        assert not torch.allclose(small_renderer(upper, *others)[0], as_given)
    assert masked(face)[:, :, 64:].count_nonzero() == 0
    assert torch.equal(masked(face)[:, :, :64], face[:, :, :64])


def test_a_face_does_not_depend_on_its_batch(small_renderer: Renderer, few_inputs: Inputs) -> None:
    with torch.no_grad():
        both = small_renderer(*few_inputs)[0]
        second = small_renderer(*(value[1:] for value in few_inputs))[0]
    torch.testing.assert_close(both[1:], second, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("index", [1, 2, 3, 4])
def test_every_input_matters(small_renderer: Renderer, few_inputs: Inputs, index: int) -> None:
    changed = list(few_inputs)
    changed[index] = torch.rand(changed[index].shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert not torch.allclose(small_renderer(*few_inputs)[0], small_renderer(*changed)[0], atol=1e-5)


def test_256_pixels(few_inputs: Inputs) -> None:
    network = Renderer(PRESETS["small"].replaced(size=256)).eval()
    face, sketches, faces, reference_sketches, mel = (value[:1] for value in few_inputs)
    large = [value.repeat_interleave(2, -1).repeat_interleave(2, -2) for value in (face, sketches, faces[:, :1], reference_sketches[:, :1])]
    with torch.no_grad():
        generated, warped = network(*large, mel)
    assert generated.shape == warped.shape == (1, 3, 256, 256)
    assert 0 <= generated.min() <= generated.max() <= 1


@pytest.mark.parametrize(("preset", "smallest", "largest"), [("published", 18.9e6, 19.05e6), ("small", 1e6, 2e6)])
def test_sizes(preset: str, smallest: float, largest: float) -> None:
    network = Renderer(PRESETS[preset])  # type: ignore[index]
    assert smallest <= sum(parameter.numel() for parameter in network.parameters()) <= largest


def test_every_parameter_learns(few_inputs: Inputs) -> None:
    network = Renderer(PRESETS["small"])
    generated, warped = network(*few_inputs)
    (generated.square().mean() + warped.square().mean()).backward()
    silent = [name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.isfinite().all()]
    assert silent == []


def test_flow_moves_pixels_along_x_then_y() -> None:
    picture = torch.arange(64.0).view(1, 1, 8, 8)
    flow = torch.zeros(1, 2, 8, 8)
    still = sample(picture, sampling_grid(flow))
    flow[:, 0] = 2.0
    to_the_right = sample(picture, sampling_grid(flow))
    # Two pixels of a grid of 7 steps are 16 / 7 pixels of a picture 8 wide.
    torch.testing.assert_close((to_the_right - still)[..., 2:6, 2:4], torch.full((1, 1, 4, 2), 16 / 7), atol=1e-4, rtol=0)


def test_half_size_is_nearest_neighbour() -> None:
    x = torch.rand(1, 3, 128, 128)
    assert torch.equal(at_half_size(x), torch.nn.functional.interpolate(x, size=(64, 64), mode="nearest"))
