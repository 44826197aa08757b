"""One cell, start to end: `python -m ablations.worker OUT CELL`. Every engine runs this same command.

Exit codes: 0 done; 75 saved and resumable, give the same command again; 42 cannot succeed as it is asked (the reason is
in OUT/cells/CELL/error.txt); 1 an unexpected failure (likewise). SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 save at the next
step boundary and leave with 75.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional, arg

from ablations.runner.attempt import PERMANENT, RESUMABLE, run_cell
from ablations.runner.plan import find_cell, read_plan
from ablations.runner.processes import Processes
from ablations.runner.study import Cell, Study
from ablations.studies import load_study, study_names
from lightgen.disk.config import from_dict

GRACE_SECONDS = 25.0  # from a signal to leaving without a save, for steps that reach no boundary
LOOK_SECONDS = 0.5  # how often a worker looks whether the process that started it still lives


def worker(
    out: Annotated[Positional[Path], arg(metavar="OUT")],
    cell: Annotated[Positional[str], arg(metavar="CELL")],
    study: str = "",
    until: str = "",
    processes: int = 1,
    nodes: int = 1,
    group: str = "",
    parent: int = 0,
) -> int:
    """One cell of a planned study, start to end.

    Args:
        out: a folder that `python -m ablations.run` has planned
        cell: a cell of its plan.json, such as small-diverse-s0
        study: the study's file, if it is not one of the package
        until: make only what leads to this step, named by its folder in the store
        processes: that share the steps which several can make
        nodes: that they are spread over; more than one is for a job of Slurm's, or a group of Ray's
        group: the placement group of Ray's that the nodes are (set by the engine)
        parent: end with the process of this number (set by the engines)
    """
    faulthandler.enable()
    stop = stop_on_signals()
    _end_with(parent)
    try:
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise ValueError("a worker starts its processes itself: run it alone, without torchrun, with --processes N")
        chosen, found, runtime = load(out, cell, study)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return PERMANENT
    extra = ("--study", study) if study else ()
    several = Processes(out=out, cell=cell, extra=extra, count=processes, nodes=nodes, group=group)
    return run_cell(out, found, chosen.record, runtime, stop, until=until, processes=several)


def main(arguments: list[str] | None = None) -> int:
    """Run the cell that the command line names; returns the exit code."""
    return tyro.cli(worker, prog="python -m ablations.worker", args=arguments)


def load(out: Path, cell: str, study: str) -> tuple[Study, Cell, Any]:
    """The study, the cell and the runtime settings, as OUT/plan.json has them; ValueError where they are not there."""
    plan = read_plan(out)
    chosen = load_study(study or _named_study(plan))
    found = find_cell(plan, cell, chosen)
    runtime = from_dict(type(chosen.setting(plan["scale"]).runtime), plan["setting"]["runtime"], "plan.json")
    return chosen, found, runtime


def _named_study(plan: dict[str, Any]) -> str:
    """The plan's study, which must be one of the package: a data file does not choose what code is run."""
    if plan["study"] not in study_names():
        raise ValueError(f"no study {plan['study']!r} in the package; give its file with --study")
    return plan["study"]


def stop_on_signals() -> Callable[[], bool]:
    """A function that is true once a signal asked to stop; a step that never looks is ended after a grace time."""
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
    """Send ourselves SIGTERM once the parent is gone, so that a killed run leaves no workers behind."""

    def watch() -> None:
        while os.getppid() == parent:
            finished.wait(LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    finished = threading.Event()
    if parent:
        threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # all is on disk; taking the libraries down in order costs seconds a cell
