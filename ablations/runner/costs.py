"""What is left to do, in seconds, bytes and images: from steps measured in the store, else from a committed table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablations.runner.step import Step
from ablations.runner.store import Store
from ablations.runner.study import Cell
from lightgen.disk.json_files import read_json

TYPICAL = Path(__file__).parent / "typical.json"  # {scale: {step: [seconds, bytes]}}, and on which machine
START_SECONDS = 10.0  # a worker's imports


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Expected cost of a step, and where the figures are from."""

    costs: Mapping[str, tuple[float, float]]  # step -> (seconds, bytes)
    source: str

    @classmethod
    def of(cls, store: Store, scale: str) -> Costs:
        """Typical figures of the scale, replaced by the store's own where it has some."""
        typical = read_json(TYPICAL)
        measured = store.measured()
        costs = {name: (float(s), float(b)) for name, (s, b) in typical["scales"].get(scale, {}).items()}
        source = (
            f"{len(measured)} kinds of steps measured here" if measured else f"typical figures of {typical['machine']}"
        )
        return cls(costs=costs | measured, source=source)

    def of_step(self, name: str) -> tuple[float, float]:
        """Seconds and bytes of a step of that name."""
        return self.costs.get(name, (0.0, 0.0))

    def knows(self, steps: Iterable[Step]) -> bool:
        """Whether a figure is there for every one of the steps."""
        return all(step.name in self.costs for step in steps)

    def seconds(self, steps: Iterable[Step]) -> float:
        """Seconds of one worker for the steps, each key counted once."""
        return sum(self.of_step(step.name)[0] for step in _once(steps))

    def bytes(self, steps: Iterable[Step]) -> float:
        """Bytes on disk of the steps, each key counted once."""
        return sum(self.of_step(step.name)[1] for step in _once(steps))

    def wall_seconds(self, cells: Sequence[Cell], store: Store, workers: int) -> float:
        """Seconds until all cells are done: shared evenly, but never less than the longest chain."""
        missing = [missing_steps(cell, store) for cell in cells]
        chains = [self.seconds(steps) + START_SECONDS for steps in missing]
        shared = self.seconds(step for steps in missing for step in steps) + START_SECONDS * len(cells)
        return max([shared / max(1, workers), *chains], default=0.0)


def missing_steps(cell: Cell, store: Store) -> list[Step]:
    """The cell's steps that are not in the store."""
    return [step for step in cell.steps if not store.has(step)]


def _once(steps: Iterable[Step]) -> list[Step]:
    return list({step.key: step for step in steps}.values())


def duration(seconds: float) -> str:
    """Seconds as a person reads them: "40 s", "12 min", "3.4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
