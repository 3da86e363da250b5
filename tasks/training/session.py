"""A training process and its part in a group of workers: who it is, what it computes on, how workers add up and agree."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

import torch
from torch import distributed, nn

from schemas.errors import SettingsError
from tasks.training.torchrun import is_under_torchrun

PATIENCE = timedelta(hours=2)
"""How long workers wait for each other: while one validates and writes, or compiles, the others stand still."""
BUCKET_NUMBERS = 2**23
"""Numbers that travel together in a sum of gradients, 32 MB of float32: the next are packed meanwhile."""


def report_to_nobody(metrics: dict[str, float]) -> None:
    """`on_report` of a process that nobody watches."""


class StepFacts(NamedTuple):
    """A step that was made. seconds: since the step or validation before it, and waited_s of them for its batch."""

    losses: dict[str, float]
    samples: int
    """Of all workers."""
    seconds: float
    waited_s: float


def tell_nobody_of_steps(step: StepFacts) -> None:
    """`on_step` of a process that nobody watches."""


@dataclass(frozen=True)
class Session:
    """One worker. `on_report` is called by every worker after each validation, with the metrics on rank 0 and empty elsewhere; `on_step` after each step.

    With world_size > 1 the default process group of torch.distributed must be up.
    """

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    on_report: Callable[[dict[str, float]], None] = report_to_nobody
    on_step: Callable[[StepFacts], None] = tell_nobody_of_steps
    run_name: str = ""
    """Kept with the run's state, so that whoever gave it knows the run again."""

    @property
    def leads(self) -> bool:
        """Whether this worker validates, writes files and tells people."""
        return self.rank == 0


def one_process(device: str = "auto") -> Session:
    """The session of a single process on "cpu", "cuda" or the better of both ("auto"). SettingsError when there is no GPU."""
    return Session(device=_device(device, 0, 1))


@contextmanager
def open_session(device: str = "auto") -> Iterator[Session]:
    """The session of this process: one of torchrun's workers where it runs under torchrun, else the only one.

    Of several workers each has a GPU, that of its LOCAL_RANK, and they speak through nccl; or all compute on CPUs and speak through
    gloo. The process group is taken down at the end, after an error too. SettingsError when there are fewer GPUs than workers here.
    """
    if not is_under_torchrun():
        yield one_process(device)
        return
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    chosen = _device(device, int(os.environ["LOCAL_RANK"]), int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)  # before the group is made: nccl binds each worker to its GPU
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Session(rank=rank, world_size=world_size, device=chosen)
    finally:
        distributed.destroy_process_group()


def _device(wanted: str, local_rank: int, local_workers: int) -> torch.device:
    """The device of one of the workers of this machine."""
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise SettingsError("The settings ask for device cuda, but torch sees no CUDA GPU here; set device to auto or cpu.")
    gpus = torch.cuda.device_count()
    if gpus < local_workers or gpus <= local_rank:
        raise SettingsError(f"There are {local_workers} workers on this machine, but torch sees {gpus} GPUs; start as many workers, or set device to cpu.")
    return torch.device("cuda", local_rank) if local_workers > 1 else torch.device("cuda")


def sum_over_workers(values: torch.Tensor, session: Session) -> torch.Tensor:
    """The sum of a tensor over all workers, the same on each; without gradients. Changes `values` in place."""
    if session.world_size > 1:
        distributed.all_reduce(values)
    return values


def wait_for_all(session: Session) -> None:
    """Goes on when every worker has come here."""
    sum_over_workers(torch.zeros(1, device=session.device), session).item()  # reading the number waits, also for a GPU's


def from_leader(value: str, session: Session) -> str:
    """The value that rank 0 gives, on every worker."""
    if session.world_size == 1:
        return value
    said = torch.tensor(list(value.encode()), dtype=torch.uint8, device=session.device)
    length = torch.tensor([len(said)], device=session.device)
    distributed.broadcast(length, src=0)
    heard = said if session.leads else torch.empty(int(length.item()), dtype=torch.uint8, device=session.device)
    distributed.broadcast(heard, src=0)
    return bytes(heard.tolist()).decode()


def add_up_gradients(networks: Iterable[nn.Module], session: Session) -> None:
    """Replaces every gradient by its sum over workers. With losses weighted by each worker's share of the batch, that is the whole batch's gradient.

    Every worker must have gradients of the same parameters.
    """
    if session.world_size == 1:
        return
    gradients = [parameter.grad for network in networks for parameter in network.parameters() if parameter.grad is not None]
    under_way = []
    for bucket in _buckets(gradients):
        flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
        under_way.append((bucket, flat, distributed.all_reduce(flat, async_op=True)))
    for bucket, flat, work in under_way:
        work.wait()
        for gradient, piece in zip(bucket, torch.split(flat, [gradient.numel() for gradient in bucket]), strict=True):
            gradient.copy_(piece.view_as(gradient))


def _buckets(gradients: list[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """The gradients in order, in lists of about BUCKET_NUMBERS numbers."""
    bucket: list[torch.Tensor] = []
    for gradient in gradients:
        bucket.append(gradient)
        if sum(kept.numel() for kept in bucket) >= BUCKET_NUMBERS:
            yield bucket
            bucket = []
    if bucket:
        yield bucket
