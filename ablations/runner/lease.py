"""Leases: who is making a step. A living holder is waited for, a dead one's lease is taken over.

A lease is a file with attempt, process and host, and its time is the heartbeat. On the holder's own host its process is
looked for; on another the heartbeat tells, in the disk's own time, because the clocks of hosts differ. Whoever was
silent for too long may wake up: so each attempt has a number, and a holder asks whether the lease is still its own
before it gives a sign of life, publishes, or lets go.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock

from ablations.runner.step import Stopped
from lightgen.disk.config import from_dict
from lightgen.disk.json_files import read_object

HEARTBEAT_SECONDS = 5.0
DEAD_AFTER_SECONDS = 60.0  # a holder on another host that has not been heard of for so long is taken as dead
LOOK_SECONDS = 0.2
SAME_START_SECONDS = 2.0  # how far two readings of one process's start may lie apart


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who makes a step, at which attempt."""

    attempt: int = 0
    pid: int = 0
    started: float = 0.0
    host: str = ""

    @classmethod
    def me(cls, attempt: int) -> Holder:
        own = psutil.Process()
        return cls(attempt=attempt, pid=own.pid, started=own.create_time(), host=socket.gethostname())

    @property
    def is_local(self) -> bool:
        return self.host == socket.gethostname()

    def is_running(self) -> bool:
        """Whether the process still runs, on this host; its start tells a process number used again apart."""
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.started) < SAME_START_SECONDS
            return is_same and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, ValueError, TypeError):
            return False


@dataclass
class Lease:
    """A lease that this process took; another may take it over meanwhile."""

    path: Path
    holder: Holder
    before: Holder | None = None  # whose lease it was, if it was not let go
    finished: threading.Event = field(default_factory=threading.Event)
    lost: threading.Event = field(default_factory=threading.Event)

    @property
    def may_wake(self) -> bool:
        """Whether the holder before may still have files open: it was only silent, on another host."""
        return self.before is not None and not self.before.is_local

    def is_ours(self) -> bool:
        """Whether nobody took it over."""
        if not self.lost.is_set() and read_holder(self.path) != self.holder:
            self.lost.set()
        return not self.lost.is_set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """A block in which no other takes it over; raises Stopped where one already did."""
        with _guard(self.path):
            if not self.is_ours():
                raise Stopped
            yield

    def beat(self) -> None:
        """Give signs of life until it is let go, or lost."""
        while not self.finished.wait(HEARTBEAT_SECONDS) and self.is_ours():
            try:
                os.utime(self.path)
            except OSError:
                self.lost.set()

    def let_go(self) -> None:
        """Remove it, if it is still ours."""
        self.finished.set()
        try:
            with self.held():
                self.path.unlink()
        except (Stopped, OSError):
            pass  # another's now, or gone


@contextmanager
def lease(
    path: Path,
    is_done: Callable[[], bool],
    stop: Callable[[], bool],
    attempts: Callable[[], int] = lambda: 0,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[Lease | None]:
    """Hold the lease at `path`, with a number above `attempts` and every earlier holder's; first wait until it is free,
    saying whose it is, or `is_done`, in which case nothing is held."""
    taken, waiting = None, _Waiting(path, say)
    while not is_done():
        taken = _take(path, waiting, attempts)
        if taken is not None:
            break
        if stop():
            raise Stopped
        time.sleep(LOOK_SECONDS)
    if taken is None:
        yield None
        return
    thread = threading.Thread(target=taken.beat, daemon=True)
    thread.start()
    try:
        yield taken
    finally:
        taken.let_go()
        thread.join()


def is_held(path: Path) -> bool:
    """Whether a process that lives, as far as can be told at a glance, holds the lease."""
    holder = read_holder(path)
    if holder is None:
        return False
    if holder.is_local:
        return holder.is_running()
    age = _age(path)
    return age is not None and age < DEAD_AFTER_SECONDS


def read_holder(path: Path) -> Holder | None:
    """Who wrote the lease; None where there is none, or a torn one."""
    try:
        found = read_object(path)
        return from_dict(Holder, {name: found[name] for name in asdict(Holder()) if name in found}, str(path))
    except (OSError, ValueError):
        return None


@dataclass
class _Waiting:
    """What one who waits has seen of a lease: signs of life are told by change, whatever the clocks say."""

    path: Path
    say: Callable[[str], None]
    seen: tuple[Any, ...] = ()
    since: float = 0.0
    said: Holder | None = None

    def is_held(self) -> bool:
        """As the function, but a heartbeat from the future counts only as long as it changes."""
        holder = read_holder(self.path)
        if holder is None or not is_held(self.path):
            return False
        now, seen = time.monotonic(), (holder, _time_of(self.path))
        if seen != self.seen:
            self.seen, self.since = seen, now
        if self.said != holder:
            self.said = holder
            self.say(f"{self.path.name} is being made by process {holder.pid} on {holder.host}; waiting for it")
        return holder.is_local or now - self.since < DEAD_AFTER_SECONDS


def _take(path: Path, waiting: _Waiting, attempts: Callable[[], int]) -> Lease | None:
    """Take the lease unless a living worker holds it. One guard lock makes look-and-take a single act."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _guard(path):
        if waiting.is_held():
            return None
        before = read_holder(path)
        holder = Holder.me(1 + max(attempts(), before.attempt if before else 0))
        path.unlink(missing_ok=True)
        with path.open("x", encoding="utf-8") as file:
            json.dump(asdict(holder), file)
    return Lease(path, holder, before)


def _guard(path: Path) -> FileLock:
    return FileLock(path.parent / ".guard")


def _time_of(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _age(path: Path) -> float | None:
    """Seconds since the last heartbeat, both times given by the disk that the lease is on; None if it is gone."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".now-") as probe:
            return os.fstat(probe.fileno()).st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return None
