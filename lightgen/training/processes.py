"""The processes of a run: one on a laptop, several under a launcher; what they must decide together."""

import math
from functools import lru_cache
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from torch import Tensor

from lightgen.device import choose_device, require_bf16


def make_accelerator(precision: str, device: str = "auto") -> Accelerator:
    """The device, the processes and the precision of a run: "auto" takes them from the launcher's environment.

    ValueError for a device that is not there, or another than the one this process trains on already.
    """
    chosen = None if device == "auto" else choose_device(device)
    if chosen is not None and chosen.index is not None:
        torch.accelerator.set_device_index(chosen.index)
    _forget_precision(precision)
    # A batch whose tokens are all masked uses no encoder weight.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(
        cpu=(chosen or choose_device()).type == "cpu",  # without it, processes on CPUs would not find each other
        mixed_precision="bf16" if precision == "bf16" else "no",
        kwargs_handlers=[unused],
    )
    if chosen is not None and chosen.type != accelerator.device.type:
        raise ValueError(f"this process trains on {accelerator.device} already; start another for {device}")
    if precision == "bf16":
        require_bf16(accelerator.device)
    return accelerator


def _forget_precision(precision: str) -> None:
    """Let this process's next accelerator have another precision than its last; device and processes stay."""
    wanted = "bf16" if precision == "bf16" else "no"
    if AcceleratorState._shared_state.get("_mixed_precision", wanted) != wanted:
        AcceleratorState._reset_state()


def refuse_uneven(batch_size: int, accumulate: int, accelerator: Accelerator) -> None:
    """ValueError for a batch whose images would weigh differently, or of fewer than there are parts to take it in."""
    world = accelerator.num_processes
    if batch_size % world:
        raise ValueError(f"batch_size {batch_size} does not divide among {world} processes; give a multiple of {world}")
    if batch_size // world < accumulate:
        raise ValueError(f"a process's {batch_size // world} of a batch cannot be taken in {accumulate} parts")


def is_step_finite(norm: Tensor, loss: Tensor, accelerator: Accelerator) -> bool:
    """Whether a step may be taken. On a CPU looking costs nothing, so a bad step is never taken; elsewhere it would
    stall the device every step: the answer is yes, and the logged rows are where it is seen."""
    if norm.device.type != "cpu":
        return True
    # Gradients are averaged over processes, so all see the same norm; a loss is each process's own.
    return math.isfinite(norm.item() + (loss.item() if accelerator.num_processes == 1 else 0.0))


def any_process(accelerator: Accelerator, flag: bool) -> bool:
    """Whether the flag is true in any process; all must ask together."""
    return agreed(accelerator, flag)[0]


def agreed(accelerator: Accelerator, *flags: bool) -> list[bool]:
    """Whether each flag is true in any process; all must ask together. The hosts decide: no device is waited for."""
    if accelerator.num_processes == 1:
        return list(flags)
    votes = torch.tensor([float(flag) for flag in flags])
    torch.distributed.all_reduce(votes, group=_hosts())
    return (votes > 0).tolist()


@lru_cache(maxsize=1)
def _hosts() -> Any:
    """The processes' hosts as a group of torch.distributed; None where the processes compute on hosts anyway."""
    return None if torch.distributed.get_backend() == "gloo" else torch.distributed.new_group(backend="gloo")
