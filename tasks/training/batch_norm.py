"""Batch normalisation over all workers' samples, so that losses do not change with the number of workers.

torch's own SyncBatchNorm, which is one kernel where ours is a dozen, serves GPUs; it refuses CPUs, and for those there is ours.
Both have the parameters and buffers of the batch normalisation that they replace, under the same names.
"""

from typing import Any, cast

import torch
from torch import distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _SumOverWorkers(torch.autograd.Function):
    """A sum over workers whose gradient is the sum of the workers' gradients."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:  # noqa: ARG004 - torch's signature
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:  # noqa: ARG004 - torch's signature
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return total


def _sum_over_workers(values: torch.Tensor) -> torch.Tensor:
    return cast(torch.Tensor, _SumOverWorkers.apply(values))  # type: ignore[no-untyped-call]


class WorkersBatchNorm(_BatchNorm):
    """Batch normalisation of (B, C) or (B, C, ...) whose batch is that of all workers together. In evaluation mode as usual.

    Statistics are float32 whatever the input; the output has the input's dtype. Workers may have different numbers of samples.
    """

    def _check_input_dim(self, input: torch.Tensor) -> None:  # noqa: A002 - torch's name
        if input.dim() < 2:
            raise ValueError(f"expected 2 or more dimensions, got {input.dim()}")

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - torch's name
        """Normalises over every dimension but the second, and over workers."""
        if not self.training:
            return super().forward(input)
        dimensions = [dimension for dimension in range(input.dim()) if dimension != 1]
        shape = [1, -1] + [1] * (input.dim() - 2)
        x = input.float()
        here = torch.full((1,), float(x.numel() // x.shape[1]), device=x.device)
        sums = _sum_over_workers(torch.cat([x.sum(dimensions), here]))
        mean, count = sums[:-1] / sums[-1], float(sums[-1].detach())
        centred = x - mean.view(shape)
        variance = _sum_over_workers(centred.square().sum(dimensions)) / count
        self._remember(mean.detach(), variance.detach(), count)
        normalised = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return normalised.to(input.dtype)

    def _remember(self, mean: torch.Tensor, variance: torch.Tensor, count: float) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * count / max(count - 1, 1), momentum)


def normalise_over_workers(network: nn.Module) -> None:
    """Replaces every batch normalisation in a network by one over all workers; parameters, buffers and their names stay."""
    for name, child in network.named_children():
        if isinstance(child, _BatchNorm):
            setattr(network, name, _over_workers(child))
        else:
            normalise_over_workers(child)


def _over_workers(norm: _BatchNorm) -> _BatchNorm:
    make = nn.SyncBatchNorm if norm.weight is not None and norm.weight.device.type == "cuda" else WorkersBatchNorm
    replacement = make(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    replacement.weight, replacement.bias = norm.weight, norm.bias  # the same tensors, so that optimisers keep them
    replacement.running_mean, replacement.running_var = norm.running_mean, norm.running_var
    replacement.num_batches_tracked = norm.num_batches_tracked
    return replacement.train(norm.training)
