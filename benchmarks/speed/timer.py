"""Timing: alternating repetitions, processor time on a CPU, synchronized wall time elsewhere; and operation counts."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


def alternate(tasks: Mapping[str, Callable[[], Any]], repetitions: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each task, taken in turn, each run once before, unmeasured.

    On a CPU processor time: other jobs lengthen the wait, not the work.
    """
    if repetitions < 1:
        raise ValueError("repetitions must be at least 1")
    for task in tasks.values():
        task()
    return in_turn(tasks, repetitions, partial(_now, device))[0]


def in_turn(
    tasks: Mapping[str, Callable[[], Any]], repetitions: int, *clocks: Callable[[], float]
) -> list[dict[str, list[float]]]:
    """Of each clock the seconds of each task; in turn, so that what else the machine does falls on all alike."""
    seconds: list[dict[str, list[float]]] = [{name: [] for name in tasks} for _ in clocks]
    for _ in range(repetitions):
        for name, task in tasks.items():
            begun = [clock() for clock in clocks]
            task()
            for found, clock, begin in zip(seconds, clocks, begun):
                found[name].append(clock() - begin)
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
