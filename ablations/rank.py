"""One of the processes of a cell's step: started by the cell's worker, which holds the lease and writes the record.

Its place among them is in the variables that torch's own launcher sets (RANK, LOCAL_RANK, WORLD_SIZE), or in Slurm's.
Exit codes are the worker's; the first failure is told in a file for the worker to raise.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from ablations.runner.attempt import DONE, FAILED, PERMANENT, RESUMABLE, Progress, is_permanent
from ablations.runner.devices import find_devices
from ablations.runner.processes import Processes
from ablations.runner.step import Stopped, Work
from ablations.runner.store import Store
from ablations.worker import LOOK_SECONDS, load, stop_on_signals
from lightgen.disk.json_files import write_json

PLACES = {"RANK": "SLURM_PROCID", "LOCAL_RANK": "SLURM_LOCALID", "WORLD_SIZE": "SLURM_NTASKS"}


def rank(
    out: Positional[Path],
    cell: Positional[str],
    step: Positional[str],
    folder: Positional[Path],
    method: Positional[str],
    study: str = "",
    parent: Annotated[int, tyro.conf.arg(help="leave at once when this process is gone")] = 0,
) -> int:
    """One process of a step of a cell: `method` of the step that has the name `step`, written into `folder`."""
    faulthandler.enable()
    stop = stop_on_signals()
    _leave_with(parent)
    for name, of_slurm in PLACES.items():
        os.environ.setdefault(name, os.environ.get(of_slurm, "0"))
    place, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    told = Processes(out=out, cell=cell).folder
    try:
        _, found, runtime = load(out, cell, study)
        chosen = next(known for known in found.steps if known.folder == step)
        report = Progress(out / "cells" / cell / "progress.json") if place == 0 else None
        work = Work(
            out=folder, made=Store(out / "store").folder, runtime=runtime, stop=stop,
            progress=report.update if report else lambda fraction: None,
            shard=(0, 1) if chosen.together else (place, count),
        )  # fmt: skip
        if report:
            report.start(chosen.name)
        if not chosen.together:
            _see_one_device(int(os.environ["LOCAL_RANK"]))
        facts = getattr(chosen, method)(work)
        if place == 0 and method == "run":
            write_json(told / "facts.json", dict(facts))
        return DONE
    except Stopped:
        return RESUMABLE
    except Exception as error:
        _tell(told / "failure.json", error)
        return PERMANENT if is_permanent(error) else FAILED


def main(arguments: list[str] | None = None) -> int:
    """Run the process that the command line names; returns the exit code."""
    return tyro.cli(rank, prog="python -m ablations.rank", args=arguments)


def _see_one_device(place: int) -> None:
    """Shards know nothing of each other: each gets a GPU of its own to call the first."""
    if devices := find_devices():
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[place % len(devices)]


def _tell(path: Path, error: Exception) -> None:
    """The first failure counts: those of the others follow from it."""
    traceback.print_exception(error)
    with suppress(FileExistsError), path.open("x", encoding="utf-8") as file:
        json.dump({"reason": str(error) or type(error).__name__, "permanent": is_permanent(error)}, file)


def _leave_with(parent: int) -> None:
    """End at once when the worker is gone: its lease is another's, who may go on in the same folder."""

    def watch() -> None:
        while os.getppid() == parent:
            threading.Event().wait(LOOK_SECONDS)
        os._exit(RESUMABLE)

    if parent:
        threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
