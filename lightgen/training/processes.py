"""The processes of a run: one on a laptop, several under a launcher; what they must decide together."""

import math

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor

from lightgen.device import choose_device


def make_accelerator(precision: str, device: str = "auto") -> Accelerator:
    """The device, the processes and the precision of a run: "auto" takes them from the launcher's environment.

    ValueError for a device that is not there, or another than the one this process trains on already.
    """
    chosen = None if device == "auto" else choose_device(device)
    if chosen is not None and chosen.index is not None:
        torch.accelerator.set_device_index(chosen.index)
    # A batch whose tokens are all masked uses no encoder weight.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(
        cpu=(chosen or choose_device()).type == "cpu",  # without it, processes on CPUs would not find each other
        mixed_precision="bf16" if precision == "bf16" else "no",
        kwargs_handlers=[unused],
    )
    if chosen is not None and chosen.type != accelerator.device.type:
        raise ValueError(f"this process trains on {accelerator.device} already; start another for {device}")
    return accelerator


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
