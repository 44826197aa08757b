"""The processes of one node, of a cell that Ray spread over several."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

NAMESPACE = "ablations"  # of Ray's names
LOOK_SECONDS = 0.2


def run_ranks(arguments: Sequence[str], environment: Mapping[str, str], first: int, count: int) -> list[int]:
    """The exit codes of one node's processes; a cancelled task lets them save and leaves none behind."""
    started = start_ranks(arguments, environment, first, count)
    try:
        while any(process.poll() is None for process in started):
            if any(process.returncode for process in started):
                break  # the launcher ends the others
            time.sleep(LOOK_SECONDS)
        return [process.poll() or 0 for process in started]
    except KeyboardInterrupt:
        signal_ranks(started, signal.SIGTERM)
        return [process.wait() for process in started]
    finally:
        signal_ranks(started, signal.SIGKILL)


def start_ranks(
    arguments: Sequence[str], environment: Mapping[str, str], first: int, count: int
) -> list[subprocess.Popen[bytes]]:
    """Processes `first`, `first` + 1, ... of all, on this node."""
    command = [sys.executable, *arguments, "--parent", str(os.getpid())]
    places = [{"RANK": str(first + local), "LOCAL_RANK": str(local)} for local in range(count)]
    return [subprocess.Popen(command, env=os.environ | {**environment, **place}) for place in places]


def signal_ranks(processes: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    """Send it to those that run."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)
