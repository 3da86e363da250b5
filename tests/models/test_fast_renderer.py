import math

import pytest
import torch
from torch import Tensor, nn

from models import Renderer
from models.fast_renderer import FastRenderer, KnownReferences, Room, normalised
from models.renderer import PRESETS, EncodedReferences
from schemas.checkpoints import RendererSize

Inputs = tuple[Tensor, ...]


def like_a_trained(network: Renderer) -> Renderer:
    """Batch statistics that are not the first ones, and flows of several pixels: random weights would move nothing."""
    torch.manual_seed(6)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    network.flow.flow_head.weight.data *= 10
    return network.eval()


def drawn_inputs(frames: int, references: int, size_px: int = 128) -> Inputs:
    """face, sketches, reference faces, reference sketches, mel: smooth pictures, thin lines; always the same."""
    random = torch.Generator().manual_seed(8)

    def pictures(*shape: int) -> Tensor:
        rough = torch.rand(math.prod(shape), 3, 8, 8, generator=random)
        return nn.functional.interpolate(rough, size=(size_px, size_px), mode="bicubic").clamp(0, 1).view(*shape, 3, size_px, size_px)

    def lines(*shape: int) -> Tensor:
        return (torch.rand(*shape, 3, size_px, size_px, generator=random) > 0.95).float()

    return pictures(frames), lines(frames, 5), pictures(1, references), lines(1, references), torch.randn(frames, 1, 80, 16, generator=random)


@torch.no_grad()
def rendered(network: FastRenderer, inputs: Inputs, references_at_once: int = 1) -> tuple[Tensor, Tensor]:
    """Generated faces and warped references."""
    face, sketches, reference_faces, reference_sketches, mel = inputs
    warped = network.warp(network.encode_references(reference_faces[0], reference_sketches[0]), sketches, references_at_once)
    return network.translate(face, sketches, warped, mel), warped.face


def psnr_db(one: Tensor, other: Tensor) -> float:
    return -10 * math.log10((one - other).square().mean().item())


@pytest.fixture(scope="module")
def small() -> Renderer:
    return like_a_trained(Renderer(PRESETS["small"]))


@pytest.mark.parametrize(("width", "frames", "references", "at_once"), [(256, 1, 2, 1), (64, 2, 5, 2), (64, 1, 1, 1), (64, 3, 3, 3), (8, 2, 4, 3)])
def test_float32_equals_the_plain_forward(width: int, frames: int, references: int, at_once: int) -> None:
    network, inputs = like_a_trained(Renderer(RendererSize(width=width))), drawn_inputs(frames, references)
    with torch.no_grad():
        generated, warped = network(*inputs)
    fast, fast_warped = rendered(FastRenderer.of(network), inputs, at_once)
    assert generated.std() > 0.01
    torch.testing.assert_close(fast_warped, warped, atol=1e-4, rtol=0)
    torch.testing.assert_close(fast, generated, atol=1e-4, rtol=0)


def test_256_pixels(small: Renderer) -> None:
    inputs = drawn_inputs(1, 2, size_px=256)
    with torch.no_grad():
        generated, _ = small(*inputs)
    torch.testing.assert_close(rendered(FastRenderer.of(small), inputs)[0], generated, atol=1e-4, rtol=0)


@pytest.mark.parametrize("width", [pytest.param(256, marks=pytest.mark.soak), 64])  # a processor without bf16 takes long
def test_bfloat16_is_within_45_db(width: int) -> None:
    network, inputs = like_a_trained(Renderer(RendererSize(width=width))), drawn_inputs(1, 3)
    with torch.no_grad():
        generated, warped = network(*inputs)
    rough, rough_warped = rendered(FastRenderer.of(network, torch.bfloat16), inputs)
    assert rough.dtype == rough_warped.dtype == torch.float32
    assert psnr_db(rough, generated) >= 45
    assert psnr_db(rough_warped, warped) >= 45


def test_a_face_does_not_depend_on_its_batch(small: Renderer) -> None:
    fast, inputs = FastRenderer.of(small), drawn_inputs(3, 2)
    face, sketches, *references, mel = inputs
    together = rendered(fast, inputs)[0]
    alone = torch.cat([rendered(fast, (face[i : i + 1], sketches[i : i + 1], *references, mel[i : i + 1]))[0] for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@torch.no_grad()
def test_what_references_and_sketches_decide_is_computed_once(small: Renderer) -> None:
    fast = FastRenderer.of(small)
    calls: list[str] = []
    for name in ("reference_encoder", "coarse_block_1.first_modulation", "coarse_block_1.first_convolution"):
        fast.flow.get_submodule(name).register_forward_hook(lambda *_, name=name: calls.append(name))
    _, sketches, faces, reference_sketches, _ = drawn_inputs(2, 4)
    known = fast.encode_references(faces[0], reference_sketches[0])
    fast.warp(known, sketches, 2)
    assert calls.count("reference_encoder") == 1
    assert calls.count("coarse_block_1.first_modulation") == 2  # frames
    assert calls.count("coarse_block_1.first_convolution") == 4  # two frames, four references in pairs


@torch.no_grad()
def test_known_references_are_the_plain_ones_and_stay(small: Renderer) -> None:
    _, sketches, faces, reference_sketches, _ = drawn_inputs(2, 3)
    plain: EncodedReferences = small.encode_references(faces, reference_sketches)
    fast = FastRenderer.of(small)
    known: KnownReferences = fast.encode_references(faces[0], reference_sketches[0])
    torch.testing.assert_close(known.fine, plain.fine[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(known.coarse, plain.coarse[0], atol=1e-5, rtol=0)
    before = known.normalised.clone()
    fast.warp(known, sketches, 3)
    assert torch.equal(known.normalised, before)


def test_the_renderer_itself_stays_as_it_is(small: Renderer) -> None:
    before = {name: values.clone() for name, values in small.state_dict().items()}
    FastRenderer.of(small, torch.bfloat16)
    assert all(torch.equal(values, before[name]) for name, values in small.state_dict().items())
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in small.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_an_instance_norm_in_any_layout(dtype: torch.dtype, layout: torch.memory_format) -> None:
    x = (100 + torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(1))).to(dtype).to(memory_format=layout)
    expected = nn.functional.instance_norm(x.double())
    torch.testing.assert_close(normalised(x.clone()).double(), expected, atol=1e-3 if dtype is torch.float32 else 2e-2, rtol=0)
    assert normalised(x).is_contiguous(memory_format=layout)


def test_how_much_fits(small: Renderer) -> None:
    network = FastRenderer.of(small)
    assert Room.within(0, network, 128, 25) == Room(references=1, frames=1)
    roomy = Room.within(2**40, network, 128, 25)
    assert roomy == Room(references=1, frames=4)
    on_gpu = FastRenderer.of(Renderer(PRESETS["published"]).to("meta"), torch.bfloat16)
    assert Room.within(2**40, on_gpu, 128, 25) == Room(references=25, frames=32)
    little = Room.within(2**28, on_gpu, 128, 25)
    assert 1 < little.references < 25
    assert Room.within(2**28, on_gpu, 256, 25).references < little.references


def test_what_is_compiled_is_compiled_for_few_numbers_of_frames() -> None:
    on_gpu = FastRenderer.of(Renderer(PRESETS["published"]).to("meta"), torch.bfloat16)
    free = [2**20 * megabytes for megabytes in range(1, 4000, 7)]
    plain, compiled = ([Room.within(memory, on_gpu, 128, 25, compiled=way).frames for memory in free] for way in (False, True))
    assert set(plain) == set(range(1, 33))
    assert set(compiled) == {1, 2, 4, 8, 16, 32}
    assert all(frames // 2 < few <= frames for frames, few in zip(plain, compiled, strict=True))
