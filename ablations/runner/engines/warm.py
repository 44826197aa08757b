"""A process that has imported what a study's cells need, of which each worker is a fork: imports take seconds a cell.

The engine and this process talk in lines of JSON over a socket: {"command", "log"} one way; {"pid"}, and later {"pid",
"code"}, the other. It ends when the engine's end closes, and its workers end with it. Nothing here draws a random
number, starts a thread or touches a GPU before the fork, so a forked worker computes what one started by itself does.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

from ablations.runner.attempt import RESUMABLE

WORKER = ("-m", "ablations.worker")


class WarmProcess:
    """The engine's side: starts workers in a process that is warm, and hears how they ended."""

    def __init__(self, environment: Mapping[str, str], imports: Sequence[str] = ()) -> None:
        ours, its = socket.socketpair()
        command = [sys.executable, "-m", "ablations.runner.engines.warm", str(its.fileno()), *imports]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, env=dict(environment), pass_fds=[its.fileno()], start_new_session=True
        )
        its.close()
        self._lines = ours.makefile("rw", encoding="utf-8", newline="\n")
        ours.close()  # the file keeps it open
        self._changed = threading.Condition()
        self._started: list[int] = []
        self._codes: dict[int, int] = {}
        self._is_open = True
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def submit(self, command: Sequence[str], log: Path) -> WarmJob:
        """Start the worker, its output appended to `log`. OSError where the process is gone."""
        with self._changed:
            with suppress(BrokenPipeError, ConnectionResetError):
                self._lines.write(json.dumps({"command": list(command), "log": str(log)}) + "\n")
                self._lines.flush()
                self._changed.wait_for(lambda: self._started or not self._is_open)
            if not self._started:
                raise OSError("the process that starts workers is gone")
            return WarmJob(pid=self._started.pop(), process=self)

    def code(self, pid: int) -> int | None:
        """The worker's exit code, -N after signal N, None while it runs. Where nobody is left to tell it, the worker is
        saving and leaving: the code that says so."""
        with self._changed:
            return self._codes.get(pid, None if self._is_open else RESUMABLE)

    def wait(self, pid: int, seconds: float | None) -> int | None:
        """The code, waited for so long."""
        with self._changed:
            self._changed.wait_for(lambda: pid in self._codes or not self._is_open, seconds)
        return self.code(pid)

    def close(self) -> None:
        """End it; it has no workers left."""
        with suppress(OSError):
            self._process.kill()
        self._process.wait()
        self._listener.join()
        with suppress(OSError):
            self._lines.close()

    def _listen(self) -> None:
        with suppress(OSError, ValueError):
            for line in self._lines:
                told = json.loads(line)
                with self._changed:
                    if "code" in told:
                        self._codes[told["pid"]] = told["code"]
                    else:
                        self._codes.pop(told["pid"], None)  # of an earlier worker that had this number
                        self._started.append(told["pid"])
                    self._changed.notify_all()
        with self._changed:
            self._is_open = False
            self._changed.notify_all()


class WarmJob:
    """A forked worker, asked as a `subprocess.Popen` is."""

    def __init__(self, *, pid: int, process: WarmProcess) -> None:
        self.pid, self._process = pid, process

    def poll(self) -> int | None:
        return self._process.code(self.pid)

    def wait(self, timeout: float | None = None) -> int:
        code = self._process.wait(self.pid, timeout)
        if code is None:
            raise subprocess.TimeoutExpired([*WORKER], timeout or 0.0)
        return code


def can_be_warm(command: Sequence[str]) -> bool:
    """Whether the command is a worker's, and this system forks safely."""
    return sys.platform == "linux" and tuple(command[: len(WORKER)]) == WORKER


def main(descriptor: int, imports: Sequence[str]) -> None:
    """Import, each as `module` or `module:name`, then fork a worker for each line until the engine is gone."""
    for wanted in (WORKER[1], *imports):
        module, _, name = wanted.partition(":")
        found = importlib.import_module(module)
        if name:  # transformers and diffusers import a class when it is first asked for
            getattr(found, name)
    gc.collect()
    gc.freeze()  # so that counting references does not copy every page
    engine = socket.socket(fileno=descriptor)
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    unread = b""
    while True:
        ready, _, _ = select.select([descriptor, woken], [], [])
        if woken in ready:
            os.read(woken, 512)
            _tell_ended(engine)
        if descriptor in ready:
            read = engine.recv(65536)
            if not read:
                return
            *lines, unread = (unread + read).split(b"\n")
            for line in lines:
                pid = _fork(json.loads(line), engine, (woken, wake))
                _tell(engine, {"pid": pid})


def _fork(asked: Mapping[str, Any], engine: socket.socket, pipe: Sequence[int]) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        engine.close()
        for end in pipe:
            os.close(end)
        _work([*asked["command"][len(WORKER) :], "--parent", str(parent)], asked["log"])
    return pid


def _work(arguments: list[str], log: str) -> NoReturn:
    code = 1
    try:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        with suppress(OSError):
            Path("/proc/self/comm").write_text(arguments[1][:15])  # `ps` then shows the cell
        # The lock of progress bars is shared by all forks: one that is killed holding it would stop every other.
        tqdm.set_lock(threading.RLock())
        code = importlib.import_module(WORKER[1]).main(arguments)  # by its name, as `python -m` has it
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 2
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _tell_ended(engine: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _tell(engine, {"pid": pid, "code": os.waitstatus_to_exitcode(status)})


def _tell(engine: socket.socket, told: Mapping[str, int]) -> None:
    with suppress(OSError):  # the engine is gone, and so are we, at the next look
        engine.sendall((json.dumps(told) + "\n").encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
