"""A cell's processes: the worker alone holds lease and record, and starts the others for the steps that can use them.

A training step runs in all of them as one, in a process group; of a step with `parts` each does its shard, and the
worker finishes it. They are started anew, at another port, when one was killed or the port was taken; what they had
saved is gone on from. On several nodes Slurm's srun starts them, or in a placement group of Ray's `engines/spread.py`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.runner.step import Facts, Step, Stopped, Work
from lightgen.disk.json_files import read_json

STARTS = 3  # of the processes of one step, before it is a failure
GRACE_SECONDS = 25.0  # from a signal to the end of the processes
OTHERS_SECONDS = 5.0  # what the others get once one process failed: they wait for it in vain
LOOK_SECONDS = 0.1
RESUMABLE = 75
PORT_TAKEN = ("EADDRINUSE", "ddress already in use")


class _Again(Exception):
    """What went wrong is nothing of the step's."""


@dataclass(frozen=True, kw_only=True)
class Processes:
    """How many a cell has, and what they must be told to find its steps."""

    out: Path = Path()
    cell: str = ""
    extra: Sequence[str] = ()  # further arguments of the worker, as --study FILE
    count: int = 1
    nodes: int = 1
    group: str = ""  # the placement group of Ray's that the nodes are, where Slurm does not give them

    @property
    def described(self) -> dict[str, int]:
        """What of it a number can depend on: the order of sums."""
        threads = os.environ.get("OMP_NUM_THREADS", "")
        return {"processes": self.count, "threads": int(threads) if threads.isdigit() else os.cpu_count() or 1}

    def run(self, step: Step, work: Work) -> Facts:
        """The facts of the step, made by as many processes as it can use."""
        if self.count == 1:
            return step.run(work)
        for part in step.parts:
            self._run(step, work, part)
        if not step.together:
            return step.run(work)
        self._run(step, work, "run")
        return read_json(self.folder / "facts.json")

    @property
    def folder(self) -> Path:
        """Where the processes leave what they have to tell."""
        return self.out / "cells" / self.cell / ".processes"

    def _run(self, step: Step, work: Work, method: str) -> None:
        for start in range(STARTS):
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            try:
                return self._wait(self._start(step, work, method), work)
            except _Again as reason:
                print(f"{step.name}: {reason}; start {start + 1} of {STARTS}", flush=True)
        raise RuntimeError(f"{step.name}: a process was killed {STARTS} times (out of memory?)")

    def _start(self, step: Step, work: Work, method: str) -> list[subprocess.Popen[bytes]]:
        port = str(_free_port())
        words = ["-m", "ablations.rank", str(self.out), self.cell, step.folder, str(work.out), method, *self.extra]
        environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        if self.group:
            spread = ["-m", "ablations.runner.engines.spread", self.group, str(self.count)]
            return [_popen([sys.executable, *spread, *words], environment)]
        if self.nodes > 1:
            environment["MASTER_ADDR"] = socket.gethostname()
            spread = [f"--nodes={self.nodes}", f"--ntasks={self.count}", "--kill-on-bad-exit=1", "--export=ALL"]
            return [_popen(["srun", *spread, sys.executable, *words], environment)]
        places = [{"RANK": str(i), "LOCAL_RANK": str(i), "WORLD_SIZE": str(self.count)} for i in range(self.count)]
        command = [sys.executable, *words, "--parent", str(os.getpid())]
        return [_popen(command, environment | place) for place in places]

    def _wait(self, started: Sequence[subprocess.Popen[bytes]], work: Work) -> None:
        """Wait for all; pass a stop on, and end the others where one failed."""
        deadline, stopped = float("inf"), False
        try:
            while any(process.poll() is None for process in started):
                failed = any(process.returncode for process in started)
                if (work.stop() or failed) and deadline == float("inf"):
                    stopped = not failed
                    deadline = time.monotonic() + (GRACE_SECONDS if stopped else OTHERS_SECONDS)
                    _signal(started, signal.SIGTERM)
                if time.monotonic() > deadline:
                    break
                time.sleep(LOOK_SECONDS)
            codes = [process.poll() for process in started]
        finally:
            _signal(started, signal.SIGKILL)
            for process in started:
                process.wait()
        self._judge(codes, stopped)

    def _judge(self, codes: Sequence[int | None], stopped: bool) -> None:
        if not any(codes) and None not in codes:
            return
        if stopped or (RESUMABLE in codes and set(codes) <= {0, RESUMABLE}):
            raise Stopped
        killed = [-code if code < 0 else code - 128 for code in codes if code and (code < 0 or code > 128)]
        if killed:
            raise _Again(f"a process was ended by signal {killed[0]}")
        told = self.folder / "failure.json"
        failure: Mapping[str, Any] = read_json(told) if told.is_file() else {"reason": f"exit codes {codes}"}
        if any(word in failure["reason"] for word in PORT_TAKEN):
            raise _Again("the port was taken")
        raise (ValueError if failure.get("permanent") else RuntimeError)(failure["reason"])


def _popen(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env=dict(environment), stdin=subprocess.DEVNULL)


def _signal(processes: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return listener.getsockname()[1]
