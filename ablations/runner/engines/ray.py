"""The Ray engine (extra `ray`): each cell is a Ray task that runs the worker command as its child."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def run_command(command: Sequence[str], log: str) -> int:
    """Run the worker as a child of the task, to save and leave when the task's process ends."""
    import os

    with open(log, "ab") as output:
        return subprocess.call(
            [sys.executable, *command, "--parent", str(os.getpid())], stdout=output, stderr=subprocess.STDOUT
        )


class RayEngine:
    """Uses the cluster that RAY_ADDRESS names, else a local one on the loopback address without a dashboard."""

    def __init__(self, workers: int, uses_gpu: bool) -> None:
        try:
            import ray
        except ImportError as error:
            raise ValueError("--engine ray needs the extra: pip install 'lightgen-bench[ray]'") from error
        self.workers = workers
        self.ray = ray
        ray.init(include_dashboard=False, log_to_driver=False)
        self.task = ray.remote(max_retries=0)(run_command).options(num_cpus=1, num_gpus=int(uses_gpu))

    def submit(self, command: Sequence[str], log: Path, slot: int) -> Any:
        """Queue the command."""
        log.parent.mkdir(parents=True, exist_ok=True)
        return self.task.remote(list(command), str(log))

    def poll(self, job: Any) -> int | None:
        """The worker's exit code; a task that ended without one counts as killed."""
        ready, _ = self.ray.wait([job], timeout=0)
        if not ready:
            return None
        try:
            return int(self.ray.get(job))
        except self.ray.exceptions.RayError:
            return -signal.SIGKILL

    def stop(self, jobs: Sequence[Any]) -> None:
        """Cancel the tasks; their workers get SIGTERM and save."""
        for job in jobs:
            self.ray.cancel(job, force=True)
