from collections.abc import Callable

import numpy.typing as npt
import torch
from torch import Tensor

from models.discriminator import Discriminator
from models.iplap import fill_from_published


def test_equals_the_original(published_state: Callable[[str], dict[str, Tensor]], renderer_inputs: tuple[Tensor, ...], golden: dict[str, npt.NDArray]) -> None:
    network = Discriminator().eval()
    fill_from_published(network, "discriminator", published_state("discriminator"), "the rule")
    with torch.no_grad():
        full, half = network(renderer_inputs[0])
    torch.testing.assert_close(full[-1], torch.from_numpy(golden["discriminator.scale0"]), atol=1e-4, rtol=0)
    torch.testing.assert_close(half[-1], torch.from_numpy(golden["discriminator.scale1"]), atol=1e-4, rtol=0)


def test_five_layers_of_features_at_two_scales() -> None:
    with torch.no_grad():
        full, half = Discriminator()(torch.rand(1, 3, 128, 128))
    assert [tuple(layer.shape[1:]) for layer in full] == [(64, 65, 65), (128, 33, 33), (256, 17, 17), (512, 18, 18), (1, 19, 19)]
    assert [layer.shape[1] for layer in half] == [64, 128, 256, 512, 1]
