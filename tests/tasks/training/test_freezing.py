import pytest
import torch
from torch import nn

from schemas.errors import SettingsError
from tasks.training.freezing import BATCH_NORM, freeze, into_training, learning


def a_network() -> nn.ModuleDict:
    return nn.ModuleDict({"ear": nn.Linear(2, 2), "mouth": nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))})


def test_what_is_frozen_does_not_learn() -> None:
    network = a_network()
    freeze(network, ["ear"])
    assert len(learning(network)) == 4
    assert not network["ear"].weight.requires_grad


def test_frozen_batch_normalisations_keep_statistics_and_weights() -> None:
    network = a_network()
    freeze(network, [BATCH_NORM])
    into_training(network, [BATCH_NORM])
    assert network["mouth"].training
    network["mouth"](torch.randn(5, 2) + 9)
    assert torch.equal(network["mouth"][1].running_mean, torch.zeros(2))
    assert not network["mouth"][1].weight.requires_grad
    into_training(network, [])
    assert network["mouth"][1].training


def test_a_name_of_nothing_is_one_sentence_that_names_the_parts() -> None:
    with pytest.raises(SettingsError, match="under the name nose; the network's parts are ear, mouth"):
        freeze(a_network(), ["nose"])


def test_freezing_everything_is_refused() -> None:
    with pytest.raises(SettingsError, match="Everything is frozen"):
        freeze(a_network(), ["ear", "mouth"])
