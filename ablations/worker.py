"""One cell, start to end: `python -m ablations.worker OUT CELL`. Every engine runs this same command.

Exit codes: 0 done; 75 saved and resumable, give the same command again; 42 cannot succeed as it is asked (the reason is
in OUT/cells/CELL/error.txt); 1 an unexpected failure (likewise). SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 save at the next
step boundary and leave with 75.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import faulthandler
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ablations.cells import Cell, PlannedStep, Stage, cell_from_json
from ablations.store import Stopped, Store, read_json, write_json
from ablations.studies import load_study, study_names

DONE, FAILED, PERMANENT, RESUMABLE = 0, 1, 42, 75
GRACE_SECONDS = 25.0  # from a signal to leaving without a save, for stages that reach no boundary
_PR_SET_PDEATHSIG = 1


def main(arguments: list[str] | None = None) -> int:
    """Run the cell that the command line names; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ablations.worker", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="a folder that `python -m ablations.run` has planned")
    parser.add_argument("cell", metavar="CELL", help="a cell of its plan.json, such as small-diverse-s0")
    parser.add_argument("--study", metavar="FILE", help="the study's file, if it is not one of the package")
    parser.add_argument("--parent", type=int, default=0, help="end with this process (set by the local engine)")
    args = parser.parse_args(arguments)
    faulthandler.enable()
    stop = _stop_on_signals()
    _end_with(args.parent)
    try:
        plan = read_plan(args.out)
        cell = find_cell(plan, args.cell)
        study = load_study(args.study or named_study(plan))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return PERMANENT
    return run_cell(args.out, cell, plan, study.stages, study.record, stop)


def read_plan(out: Path) -> dict[str, Any]:
    """OUT/plan.json."""
    path = out / "plan.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; `python -m ablations.run STUDY --out {out}` writes it")
    return read_json(path)


def named_study(plan: Mapping[str, Any]) -> str:
    """The plan's study, which must be one of the package: a data file does not choose what code is run."""
    if plan["study"] not in study_names():
        raise ValueError(f"no study {plan['study']!r} in the package; give its file with --study")
    return plan["study"]


def find_cell(plan: Mapping[str, Any], name: str) -> Cell:
    """The cell of that name in the plan."""
    for data in plan["cells"]:
        if data["name"] == name:
            return cell_from_json(data)
    raise ValueError(f"no cell {name!r} in the plan; there are {', '.join(data['name'] for data in plan['cells'])}")


def is_recorded(out: Path, cell: Cell) -> bool:
    """Whether the cell's record is there and is of this very cell."""
    folder = out / "cells" / cell.name
    seal = folder / "cell.json"
    return (folder / "result.json").is_file() and seal.is_file() and read_json(seal)["key"] == cell.key


def run_cell(
    out: Path,
    cell: Cell,
    plan: Mapping[str, Any],
    stages: Mapping[str, Stage],
    record: Callable[[Path, Cell, Store, Mapping[str, Any]], None],
    stop: Callable[[], bool] = lambda: False,
) -> int:
    """Make the cell's missing steps, then its record; returns the exit code and never raises for a failure."""
    folder = out / "cells" / cell.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "error.txt").unlink(missing_ok=True)
    try:
        store = Store(out / "store")
        report = Progress(folder / "progress.json")
        paths: dict[str, Path] = {}
        for step in cell.steps:
            report.start(step.stage)
            paths[step.stage] = _make(store, step, stages[step.stage], paths, stop, report)
            if store.facts(step)["facts"].get("status") == "diverged":
                break  # an outcome, not a failure: the record says so
        report.start("record")
        (folder / "cell.json").unlink(missing_ok=True)
        record(folder, cell, store, plan)
        write_json(folder / "cell.json", {"key": cell.key, "steps": [step.folder for step in cell.steps]})
        report.finish()
        return DONE
    except Stopped:
        print(f"{cell.name}: saved; the same command resumes it", flush=True)
        return RESUMABLE
    except Exception as error:
        return _fail(folder, cell, error)


def _make(
    store: Store,
    step: PlannedStep,
    stage: Stage,
    paths: Mapping[str, Path],
    stop: Callable[[], bool],
    report: Progress,
) -> Path:
    if stop():
        raise Stopped
    if step.version != stage.version:
        raise ValueError(
            f"the plan asks for {step.stage} version {step.version}, the code has {stage.version}: plan again"
        )
    cached = store.has(step)
    start = time.monotonic()
    inputs = {role: paths[name] for role, name in step.inputs.items()}
    path = store.make(step, stage, inputs, stop=stop, progress=report.update)
    done = "there already" if cached else f"{time.monotonic() - start:.1f} s"
    print(f"{step.stage}: {done} ({path.name})", flush=True)
    return path


def _fail(folder: Path, cell: Cell, error: Exception) -> int:
    """Keep the failure where the run, and a person, finds it: one line first, the traceback after it."""
    permanent = isinstance(error, ValueError | TypeError | KeyError | FileNotFoundError)
    reason = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        reason = f"the disk is full ({error}); free some space and give the command again: what was finished is kept"
    trace = "".join(traceback.format_exception(error))
    print(trace, file=sys.stderr, flush=True)
    try:
        (folder / "error.txt").write_text(f"{type(error).__name__}: {reason}\n\n{trace}", encoding="utf-8")
    except OSError:
        print(f"{cell.name}: {reason}", file=sys.stderr, flush=True)
    return PERMANENT if permanent else FAILED


class Progress:
    """Where the cell is, in its progress.json: what the live table of any engine reads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stage, self.since, self.written = "", 0.0, 0.0

    def start(self, stage: str) -> None:
        """A stage begins."""
        self.stage, self.since = stage, time.time()
        self._write(0.0)

    def update(self, fraction: float) -> None:
        """The stage is `fraction` done."""
        if time.time() - self.written > 1.0:
            self._write(fraction)

    def finish(self) -> None:
        """Nothing is left to do."""
        self.path.unlink(missing_ok=True)

    def _write(self, fraction: float) -> None:
        self.written = time.time()
        partial = self.path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps({"stage": self.stage, "fraction": fraction, "since": self.since}))
        partial.replace(self.path)


def _stop_on_signals() -> Callable[[], bool]:
    """A function that is true once a signal asked to stop; a stage that never looks is ended after a grace time."""
    asked = threading.Event()

    def ask(number: int, frame: Any) -> None:
        if not asked.is_set():
            asked.set()
            timer = threading.Timer(GRACE_SECONDS, os._exit, (RESUMABLE,))
            timer.daemon = True
            timer.start()

    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(name, ask)
    return asked.is_set


def _end_with(parent: int) -> None:
    """Ask the kernel for SIGTERM when the parent dies, so that a killed run leaves no workers behind."""
    if not parent:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before we asked
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # all is on disk; taking the libraries down in order costs seconds a cell
