"""Averaged weights: an exponential moving average over the steps, steadier than the last step's weights. They are the ones that are used."""

import copy

import torch
from torch import nn


class AveragedWeights:
    """The average of a network's weights and running statistics, as `network`, in evaluation mode.

    The average is short at the beginning (after n steps about the last (n + 10) / 9 count), so that a short run does not drag its start along.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(requires_grad=False).eval()
        self.decay = decay
        pairs = list(zip(self.network.state_dict().values(), network.state_dict().values(), strict=True))  # the tensors themselves, not copies
        self._averages = [average for average, _ in pairs if average.is_floating_point()]
        self._latest = [latest for average, latest in pairs if average.is_floating_point()]
        self._counts = [(average, latest) for average, latest in pairs if not average.is_floating_point()]

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Takes in the network's weights after so many steps."""
        decay = min(self.decay, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(self._averages, self._latest, 1 - decay)  # one call for all tensors
        for average, latest in self._counts:
            average.copy_(latest)
