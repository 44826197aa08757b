"""The scheduler for engines that run cells as long as this command lives: which cell is next, and what became of it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ablations.runner.attempt import DONE, RESUMABLE, is_recorded
from ablations.runner.engines import Engine
from ablations.runner.store import Store
from ablations.runner.study import Cell
from lightgen.disk.json_files import write_json
from lightgen.disk.regular import LARGEST, last_lines

MAX_RESUMES = 20  # of one cell that is stopped again and again from outside
LOG_LINES = 8


@dataclass
class State:
    """Where a cell stands."""

    cell: Cell
    status: str = "waiting"  # waiting, queued, running, done, failed, lost, stopped
    reason: str = ""
    resumes: int = 0
    job: Any = None
    slot: int = 0

    @property
    def is_open(self) -> bool:
        """Whether something is still to come of it."""
        return self.status in ("waiting", "queued", "running")


class Display(Protocol):
    """What the person sees of a run."""

    def show(self, states: Sequence[State]) -> None: ...

    def say(self, line: str) -> None: ...


class Schedule:
    """Runs cells on an engine until each is done or failed; a failed one never stops the others."""

    def __init__(
        self,
        cells: Sequence[Cell],
        out: Path,
        engine: Engine,
        display: Display,
        extra: Sequence[str] = (),
    ) -> None:
        self.states = [State(cell, "done" if is_recorded(out, cell) else "waiting") for cell in cells]
        self.out, self.engine, self.display, self.extra = out, engine, display, tuple(extra)
        self.store = Store(out / "store")

    def run(self, on_done: Callable[[Sequence[State]], None] = lambda states: None) -> Sequence[State]:
        """All states at the end; `on_done` is called after each cell that got its record."""
        try:
            while any(state.status in ("waiting", "running") for state in self.states):
                self._collect(on_done)
                self._start()
                self.display.show(self.states)
                time.sleep(0.2)
        finally:
            running = [state for state in self.states if state.status == "running"]
            self.engine.stop([state.job for state in running])
            for state in running:
                state.status = "stopped"
        self.display.show(self.states)
        return self.states

    def command(self, cell: Cell) -> list[str]:
        """The arguments of Python that run the cell."""
        return ["-m", "ablations.worker", str(self.out), cell.name, *self.extra]

    def _start(self) -> None:
        slots = set(range(self.engine.workers)) - {s.slot for s in self.states if s.status == "running"}
        for state in self.states:
            if slots and state.status == "waiting" and not self._must_wait(state):
                state.slot = slots.pop()
                log = self.out / "cells" / state.cell.name / "log.txt"
                state.job = self.engine.submit(self.command(state.cell), log, state.slot)
                state.status = "running"
                self._note(state)

    def _note(self, state: State) -> None:
        """Say in job.json where the cell runs."""
        engine = type(self.engine).__name__.removesuffix("Engine").lower()
        job = {"engine": engine, "job": self.engine.name(state.job), "attempt": state.resumes + 1}
        write_json(self.out / "cells" / state.cell.name / "job.json", job)

    def _must_wait(self, state: State) -> bool:
        """Whether a cell before this one, or a running one, is going to make a step that is worth waiting for."""
        wanted = {step.key for step in state.cell.steps if step.is_slow and not self.store.has(step)}
        if not wanted:
            return False
        place = self.states.index(state)
        makers = [
            other
            for index, other in enumerate(self.states)
            if other.status == "running" or (other.status == "waiting" and index < place)
        ]
        return any(step.key in wanted for other in makers for step in other.cell.steps)

    def _collect(self, on_done: Callable[[Sequence[State]], None]) -> None:
        for state in self.states:
            code = self.engine.poll(state.job) if state.status == "running" else None
            if code is None:
                continue
            if code == DONE:
                state.status = "done"
                on_done(self.states)
            elif code == RESUMABLE and state.resumes < MAX_RESUMES:
                state.resumes += 1
                state.status = "waiting"
                self.display.say(f"{state.cell.name} was stopped from outside and is resumed")
            else:
                state.status = "failed"
                state.reason = reason_of(self.out, state.cell, code)
                self.display.say(failure(self.out, state, self.command(state.cell)))


def failure(out: Path, state: State, command: Sequence[str]) -> str:
    """What a person is told of a failed cell, with the end of its log and the command that runs it alone."""
    log = out / "cells" / state.cell.name / "log.txt"
    lines = [f"{state.cell.name} FAILED: {state.reason}", *(f"    {line}" for line in last_lines(log, LOG_LINES))]
    return "\n".join([*lines, f"  the whole log: {log}", f"  alone: python {' '.join(command)}"])


def reason_of(out: Path, cell: Cell, code: int) -> str:
    """Why a worker that left with `code` failed, in one line."""
    if code < 0:
        cause = " (out of memory?)" if code == -signal.SIGKILL else ""
        return f"ended by {signal.Signals(-code).name}{cause}"
    return written_reason(out / "cells" / cell.name) or f"exit code {code}"


def written_reason(folder: Path) -> str:
    """The first line of the reason that a worker wrote into its cell's folder; "" for none."""
    return next(iter(last_lines(folder / "error.txt", LARGEST)), "")
