"""Parts of a network that do not learn."""

from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from schemas.errors import SettingsError

BATCH_NORM = "batch-norm"
"""In the setting `freeze`: every batch normalisation keeps its running statistics and its weights."""


def freeze(network: nn.Module, names: Iterable[str]) -> None:
    """Takes from learning the parameters whose names begin with one of `names`. SettingsError for a name that nothing begins with."""
    for name in names:
        if name == BATCH_NORM:
            for norm in _batch_norms(network):
                norm.requires_grad_(requires_grad=False)
            continue
        parameters = [parameter for own_name, parameter in network.named_parameters() if own_name.startswith(name)]
        if not parameters:
            parts = ", ".join(dict(network.named_children()))
            raise SettingsError(f"There is nothing to freeze under the name {name}; the network's parts are {parts}, and {BATCH_NORM}.")
        for parameter in parameters:
            parameter.requires_grad = False
    if not learning(network):
        raise SettingsError("Everything is frozen, so there is nothing to train; freeze less.")


def learning(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that learn."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def into_training(network: nn.Module, names: Iterable[str]) -> None:
    """Puts a network into training mode, frozen batch normalisations excepted."""
    network.train()
    if BATCH_NORM in names:
        for norm in _batch_norms(network):
            norm.eval()


def _batch_norms(network: nn.Module) -> list[_BatchNorm]:
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]
