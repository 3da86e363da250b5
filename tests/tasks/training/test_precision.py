import pytest
import torch

from schemas.errors import SettingsError
from tasks.training.precision import Precision

CPU = torch.device("cpu")


def test_a_cpu_computes_in_float32_unless_told() -> None:
    assert Precision("auto", CPU).dtype is torch.float32
    assert Precision("bf16", CPU).dtype is torch.bfloat16


def test_fp16_on_a_cpu_is_one_sentence() -> None:
    with pytest.raises(SettingsError, match="fp16 is for GPUs"):
        Precision("fp16", CPU)


def test_within_autocast_products_are_of_that_precision() -> None:
    a = torch.randn(4, 4)
    with Precision("bf16", CPU).autocast():
        assert (a @ a).dtype is torch.bfloat16
    with Precision("fp32", CPU).autocast():
        assert (a @ a).dtype is torch.float32


def test_a_step_without_scaling_is_the_optimisers_own() -> None:
    weight = torch.nn.Parameter(torch.tensor([2.0]))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    precision = Precision("fp32", CPU)
    precision.descend((weight**2).sum())
    precision.unscale([optimizer])
    precision.step([optimizer])
    assert weight.item() == pytest.approx(0.0)
    assert not precision.lowers_scale()


def test_scaled_losses_give_true_gradients_and_an_overflow_lowers_the_scale() -> None:
    precision = Precision("fp32", CPU)
    precision.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    weight = torch.nn.Parameter(torch.tensor([2.0]))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    precision.descend((weight**2).sum())
    assert weight.grad is not None
    assert weight.grad.item() == pytest.approx(4 * 1024)
    precision.unscale([optimizer])
    assert weight.grad.item() == pytest.approx(4.0)
    precision.step([optimizer])
    assert weight.item() == pytest.approx(0.0)
    weight.grad.fill_(float("inf"))
    precision.unscale([optimizer])
    assert precision.lowers_scale()
    assert precision.scaler.get_scale() == pytest.approx(512.0)


def test_an_overflow_at_the_lowest_scale_is_no_matter_of_scaling() -> None:
    precision = Precision("fp32", CPU)
    precision.scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    weight = torch.nn.Parameter(torch.tensor([2.0]))
    precision.descend(weight.sum())
    weight.grad = torch.tensor([float("nan")])
    precision.unscale([torch.optim.SGD([weight], lr=0.5)])
    assert not precision.lowers_scale()
