"""The local engine: one process a cell, each in its own process group, the cores shared out among them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ablations.runner.engines.resources import Shape
from ablations.runner.engines.warm import WarmJob, WarmProcess, can_be_warm

Job = subprocess.Popen[bytes] | WarmJob
STOP_SECONDS = 40.0  # what workers get to save before they are killed


class LocalEngine:
    """Runs worker commands as children of this process, or of a warm one of it on a CPU; none of them outlives it."""

    def __init__(self, workers: int, devices: Sequence[str], shape: Shape, imports: Sequence[str] = ()) -> None:
        self.workers, self.devices, self.shape, self.imports = workers, devices, shape, imports
        self.threads = shape.threads if shape.is_pinned else max(1, num_cores() // workers // shape.processes)
        self.warm: WarmProcess | None = None

    def submit(self, command: Sequence[str], log: Path, slot: int) -> Job:
        """Start the command in worker slot `slot`, its output appended to `log`."""
        threads = str(self.threads)
        # Threads that wait for one another by turning round take six times as long where anything else runs beside.
        environment = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ
        environment |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"}
        if self.devices:
            first, count = slot * self.shape.processes, len(self.devices)
            own = [self.devices[(first + i) % count] for i in range(self.shape.processes)]
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(dict.fromkeys(own))
        log.parent.mkdir(parents=True, exist_ok=True)
        if not self.devices and can_be_warm(command):  # a GPU must not be touched before a fork
            return self._fork([*command, *self.shape.words], log, environment)
        with log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, *command, *self.shape.words, "--parent", str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def _fork(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> WarmJob:
        if self.warm is not None:
            with suppress(OSError):  # it was killed: another one
                return self.warm.submit(command, log)
            self.warm.close()
        self.warm = WarmProcess(environment, self.imports)
        return self.warm.submit(command, log)

    def poll(self, job: Job) -> int | None:
        """The job's exit code, or None while it runs; -N if signal N ended it."""
        return job.poll()

    def name(self, job: Job) -> str:
        """The process id."""
        return str(job.pid)

    def stop(self, jobs: Sequence[Job], seconds: float = STOP_SECONDS) -> None:
        """Ask the jobs to save and leave; after `seconds` end their process groups."""
        for job in jobs:
            _signal(job, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        for job in jobs:
            try:
                job.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal(job, signal.SIGKILL)
                job.wait()
        if self.warm is not None:
            self.warm.close()
            self.warm = None


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _signal(job: Job, number: int) -> None:
    if job.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(job.pid, number)
