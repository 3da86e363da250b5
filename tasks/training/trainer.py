"""What differs between the two networks in training: their losses, samples and validation."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Generic, Literal

import torch
from torch import nn

from schemas.checkpoints import Ancestor, Kind, LandmarkGeneratorSize, RendererSize
from schemas.settings import TrainingSettings
from tasks.training.averaging import AveragedWeights
from tasks.training.freezing import freeze, into_training, learning
from tasks.training.precision import Precision
from tasks.training.samples import BatchKind, Samples
from tasks.training.state import Position
from tasks.training.validation import Validation

Losses = dict[str, torch.Tensor]


class Trainer(ABC, Generic[BatchKind]):
    """A network, what learns beside it, and what it learns from. The first of `networks` is the one that is kept."""

    kind: Kind
    architecture: LandmarkGeneratorSize | RendererSize
    samples: Samples[BatchKind]
    validation: Validation
    ancestors: tuple[Ancestor, ...] = ()
    perceptual_source: Literal["imagenet", "seeded-random"] | None = None

    def __init__(self, settings: TrainingSettings, networks: dict[str, nn.Module], device: torch.device) -> None:
        self.common = settings
        self.device = device
        self.precision = Precision(settings.precision, device)
        self.networks = {name: network.to(device) for name, network in networks.items()}
        for network in self.networks.values():
            self.lay_out(network)
        freeze(self.kept, settings.freeze)
        self.optimizers = {name: self.optimizer(name, learning(network)) for name, network in self.networks.items()}
        self.averaged = AveragedWeights(self.kept, settings.ema_decay)
        if settings.compile:
            for part in self.compiled_parts():
                part.compile()

    def lay_out(self, network: nn.Module) -> None:
        """Puts colours innermost in memory, on GPUs: on a CPU the renderer's step took a quarter longer with it."""
        if self.common.channels_last and self.device.type == "cuda":
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs know of tensors only

    @property
    def kept(self) -> nn.Module:
        """The network that is trained for use, with the weights of the last step."""
        return next(iter(self.networks.values()))

    @abstractmethod
    def optimizer(self, name: str, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser of one of `networks`."""

    @abstractmethod
    def compiled_parts(self) -> list[nn.Module]:
        """The modules whose `forward` is worth compiling."""

    @abstractmethod
    def backward(self, batch: BatchKind, position: Position, share: float) -> Losses:
        """Leaves gradients of `share` times the losses in the networks; gives the losses, means over the batch, most telling first.

        share: of the whole batch, where several workers split it.
        """

    def is_warming_up(self, position: Position) -> bool:  # noqa: ARG002 - for those that have phases
        """Whether the network is in a phase in which its validation does not count yet."""
        return False

    def into_training(self) -> None:
        """Puts every network into training mode, what is frozen excepted."""
        for network in self.networks.values():
            into_training(network, self.common.freeze if network is self.kept else ())

    def absent_metrics(self) -> Mapping[str, str]:
        """Metrics that the validation cannot measure, and why."""
        return self.validation.absent
