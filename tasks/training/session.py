"""A training process and its part in a group of workers: who it is, what it computes on, how workers add up."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import distributed, nn

from schemas.errors import SettingsError


def report_to_nobody(metrics: dict[str, float]) -> None:
    """`on_report` of a process that nobody watches."""


@dataclass(frozen=True)
class Session:
    """One worker. `on_report` is called by every worker after each validation, with the metrics on rank 0 and empty elsewhere.

    With world_size > 1 the default process group of torch.distributed must be up.
    """

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    on_report: Callable[[dict[str, float]], None] = report_to_nobody
    run_name: str = ""
    """Kept with the run's state, so that whoever gave it knows the run again."""

    @property
    def leads(self) -> bool:
        """Whether this worker validates, writes files and tells people."""
        return self.rank == 0


def one_process(device: str = "auto") -> Session:
    """The session of a single process on "cpu", "cuda" or the better of both ("auto"). SettingsError when there is no GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("The settings ask for device cuda, but torch sees no CUDA GPU here; set device to auto or cpu.")
    wanted = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    return Session(device=torch.device(wanted))


def sum_over_workers(values: torch.Tensor, session: Session) -> torch.Tensor:
    """The sum of a tensor over all workers, the same on each; without gradients. Changes `values` in place."""
    if session.world_size > 1:
        distributed.all_reduce(values)
    return values


def add_up_gradients(networks: Iterable[nn.Module], session: Session) -> None:
    """Replaces every gradient by its sum over workers. With losses weighted by each worker's share of the batch, that is the whole batch's gradient."""
    if session.world_size == 1:
        return
    gradients = [parameter.grad for network in networks for parameter in network.parameters() if parameter.grad is not None]
    if not gradients:
        return
    flat = sum_over_workers(torch.cat([gradient.reshape(-1) for gradient in gradients]), session)
    for gradient, piece in zip(gradients, torch.split(flat, [gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(piece.view_as(gradient))
