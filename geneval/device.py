"""The device that networks run on, and float32 as it is written."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def choose_device(name: str = "auto") -> str:
    """`auto` (torch's accelerator, else the CPU), cpu, cuda, cuda:N or mps; one that is not there raises."""
    import torch

    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name == "auto":
        return found.type if found else "cpu"
    numbered = [f"{found.type}:{i}" for i in range(torch.accelerator.device_count())] if found else []
    there = ["cpu", *([found.type] if found else []), *numbered]
    if name not in there:
        raise ValueError(f"there is no device {name!r} here; valid: auto, {', '.join(there)}")
    return name


@contextmanager
def without_tf32() -> Iterator[None]:
    """Matrix products and convolutions in whole float32 inside; TF32 would make results depend on the kind of GPU."""
    import torch

    cudnn: Any = torch.backends.cudnn
    settings: Any = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn)
    before = [setting.fp32_precision for setting in settings]
    try:
        for setting in settings:
            setting.fp32_precision = "ieee"
        yield
    finally:
        for setting, value in zip(settings, before):
            setting.fp32_precision = value
