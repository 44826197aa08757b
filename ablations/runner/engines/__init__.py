"""Where workers run. Every engine runs the same command for a cell.

`Engine` is for those whose cells live as long as the run does: each answers with the worker's exit code. A cluster with
a queue of its own needs no driver: see `slurm.py` and `ablations/runner/queue.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from ablations.runner.engines.resources import Shape

ENGINES = ("local", "ray", "slurm")


class Engine(Protocol):
    """Starts, watches and stops worker commands; `workers` is how many may run at a time."""

    workers: int

    def submit(self, command: Sequence[str], log: Path, slot: int) -> Any: ...

    def poll(self, job: Any) -> int | None: ...

    def name(self, job: Any) -> str: ...

    def stop(self, jobs: Sequence[Any]) -> None: ...


def start_engine(name: str, workers: int, devices: Sequence[str], shape: Shape, imports: Sequence[str] = ()) -> Engine:
    """The engine of that name, of those that run cells as long as this command lives; ray is an extra. `imports` are
    what the local one may import once for all workers."""
    if name == "local":
        from ablations.runner.engines.local import LocalEngine

        return LocalEngine(workers, devices, shape, imports)
    from ablations.runner.engines.ray import RayEngine

    return RayEngine(workers, shape)
