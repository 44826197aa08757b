"""One attempt at a cell: its missing steps, then its record; a failure is told in one line, an early leave is kept.

Exit codes: 0 done; 75 saved and resumable; 42 cannot succeed as it is asked; 1 an unexpected failure.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ablations.runner.processes import Processes
from ablations.runner.step import Step, Stopped, in_order
from ablations.runner.store import Store
from ablations.runner.study import Cell
from lightgen.disk.json_files import read_object, write_json

DONE, FAILED, PERMANENT, RESUMABLE = 0, 1, 42, 75

Record = Callable[[Path, Cell, Store], None]


def is_recorded(out: Path, cell: Cell) -> bool:
    """Whether the cell's record is there and is of this very cell."""
    folder = out / "cells" / cell.name
    seal = folder / "cell.json"
    return (folder / "result.json").is_file() and seal.is_file() and read_object(seal, key=str)["key"] == cell.key


def run_cell(
    out: Path,
    cell: Cell,
    record: Record,
    runtime: Any = None,
    stop: Callable[[], bool] = lambda: False,
    *,
    until: str = "",
    processes: Processes | None = None,
) -> int:
    """Make the cell's missing steps, then its record; returns the exit code and never raises for a failure.

    With `until`, the folder of one of its steps, only what leads to that is made, and no record.
    """
    folder = out / "cells" / cell.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "error.txt").unlink(missing_ok=True)
    try:
        store = Store(out / "store")
        report = Progress(folder / "progress.json")
        for step in _leading_to(cell, until):
            report.start(step.name)
            _make(store, step, runtime, stop, report, processes or Processes())
            if store.facts(step).get("status") == "diverged":
                break  # an outcome, not a failure: the record says so
        if until:
            report.finish()
            return DONE
        report.start("record")
        (folder / "cell.json").unlink(missing_ok=True)
        record(folder, cell, store)
        write_json(folder / "cell.json", {"key": cell.key, "steps": [step.folder for step in cell.steps]})
        report.finish()
        return DONE
    except Stopped:
        print(f"{cell.name}: saved; the same command resumes it", flush=True)
        return RESUMABLE
    except Exception as error:
        return _fail(folder, cell, error)


def _leading_to(cell: Cell, until: str) -> Sequence[Step]:
    ends = [step for step in cell.steps if step.folder == until]
    if until and not ends:
        raise ValueError(f"{cell.name} has no step {until!r}; there are {', '.join(s.folder for s in cell.steps)}")
    return in_order(ends) if until else cell.steps


def _make(
    store: Store, step: Step, runtime: Any, stop: Callable[[], bool], report: Progress, processes: Processes
) -> None:
    if stop():
        raise Stopped
    is_there = store.has(step)
    start = time.monotonic()
    path = store.make(
        step, runtime, stop=stop, progress=report.update, say=say, run=processes.run, how=processes.described
    )
    done = "there already" if is_there else f"{time.monotonic() - start:.1f} s"
    print(f"{step.name}: {done} ({path.name})", flush=True)


def _fail(folder: Path, cell: Cell, error: Exception) -> int:
    """Keep the failure where the run, and a person, finds it: one line first, the traceback after it."""
    reason = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        reason = f"the disk is full ({error}); free some space and give the command again: what was finished is kept"
    trace = "".join(traceback.format_exception(error))
    print(trace, file=sys.stderr, flush=True)
    try:
        (folder / "error.txt").write_text(f"{type(error).__name__}: {reason}\n\n{trace}", encoding="utf-8")
    except OSError:
        print(f"{cell.name}: {reason}", file=sys.stderr, flush=True)
    return PERMANENT if is_permanent(error) else FAILED


def is_permanent(error: Exception) -> bool:
    """Whether the same again cannot succeed."""
    return isinstance(error, ValueError | TypeError | KeyError | FileNotFoundError)


def say(line: str) -> None:
    """A line of the cell's log."""
    print(line, flush=True)


class Progress:
    """Where the cell is, and by whom, in its progress.json: what the live table of any engine reads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.step, self.since, self.written = "", 0.0, 0.0

    def start(self, step: str) -> None:
        """A step begins."""
        self.step, self.since = step, time.time()
        self._write(0.0)

    def update(self, fraction: float) -> None:
        """The step is `fraction` done."""
        if time.time() - self.written > 1.0:
            self._write(fraction)

    def finish(self) -> None:
        """Nothing is left to do."""
        self.path.unlink(missing_ok=True)

    def _write(self, fraction: float) -> None:
        self.written = time.time()
        worker = {"pid": os.getpid(), "host": socket.gethostname()}
        write_json(self.path, {"step": self.step, "fraction": fraction, "since": self.since, "worker": worker})
