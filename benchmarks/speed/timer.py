"""Timing: alternating repetitions, processor time on a CPU, synchronized wall time elsewhere; and operation counts."""

import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


def alternate(tasks: Mapping[str, Callable[[], Any]], repetitions: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each task, taken in turn, so that whatever else the machine does falls on all of them alike.

    On a CPU processor time: other jobs lengthen the wait, not the work. Each task runs once before, unmeasured.
    """
    for task in tasks.values():
        task()
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repetitions):
        for name, task in tasks.items():
            begun = _now(device)
            task()
            seconds[name].append(_now(device) - begun)
    return seconds


def _now(device: torch.device) -> float:
    if device.type == "cpu":
        return time.process_time()
    torch.accelerator.synchronize(device)
    return time.perf_counter()


def summary(seconds: list[float]) -> dict[str, Any]:
    """The median, the extremes and every measurement, rounded to microseconds."""
    rounded = [round(value, 6) for value in seconds]
    return {"median": median(rounded), "least": min(rounded), "most": max(rounded), "all": rounded}


def ratio(seconds: Mapping[str, list[float]], of: str, to: str) -> dict[str, float]:
    """How many times as long `of` took as `to`: median and extremes over the pairs measured next to each other; and the
    ratio of the shortest times, which a busy machine disturbs least."""
    ratios = [a / b for a, b in zip(seconds[of], seconds[to], strict=True)]
    least = min(seconds[of]) / min(seconds[to])
    found = {"median": median(ratios), "least": min(ratios), "most": max(ratios), "of_least": least}
    return {name: round(value, 3) for name, value in found.items()}


class _Counter(TorchDispatchMode):
    """Counts operations that compute or copy; views and queries move no data."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not _is_view(func)
        return func(*args, **(kwargs or {}))


def _is_view(func: Any) -> bool:
    aliases = [returned.alias_info for returned in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases) or func in (
        torch.ops.aten.detach.default,
        torch.ops.aten._unsafe_view.default,
    )


def count_operations(task: Callable[[], Any]) -> int:
    """Tensor operations that `task` issues, views left out."""
    with _Counter() as counter:
        task()
    return counter.count


def machine(device: torch.device) -> dict[str, Any]:
    """What a time depends on besides the program."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load": [round(value, 2) for value in os.getloadavg()],
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
