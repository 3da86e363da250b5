"""Weights of other people's networks that metrics look through: read from where settings say, never downloaded, never cached."""

from torch import Tensor, nn

from models.checkpoint import read_tensors
from models.iplap import read_published_tensors
from schemas.errors import CheckpointError
from schemas.locations import without_secrets


def read_state_dict(location: str) -> dict[str, Tensor]:
    """The tensors by name, on the CPU, of a .safetensors file or of a .pth file that holds weights and nothing that could run; a path or URI.

    Raises CheckpointError when the file is not there or is neither.
    """
    return read_tensors(location) if location.endswith(".safetensors") else read_published_tensors(location).tensors


def fill(network: nn.Module, tensors: dict[str, Tensor], location: str, name: str) -> None:
    """Gives a network its weights. Raises CheckpointError, which says that `location` holds no `name`, when one is missing, too many or of another shape."""
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"{without_secrets(location)} does not hold the weights of {name}.") from error
