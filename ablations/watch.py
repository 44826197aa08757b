"""How a run stands, from any host that sees its folder: `python -m ablations status | logs | cancel OUT`."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import psutil
import tyro
from tyro.conf import Positional, arg

from ablations.runner.attempt import DONE, RESUMABLE
from ablations.runner.costs import duration
from ablations.runner.engines.ray_job import stop_command
from ablations.runner.engines.slurm import Job, end_of, find_jobs, scancel
from ablations.runner.folder import owner_of
from ablations.runner.plan import read_plan
from ablations.runner.queue import LOST, entries_of, last_entry, live_jobs
from ablations.runner.schedule import written_reason
from lightgen.disk.json_files import read_object, typed
from lightgen.disk.regular import last_lines

END_SECONDS = 60.0  # what a command gets to end with its workers, which save first

Out = Annotated[Positional[Path], arg(metavar="OUT")]


def status(out: Out) -> int:
    """Every cell of a run: queued and why, running and where, done, or failed and why.

    Args:
        out: the folder of the run
    """
    names, jobs = _cells(out), find_jobs()
    width = max(map(len, names), default=0)
    told = [describe(out, name, jobs) for name in names]
    for name, line in zip(names, told):
        print(f"{name:<{width}}  {line}")
    counts = {
        word: sum(line.split()[0] == word for line in told) for word in sorted({line.split()[0] for line in told})
    }
    print(", ".join(f"{count} {word}" for word, count in counts.items()))
    page = out / "report" / "index.html"
    if page.is_file():
        print(f"report: {page}")
    return 0


def logs(out: Out, cell: Annotated[Positional[str], arg(metavar="CELL")], lines: int = 40) -> int:
    """The end of a cell's log.

    Args:
        out: the folder of the run
        cell: a cell, such as small-diverse-s0
        lines: how much of it
    """
    if cell not in (names := _cells(out)):
        raise ValueError(f"no cell {cell!r} in {out}; there are {', '.join(names)}")
    log = out / "cells" / cell / "log.txt"
    print("\n".join(last_lines(log, lines)) or f"{cell} has not begun: {describe(out, cell, find_jobs())}")
    print(f"the whole log: {log}", file=sys.stderr)
    return 0


def cancel(out: Out) -> int:
    """End the cells of a run that wait or run; they save, and the command that began them resumes.

    Args:
        out: the folder of the run
    """
    names, jobs = _cells(out), find_jobs()
    live = [job.id for name in names for _, job in live_jobs(out, name, jobs or ())]
    if live:
        scancel(live)
        print(f"cancelled {len(live)} jobs")
    if job := stop_command(out):
        print(f"stopped Ray's job {job}")
    pid, host = owner_of(out)
    if pid and host == socket.gethostname():
        os.kill(pid, signal.SIGTERM)
        print(f"asked process {pid} to stop", flush=True)
        _wait_for_end(out, pid)
    elif pid:
        print(f"process {pid} on {host} works in {out}: end it there")
    if jobs is None and any(entries_of(out, name) for name in names):
        print("Slurm does not answer here: its jobs, if there are any, go on")
    if not (live or pid or job):
        print("nothing waits or runs")
    return 0


def _wait_for_end(out: Path, pid: int) -> None:
    """Return once the process works in OUT no more, so that the same command can be given at once."""
    deadline = time.monotonic() + END_SECONDS
    while owner_of(out)[0] == pid:
        if time.monotonic() > deadline:
            raise ValueError(f"process {pid} still works in {out} after {END_SECONDS:g} s: end it")
        time.sleep(0.1)


def describe(out: Path, cell: str, jobs: Sequence[Job] | None) -> str:
    """One line of how the cell stands, its first word the state."""
    folder = out / "cells" / cell
    if (folder / "result.json").is_file() and (folder / "cell.json").is_file():
        return "done"
    noted = _read(folder / "job.json")
    live = live_jobs(out, cell, jobs or ())
    if running := [job for _, job in live if not job.is_queued]:
        word = "ending" if all(job.is_ending for job in running) else "running"
        return f"{word} {_place(folder)} (job {running[0].id})"
    if live:
        reason = next((job.reason for _, job in live if job.reason != "None"), "")
        return f"queued {reason} (job {live[-1][1].id})"
    if reason := written_reason(folder):
        return f"failed {reason}"
    if noted.get("engine") == "slurm" and jobs is not None:
        return _ended(out, cell)
    if (folder / "progress.json").is_file() and _lives(folder):
        return f"running {_place(folder)}"
    if noted.get("engine") == "slurm":
        return "unknown: Slurm does not answer here"
    return "waiting" if not (folder / "log.txt").is_file() else "stopped; the command that began it resumes"


def _ended(out: Path, cell: str) -> str:
    """How it stands with a cell whose last job is gone and left neither a record nor a reason."""
    entry = last_entry(out, cell)
    end = end_of(entry.job) if entry is not None and entry.job else None
    if end is None or end.code == DONE:
        return "lost: no job and no record"
    if end.state == "CANCELLED" or end.state in LOST or end.code == RESUMABLE:
        return f"stopped ({end.words}); the command that began it resumes"
    return f"failed {end.words}"


def _cells(out: Path) -> list[str]:
    return [f"{entry['variant']}-s{entry['seed']}" for entry in read_plan(out)["cells"]]


def _read(path: Path) -> dict[str, Any]:
    return read_object(path) if path.is_file() else {}


def _place(folder: Path) -> str:
    """The step that the cell is in, how much of it is done, and when that was last heard of."""
    if not (folder / "progress.json").is_file():
        return "starting"
    progress = read_object(folder / "progress.json", step=str, fraction=(int, float))
    heard = time.time() - (folder / "progress.json").stat().st_mtime
    return f"{progress['step']} {progress['fraction']:.0%}, heard of {duration(max(0.0, heard))} ago"


def _lives(folder: Path) -> bool:
    """Whether the worker that wrote progress.json lives, as far as can be told from here."""
    path = folder / "progress.json"
    worker = typed(read_object(path).get("worker", {}), f"{path}: worker")
    if worker.get("host") != socket.gethostname():
        return True
    return psutil.pid_exists(typed(worker, f"{path}: worker", pid=int)["pid"])


def _verb(function: Callable[..., int]) -> Callable[[list[str] | None], int]:
    def main(arguments: list[str] | None = None) -> int:
        try:
            return tyro.cli(function, prog=f"python -m ablations {function.__name__}", args=arguments)
        except (ValueError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2

    return main


VERBS = {function.__name__: _verb(function) for function in (status, logs, cancel)}
