import pytest
import torch

from tasks.training.averaging import AveragedWeights


def a_network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))


def test_the_average_moves_by_what_the_decay_leaves() -> None:
    network = a_network()
    averaged = AveragedWeights(network, decay=0.9)
    before = network[0].weight.detach().clone()
    with torch.no_grad():
        network[0].weight += 1.0
    averaged.update(steps=1000)
    torch.testing.assert_close(averaged.network[0].weight, before + 0.1)


def test_the_start_is_soon_forgotten() -> None:
    network = a_network()
    averaged = AveragedWeights(network, decay=0.9999)
    with torch.no_grad():
        network[0].weight.fill_(5.0)
    for steps in range(1, 200):
        averaged.update(steps)
    assert averaged.network[0].weight.mean().item() == pytest.approx(5.0, abs=0.01)


def test_without_a_decay_it_is_the_last_step() -> None:
    network = a_network()
    averaged = AveragedWeights(network, decay=0.0)
    network.train()(torch.randn(8, 2))
    with torch.no_grad():
        network[0].weight += 1.0
    averaged.update(steps=500)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(averaged.network.state_dict()[name], value)


def test_running_statistics_are_averaged_and_counts_copied() -> None:
    network = a_network()
    averaged = AveragedWeights(network, decay=0.5)
    network.train()(torch.randn(8, 2) + 3)
    averaged.update(steps=1000)
    torch.testing.assert_close(averaged.network[1].running_mean, 0.5 * network[1].running_mean)
    assert averaged.network[1].num_batches_tracked.item() == 1


def test_the_average_neither_learns_nor_trains() -> None:
    averaged = AveragedWeights(a_network().train(), decay=0.9)
    assert not averaged.network.training
    assert not any(parameter.requires_grad for parameter in averaged.network.parameters())
