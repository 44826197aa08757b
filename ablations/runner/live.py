"""What a person sees of a run: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ablations.runner.costs import START_SECONDS, Costs, duration, missing_steps
from ablations.runner.schedule import State
from ablations.runner.store import Store
from ablations.runner.study import Cell
from lightgen.disk.json_files import read_object

STYLES = {
    "waiting": "dim", "queued": "blue", "running": "cyan", "done": "green", "failed": "bold red", "lost": "bold red",
    "stopped": "yellow",
}  # fmt: skip


SILENT_SECONDS = 60.0  # after which a line says where all cells are, if none changed


class Lines:
    """One line a change: a cell's status, a running cell's next step; and one a minute where nothing changes."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.seen: dict[str, str] = {}
        self.said = time.monotonic()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def show(self, states: Sequence[State]) -> None:
        """Print what changed since the last call."""
        for state in states:
            step, _ = self.clock.position(state)
            why = f"({state.reason})" if state.status == "queued" and state.reason else ""
            now = f"{state.status} {step}{why}".strip()
            before = self.seen.get(state.cell.name, "waiting")
            self.seen[state.cell.name] = now
            between_steps = now == "running" and before.startswith("running")
            if now != before and state.status not in ("failed", "lost") and not between_steps:
                self.say(f"{state.cell.name}: {now}{self._outlook(states, state)}")
        if time.monotonic() - self.said > SILENT_SECONDS and any(state.is_open for state in states):
            self.say(self.clock.standing(states))

    def say(self, line: str) -> None:
        """Print the line with the time since the start."""
        self.said = time.monotonic()
        print(f"[{self.clock.elapsed()}] {line}", flush=True)

    def _outlook(self, states: Sequence[State], state: State) -> str:
        done = sum(s.status == "done" for s in states)
        if state.status != "done" or not any(s.is_open for s in states):
            return ""
        return f" ({done} of {len(states)} cells, about {duration(self.clock.left(states))} left)"


class Table:
    """A rich table that is redrawn in place."""

    def __init__(self, clock: Clock, title: str) -> None:
        from rich.console import Console
        from rich.live import Live

        self.clock, self.title, self.shown = clock, title, 0.0
        self.live = Live(console=Console(stderr=False), auto_refresh=False, transient=False)

    def __enter__(self) -> Table:
        self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.live.stop()

    def show(self, states: Sequence[State]) -> None:
        """Redraw, at most twice a second."""
        if time.monotonic() - self.shown > 0.5 or not any(s.status == "running" for s in states):
            self.shown = time.monotonic()
            self.live.update(self._draw(states), refresh=True)

    def say(self, line: str) -> None:
        """Print above the table."""
        self.live.console.print(line, markup=False, highlight=False)

    def _draw(self, states: Sequence[State]) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(title=f"{self.title}: {self.clock.standing(states)}, {self.clock.elapsed()}")
        for name in ("cell", "status", "step", "progress"):
            table.add_column(name, no_wrap=True)
        for state in states:
            step, fraction = self.clock.position(state)
            complete = 1.0 if state.status == "done" else self.clock.share(state)
            status = Text(state.status, style=STYLES[state.status])
            place = f"{step} {fraction:.0%}" if step else state.reason[:60]
            table.add_row(state.cell.name, status, place, ProgressBar(total=1.0, completed=complete, width=24))
        return table


class Clock:
    """Time passed, time left, and where each running cell is, read from its progress.json."""

    def __init__(self, out: Path, store: Store, costs: Costs, workers: int) -> None:
        self.out, self.store, self.costs, self.workers = out, store, costs, workers
        self.start = time.monotonic()

    def elapsed(self) -> str:
        """Minutes and seconds since the start."""
        minutes, seconds = divmod(int(time.monotonic() - self.start), 60)
        return f"{minutes:02d}:{seconds:02d}"

    def standing(self, states: Sequence[State]) -> str:
        """Where a run is as a whole: cells done, the share of its work that is behind it, time left."""
        done = sum(state.status == "done" for state in states)
        shares = [1.0 if state.status == "done" else self.share(state) for state in states]
        left = f", about {duration(self.left(states))} left" if any(state.is_open for state in states) else ""
        return f"{done} of {len(states)} cells, {sum(shares) / max(1, len(shares)):.0%}{left}"

    def position(self, state: State) -> tuple[str, float]:
        """The step that a running cell is in, and how much of it is done."""
        if state.status != "running":
            return "", 0.0
        try:
            path = self.out / "cells" / state.cell.name / "progress.json"
            progress = read_object(path, step=str, since=(int, float), fraction=(int, float))
        except (OSError, ValueError):
            return "", 0.0
        return progress["step"], self._fraction(progress)

    def _fraction(self, progress: dict[str, Any]) -> float:
        """The reported fraction, or for a step that reports none the time it took of what it usually takes."""
        usual = self.costs.of_step(progress["step"])[0]
        passed = (time.time() - progress["since"]) / usual if usual else 0.0
        return progress["fraction"] or min(0.95, passed)

    def share(self, state: State) -> float:
        """How much of the cell's own time is behind it, finished steps counted in full."""
        total = self.costs.seconds(state.cell.steps)
        return 1.0 - min(1.0, self._cell_left(state) / total) if total else 0.0

    def left(self, states: Sequence[State]) -> float:
        """Seconds until the last cell is done, if they go as estimated; steps that cells share are counted once."""
        open_states = [state for state in states if state.is_open]
        steps = [step for state in open_states for step in missing_steps(state.cell, self.store)]
        begun = sum(self._begun(state) for state in open_states)
        waiting = START_SECONDS * sum(state.status != "running" for state in open_states)
        shared = (self.costs.seconds(steps) - begun + waiting) / max(1, min(self.workers, len(open_states) or 1))
        return max([shared, *(self._cell_left(state) for state in open_states)], default=0.0)

    def _begun(self, state: State) -> float:
        step, fraction = self.position(state)
        return fraction * self.costs.of_step(step)[0]

    def _cell_left(self, state: State) -> float:
        return max(0.0, self.costs.seconds(missing_steps(state.cell, self.store)) - self._begun(state))


def display(clock: Clock, title: str) -> Table | Lines:
    """The table if standard output is a terminal, else lines."""
    return Table(clock, title) if sys.stdout.isatty() else Lines(clock)


def plan_lines(cells: Sequence[Cell], store: Store, costs: Costs, workers: int, images: int) -> list[str]:
    """What `--plan` prints: each cell with what is there and what is missing, then the totals."""
    width = max(len(cell.name) for cell in cells)
    lines, planned = [], set[str]()
    for cell in cells:
        missing = missing_steps(cell, store)
        new = [step for step in missing if step.key not in planned]
        shared = len(missing) - len(new)
        planned |= {step.key for step in new}
        todo = " ".join(step.name for step in new) or "nothing to make"
        extra = f", {shared} shared with a cell above" if shared else ""
        lines.append(
            f"{cell.name:<{width}}  {len(cell.steps) - len(missing)} of {len(cell.steps)} cached{extra}; {todo}"
        )
    steps = [step for cell in cells for step in missing_steps(cell, store)]
    time_left = duration(costs.wall_seconds(cells, store, workers)) if steps else "0 s"
    expected = f"about {time_left} with {workers} workers, {images:,} images judged, {costs.bytes(steps) / 1e6:.0f} MB"
    if not costs.knows(steps):
        expected = (
            f"{workers} workers, {images:,} images judged; time and size unknown, nothing was measured at this scale"
        )
    source = f" ({costs.source})" if costs.knows(steps) else ""
    lines.append(f"{len(cells)} cells, {len({step.key for step in steps})} steps to make: {expected}{source}")
    return lines
