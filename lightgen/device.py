"""The only place that chooses a device; everything else runs where its inputs are."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name: auto (an accelerator where there is one), cpu, cuda, cuda:N or mps.

    ValueError for another name, or for a device that this machine does not have, with the reason.
    """
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name == "auto":
        return accelerator or torch.device("cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not (kind == "cuda" and number.isdigit())):
        raise ValueError(f"device is {name!r}; valid: auto, cpu, cuda, cuda:N, mps")
    count = torch.accelerator.device_count() if accelerator is not None and accelerator.type == kind else 0
    if kind != "cpu" and int(number or 0) >= count:
        present = ["cpu", *(f"{accelerator}:{i}" for i in range(torch.accelerator.device_count()) if accelerator)]
        why = f" ({reason})" if kind == "cuda" and (reason := why_no_cuda()) else ""
        raise ValueError(f"device {name} is not there; this machine has {', '.join(present)}{why}")
    return torch.device(name)


def why_no_cuda() -> str:
    """Why torch sees no CUDA device, as far as it can be told; "" where it sees one."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if torch.accelerator.is_available():
        return f"CUDA_VISIBLE_DEVICES is {visible!r}" if visible is not None else ""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} was built without CUDA"
    if visible is not None:
        return f"CUDA_VISIBLE_DEVICES is {visible!r}, which names no device that is there"
    try:
        torch.cuda.init()
    except RuntimeError as error:  # no driver, or one that is older than torch's CUDA
        return f"torch's CUDA is {torch.version.cuda}: {str(error).partition('. ')[0].strip()}"
    return ""


def require_bf16(device: torch.device) -> None:
    """ValueError for a CUDA device that does not compute bfloat16 itself."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ValueError(f"{torch.cuda.get_device_name(device)} has no bf16; give precision fp32 (or --exact)")


def in_batches(
    items: Sequence[Item], size: int, work: Callable[[Sequence[Item]], Sequence[Result]], say: Callable[[str], None]
) -> Iterator[tuple[Sequence[Item], Sequence[Result]]]:
    """(batch, its results), `size` items at once; where memory does not suffice half as many from there, which is said.

    ValueError where it does not suffice for one, or `size` is none.
    """
    if size < 1:
        raise ValueError(f"batch_size is {size}, must be at least 1")
    done = 0
    while done < len(items):
        batch = items[done : done + size]
        try:
            results = work(batch)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise ValueError("the device's memory does not suffice for one image at a time") from None
            size = len(batch) // 2
            say(f"out of memory: {size} at a time from here")
            torch.cuda.empty_cache()
            continue
        done += len(batch)
        yield batch, results
