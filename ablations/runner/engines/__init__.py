"""Where workers run. Every engine runs the same command for a cell and answers with its exit code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

ENGINES = ("local", "ray", "slurm")


class Engine(Protocol):
    """Starts, watches and stops worker commands; `workers` is how many may run at a time."""

    workers: int

    def submit(self, command: Sequence[str], log: Path, slot: int) -> Any: ...

    def poll(self, job: Any) -> int | None: ...

    def stop(self, jobs: Sequence[Any]) -> None: ...


def start_engine(name: str, workers: int, devices: Sequence[str], out: Path) -> Engine:
    """The engine of that name; ray and slurm are extras."""
    if name == "local":
        from ablations.runner.engines.local import LocalEngine

        return LocalEngine(workers, devices)
    if name == "ray":
        from ablations.runner.engines.ray import RayEngine

        return RayEngine(workers, bool(devices))
    if name == "slurm":
        from ablations.runner.engines.slurm import SlurmEngine

        return SlurmEngine(workers, bool(devices), out / "slurm")
    raise ValueError(f"no engine {name!r}; there are {', '.join(ENGINES)}")
