"""Leases: who is making a step. A living holder is waited for, a dead one's lease is taken over.

A lease is a file with process, host and heartbeat. On the holder's own host its process is looked for; on another the
heartbeat tells, the file's time.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from filelock import FileLock

from ablations.runner.step import Stopped

HEARTBEAT_SECONDS = 5.0
DEAD_AFTER_SECONDS = 60.0  # a holder on another host that has not been heard of for so long is taken as dead
SAME_START_SECONDS = 2.0  # how far two readings of one process's start may lie apart


@contextmanager
def lease(path: Path, is_done: Callable[[], bool], stop: Callable[[], bool]) -> Iterator[None]:
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


def is_held(path: Path) -> bool:
    """Whether a living process holds the lease."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        age = time.time() - path.stat().st_mtime
    except (OSError, ValueError):
        return False
    if holder.get("host") == socket.gethostname():
        return _is_running(holder.get("pid", 0), holder.get("started", 0.0))
    return age < DEAD_AFTER_SECONDS


def _beat(path: Path, finished: threading.Event) -> None:
    while not finished.wait(HEARTBEAT_SECONDS):
        try:
            os.utime(path)
        except OSError:  # someone took the lease for dead and removed it: the rename at the end settles who wins
            return


def _take(path: Path) -> bool:
    """Take the lease unless a living worker holds it. One guard lock makes look-and-take a single act."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.parent / ".guard"):
        if is_held(path):
            return False
        path.unlink(missing_ok=True)
        own = psutil.Process()
        holder = {"pid": own.pid, "started": own.create_time(), "host": socket.gethostname()}
        with path.open("x", encoding="utf-8") as file:
            json.dump(holder, file)
    return True


def _is_running(pid: int, started: float) -> bool:
    """Whether the process that started then still runs; its start tells a process number used again apart."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - started) < SAME_START_SECONDS
    except (psutil.Error, ValueError, TypeError):
        return False
