"""The processes of a run: one on a laptop, several under a launcher; what they must decide together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from accelerate import Accelerator


def make_accelerator(precision: str) -> Accelerator:
    """The device, the processes and the precision of a run, from the launcher's environment."""
    from accelerate import Accelerator, DistributedDataParallelKwargs

    # A batch whose tokens are all masked uses no encoder weight.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(mixed_precision="bf16" if precision == "bf16" else "no", kwargs_handlers=[unused])


def is_step_finite(norm: Tensor, loss: Tensor, accelerator: Accelerator) -> bool:
    """Whether a step may be taken. On a CPU looking costs nothing, so a bad step is never taken; elsewhere it would
    stall the device every step: the answer is yes, and the logged rows are where it is seen."""
    if norm.device.type != "cpu":
        return True
    # Gradients are averaged over processes, so all see the same norm; a loss is each process's own.
    return math.isfinite(norm.item() + (loss.item() if accelerator.num_processes == 1 else 0.0))


def any_process(accelerator: Accelerator, flag: bool) -> bool:
    """Whether the flag is true in any process; all must ask together."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device), "sum").item() > 0)
