"""Optimizer, learning rate, averaged weights: what every training loop here does after a gradient is there."""

import math
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn


def make_optimizer(
    model: nn.Module, *, learning_rate: float, weight_decay: float, betas: tuple[float, float]
) -> torch.optim.AdamW:
    """Fused AdamW over the trainable parameters; no decay on biases, norms and the head, as released."""
    groups: dict[bool, list[Tensor]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[parameter.ndim > 1 and not name.startswith("head.")].append(parameter)
    settings = [
        {"params": parameters, "weight_decay": weight_decay if decays else 0.0}
        for decays, parameters in groups.items()
        if parameters
    ]
    return torch.optim.AdamW(settings, lr=learning_rate, betas=betas, fused=True)


def learning_rate_at(
    step: int,
    *,
    peak: float,
    warmup_steps: int,
    total_steps: int,
    schedule: Literal["constant", "cosine"] = "constant",
) -> float:
    """The learning rate of step 0, 1, ...: a linear warm-up, then constant or a half cosine down to 0."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if schedule == "constant":
        return peak
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, total_steps - warmup_steps)))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = value


class Average:
    """An exponential moving average of parameters.

    With `warmup` the decay is min(decay, (1 + step) / (10 + step)), so that a short run does not average in its start.
    """

    def __init__(self, parameters: Iterable[Tensor], decay: float, warmup: bool):
        self.decay, self.warmup = decay, warmup
        self.source = list(parameters)
        self.values = [parameter.detach().clone() for parameter in self.source]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move toward the source after its update number `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay
        torch._foreach_lerp_(self.values, self.source, 1 - decay)

    @torch.no_grad()
    def store(self) -> None:
        """Put the averaged values into the source parameters."""
        torch._foreach_copy_(self.source, self.values)
