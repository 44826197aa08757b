"""The store: one folder a finished step, named by its key, so the same work is never done twice.

ROOT/store.json              which layout this is
ROOT/<stage>-<key>/          the stage's files and stage.json; it appears whole, by a rename
ROOT/.work/<stage>-<key>/    the unfinished folder; kept between attempts where the stage can resume
ROOT/.leases/<stage>-<key>   who is making it: process, host, heartbeat
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ablations.cells import PlannedStep, Stage, Work

LAYOUT = 1
HEARTBEAT_SECONDS = 5.0
DEAD_AFTER_SECONDS = 60.0  # a holder on another host that has not been heard of for so long is taken as dead


class Stopped(Exception):
    """Raised at a place where leaving is safe, after a signal asked the cell to stop."""


class Store:
    """The finished steps under one folder, shared by any number of workers."""

    def __init__(self, root: Path, *, create: bool = True) -> None:
        self.root = root
        layout = root / "store.json"
        if layout.exists():
            _check_layout(layout)
        elif create:
            write_json(layout, {"layout": LAYOUT})

    def folder(self, step: PlannedStep) -> Path:
        """Where the step's files are, or will be."""
        return self.root / step.folder

    def has(self, step: PlannedStep) -> bool:
        """Whether the step is finished."""
        return (self.folder(step) / "stage.json").is_file()

    def facts(self, step: PlannedStep) -> dict[str, Any]:
        """What the finished step recorded of itself: inputs, seconds, bytes, facts."""
        return read_json(self.folder(step) / "stage.json")

    def is_being_made(self, step: PlannedStep) -> bool:
        """Whether a living worker holds the step's lease."""
        return _is_held(self.root / ".leases" / step.folder)

    def make(
        self,
        step: PlannedStep,
        stage: Stage,
        inputs: Mapping[str, Path],
        *,
        stop: Callable[[], bool],
        progress: Callable[[float], None],
    ) -> Path:
        """The folder of the step, made now unless it is there; waits while another worker makes it."""
        final, work = self.folder(step), self.root / ".work" / step.folder
        with _lease(self.root / ".leases" / step.folder, lambda: self.has(step), stop):
            if self.has(step):
                return final
            if not stage.resumable:
                shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True, exist_ok=True)
            earlier = _seconds_so_far(work)
            start = time.monotonic()
            try:
                facts = stage.function(
                    Work(out=work, inputs=inputs, recipe=step.recipe, seed=step.seed, stop=stop, progress=progress)
                )
            finally:
                seconds = earlier + time.monotonic() - start
                write_json(work / ".seconds", seconds)
            self._publish(step, work, dict(facts), seconds)
        return final

    def _publish(self, step: PlannedStep, work: Path, facts: dict[str, Any], seconds: float) -> None:
        (work / ".seconds").unlink()
        size = sum(path.stat().st_size for path in work.rglob("*") if path.is_file())
        record = {"stage": step.stage, "version": step.version, "key": step.key, "inputs": dict(step.inputs)}
        record |= {"recipe": step.recipe, "seed": step.seed, "seconds": round(seconds, 3), "bytes": size}
        write_json(work / "stage.json", record | {"facts": facts})
        if self.has(step):  # made meanwhile by a worker that took our lease for dead: its result is as good
            shutil.rmtree(work)
            return
        shutil.rmtree(self.folder(step), ignore_errors=True)  # what is left if someone removed stage.json by hand
        work.rename(self.folder(step))
        _sync_folder(self.root)

    def measured(self) -> dict[str, tuple[float, float]]:
        """Mean (seconds, bytes) of the finished steps, by stage."""
        found: dict[str, list[tuple[float, float]]] = {}
        for path in self.root.glob("*/stage.json"):
            record = read_json(path)
            found.setdefault(record["stage"], []).append((record["seconds"], record["bytes"]))
        return {stage: (_mean(r[0] for r in rows), _mean(r[1] for r in rows)) for stage, rows in found.items()}


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file that is either the old one or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_json(path: Path) -> Any:
    """The value of a JSON file; a torn one is named in the error."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not whole JSON ({error}); remove it and give the command again") from error


def _check_layout(path: Path) -> None:
    found = read_json(path)
    layout = found.get("layout") if isinstance(found, dict) else None
    if layout != LAYOUT:
        raise ValueError(
            f"{path.parent} was written with store layout {layout}, and this version reads {LAYOUT};"
            " give another --out, or the version that wrote it"
        )


def _mean(values: Iterator[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def _seconds_so_far(work: Path) -> float:
    path = work / ".seconds"
    try:
        return float(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0.0


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _lease(path: Path, is_done: Callable[[], bool], stop: Callable[[], bool]) -> Iterator[None]:
    """Hold the lease at `path`; first wait until it is free, or `is_done`, in which case nothing is held."""
    while not is_done():
        if _take(path):
            break
        if stop():
            raise Stopped
        time.sleep(0.2)
    else:
        yield
        return
    finished = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, finished), daemon=True)
    beat.start()
    try:
        yield
    finally:
        finished.set()
        beat.join()
        path.unlink(missing_ok=True)


def _beat(path: Path, finished: threading.Event) -> None:
    while not finished.wait(HEARTBEAT_SECONDS):
        try:
            os.utime(path)
        except OSError:  # someone took the lease for dead and removed it: the rename at the end settles who wins
            return


def _take(path: Path) -> bool:
    """Take the lease unless a living worker holds it. One guard lock makes look-and-take a single act on a host."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / ".guard").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if _is_held(path):
            return False
        path.unlink(missing_ok=True)
        with path.open("x", encoding="utf-8") as file:
            holder = {"pid": os.getpid(), "started": _process_start(os.getpid()), "host": socket.gethostname()}
            json.dump(holder, file)
    return True


def _is_held(path: Path) -> bool:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        age = time.time() - path.stat().st_mtime
    except (OSError, ValueError):
        return False
    if holder.get("host") == socket.gethostname():
        return holder.get("started") == _process_start(holder.get("pid", 0))
    return age < DEAD_AFTER_SECONDS


def _process_start(pid: int) -> str | None:
    """When a living process started, in clock ticks: tells a reused process id apart. None if there is no such one."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
