"""The arithmetic of training: which numbers the networks compute with, and losses scaled where those numbers are short of range."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from schemas.errors import SettingsError

LOWEST_SCALE = 1.0
"""A gradient that overflows at this scale is no matter of scaling: the step is a bad one."""


class Precision:
    """Automatic mixed precision on one device. Weights, gradients and sums stay float32."""

    def __init__(self, wanted: Literal["auto", "fp32", "bf16", "fp16"], device: torch.device) -> None:
        self.dtype = _dtype(wanted, device)
        self.device = device
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype is torch.float16)

    def autocast(self) -> AbstractContextManager[object]:
        """Within it the networks compute in this precision."""
        return nullcontext() if self.dtype is torch.float32 else torch.autocast(self.device.type, dtype=self.dtype)

    def descend(self, loss: torch.Tensor) -> None:
        """Leaves the gradients of a loss, scaled where that is needed."""
        torch.autograd.backward(self.scaler.scale(loss))

    def unscale(self, optimizers: list[torch.optim.Optimizer]) -> None:
        """Brings gradients back to their true size."""
        if self.scaler.is_enabled():
            for optimizer in optimizers:
                self.scaler.unscale_(optimizer)

    def step(self, optimizers: list[torch.optim.Optimizer]) -> None:
        """A step of each optimiser, whose gradients are known to be finite."""
        for optimizer in optimizers:
            self.scaler.step(optimizer)
        self._adapt()

    def lowers_scale(self) -> bool:
        """After gradients that are no numbers: whether a smaller scale may mend that; the scale is then smaller for the next step."""
        if not self.scaler.is_enabled():
            return False
        scale = self.scaler.get_scale()
        self._adapt()
        return scale > LOWEST_SCALE

    def _adapt(self) -> None:
        if self.scaler.is_enabled():
            self.scaler.update()


def _dtype(wanted: str, device: torch.device) -> torch.dtype:
    named = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if wanted == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if wanted == "fp16" and device.type != "cuda":
        raise SettingsError("precision fp16 is for GPUs; on a CPU give fp32 or bf16.")
    return named[wanted]
