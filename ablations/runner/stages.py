"""A run laid out for a scheduler that needs no driver: stages of tasks, each of which waits for the stages before it.

A slow step that several cells need is a task of its own, so that no cell holds a node while it waits for another's work
and all of them start as soon as what they share is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ablations.runner.step import Step, in_order
from ablations.runner.study import Cell


@dataclass(frozen=True)
class Task:
    """A worker command to submit: a cell to its record, or `until` the step in that folder of the store is there."""

    cell: str
    until: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """The worker's arguments after OUT."""
        return (self.cell, "--until", self.until) if self.until else (self.cell,)


def stages(cells: Sequence[Cell], is_there: Callable[[Step], bool]) -> list[list[Task]]:
    """Tasks that finish the cells, by stage."""
    shared = _shared(cells, is_there)
    depth: dict[str, int] = {}
    for cell in cells:
        for step in cell.steps:
            if step.key in shared:
                depth.setdefault(step.key, _above(in_order(step.needs), depth))
    tasks = [(depth[key], Task(owner.name, step.folder)) for key, (owner, step) in shared.items()]
    tasks += [(_above(cell.steps, depth), Task(cell.name)) for cell in cells]
    found: list[list[Task]] = [[] for _ in range(1 + max((at for at, _ in tasks), default=-1))]
    for at, task in tasks:
        found[at].append(task)
    return [stage for stage in found if stage]


def _above(steps: Sequence[Step], depth: Mapping[str, int]) -> int:
    """The first stage in which all of the steps that are tasks of their own are done."""
    return max((depth[step.key] + 1 for step in steps if step.key in depth), default=0)


def _shared(cells: Sequence[Cell], is_there: Callable[[Step], bool]) -> dict[str, tuple[Cell, Step]]:
    """{key: (the first cell that needs it, step)} of the slow steps that several cells need; those that the very same
    cells need on the way to a later one are made with that."""
    users: dict[str, list[Cell]] = {}
    steps: dict[str, Step] = {}
    for cell in cells:
        for step in cell.steps:
            if step.is_slow and not is_there(step):
                steps[step.key] = step
                users.setdefault(step.key, []).append(cell)
    shared = {key: found for key, found in users.items() if len(found) > 1}
    on_the_way = {
        needed.key
        for key in shared
        for needed in in_order(steps[key].needs)
        if needed.key in shared and shared[needed.key] == shared[key]
    }
    return {key: (found[0], steps[key]) for key, found in shared.items() if key not in on_the_way}
