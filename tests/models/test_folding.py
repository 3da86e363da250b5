import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models.blocks import AdaptiveInstanceLayer, ConvolutionBlock, SpadeLayer
from models.folding import (
    FoldedSpadeLayer,
    MergedSpadeLayer,
    NarrowConvolution,
    composed,
    fast_modulation,
    folding_saves,
    without_batch_norms,
)


@pytest.fixture(autouse=True)
def _always_the_same() -> None:
    torch.manual_seed(4)


@pytest.mark.parametrize("fast", [FoldedSpadeLayer, MergedSpadeLayer])
@pytest.mark.parametrize(("condition", "hidden", "channels", "side_px"), [(15, 64, 16, 32), (3, 32, 8, 7), (40, 16, 8, 3), (1, 4, 2, 2)])
@torch.no_grad()
def test_a_rewritten_spade_layer_gives_the_same_everywhere(fast: type[nn.Module], condition: int, hidden: int, channels: int, side_px: int) -> None:
    layer = SpadeLayer(channels, condition, hidden)
    picture = torch.randn(2, condition, side_px, side_px)
    plain, scaling = layer(picture), fast(layer)(picture)
    torch.testing.assert_close(scaling.scale, 1 + plain.gain, atol=1e-5, rtol=0)
    torch.testing.assert_close(scaling.shift, plain.shift, atol=1e-5, rtol=0)


@torch.no_grad()
def test_without_the_correction_the_border_would_be_wrong_and_nothing_else() -> None:
    layer = SpadeLayer(8, 15, 32)
    folded, picture = FoldedSpadeLayer(layer), torch.randn(1, 15, 16, 16)
    uncorrected = folded.inside(picture)[:, 8:]
    difference = (uncorrected - layer(picture).shift).abs().amax(dim=(0, 1))
    assert difference[1:-1, 1:-1].max() < 1e-5
    assert difference[0].min() > 1e-3
    assert difference[:, -1].min() > 1e-3


@torch.no_grad()
def test_two_convolutions_in_a_row_are_one() -> None:
    inner, outer, picture = nn.Conv2d(3, 6, 3, bias=False), nn.Conv2d(6, 4, 3, bias=False), torch.randn(1, 3, 12, 12)
    kernel = composed(outer.weight, inner.weight)
    assert kernel.shape == (4, 3, 5, 5)
    torch.testing.assert_close(nn.functional.conv2d(picture, kernel), outer(inner(picture)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("condition", "channels", "pays"), [(15, 256, True), (15, 64, True), (3, 64, True), (32, 64, True), (256, 256, False)])
def test_a_layer_is_folded_where_that_takes_fewer_operations(condition: int, channels: int, pays: bool) -> None:
    """The published renderer's five kinds of SPADE layer, and what torch counts of each."""
    with torch.device("meta"), torch.no_grad():
        layer, picture = SpadeLayer(channels, condition, 256), torch.zeros(1, condition, 128, 128)
    flop = []
    for convolutions in ([(condition, 256, 3), (256, 2 * channels, 3)], [(condition, 2 * channels, 5)]):
        with FlopCounterMode(display=False) as counter, torch.device("meta"), torch.no_grad():
            for before, behind, kernel in convolutions:
                nn.Conv2d(before, behind, kernel, padding=kernel // 2)(picture.new_zeros(1, before, 128, 128))
        flop.append(counter.get_total_flops())
    assert folding_saves(layer) is pays
    assert (flop[1] < flop[0]) is pays


def test_layers_are_rewritten_by_their_kind() -> None:
    assert isinstance(fast_modulation(SpadeLayer(8, 3, 16)), FoldedSpadeLayer)
    assert isinstance(fast_modulation(SpadeLayer(8, 64, 16)), MergedSpadeLayer)
    with pytest.raises(TypeError, match="Linear"):
        fast_modulation(nn.Linear(2, 2))


@torch.no_grad()
def test_an_adaptive_instance_layer_gives_the_same() -> None:
    layer, heard = AdaptiveInstanceLayer(6, 10, 8), torch.randn(3, 10)
    plain, scaling = layer(heard), fast_modulation(layer)(heard)
    torch.testing.assert_close(scaling.scale, 1 + plain.gain)
    torch.testing.assert_close(scaling.shift, plain.shift)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("channels", "kernel"), [(1, 7), (2, 7), (3, 5)])
@torch.no_grad()
def test_a_convolution_by_rows_gives_the_same(channels: int, kernel: int, bias: bool) -> None:
    layer, picture = nn.Conv2d(8, channels, kernel, padding=kernel // 2, bias=bias), torch.randn(2, 8, 9, 12)
    torch.testing.assert_close(NarrowConvolution(layer)(picture), layer(picture), atol=1e-5, rtol=0)


@torch.no_grad()
def test_batch_norms_become_part_of_their_convolutions() -> None:
    blocks = nn.Sequential(*(ConvolutionBlock(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), residual=True) for _ in range(2))).eval()
    for block in blocks:
        block.normalisation.running_mean.normal_()
        block.normalisation.running_var.uniform_(0.5, 2)
    picture = torch.randn(1, 4, 8, 8)
    folded = without_batch_norms(blocks)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in blocks.modules())
    torch.testing.assert_close(folded(picture), blocks(picture), atol=1e-5, rtol=0)
