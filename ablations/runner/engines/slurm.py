"""The Slurm engine (extra `slurm`): each cell is a submitit job that runs the worker command as its child."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ablations.runner.engines.local import num_cores


def run_command(command: Sequence[str], log: str) -> int:
    """Run the worker as a child process; signals that Slurm sends to the job are passed on to it.

    A child because submitit swallows SIGTERM; it answers them itself after our handlers are set in the job.
    """
    with open(log, "ab") as output:
        worker = subprocess.Popen([sys.executable, *command], stdout=output, stderr=subprocess.STDOUT)
    for name in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(name, lambda number, frame: worker.send_signal(signal.SIGTERM))
    return worker.wait()


class SlurmEngine:
    """Submits to the partition that the site's defaults (SBATCH_* variables) choose."""

    def __init__(self, workers: int, uses_gpu: bool, folder: Path) -> None:
        try:
            import submitit
        except ImportError as error:
            raise ValueError("--engine slurm needs the extra: pip install 'lightgen-bench[slurm]'") from error
        self.workers = workers
        self.executor = submitit.AutoExecutor(folder=folder, cluster="slurm")
        self.executor.update_parameters(
            name="ablations", cpus_per_task=min(8, num_cores()), gpus_per_node=int(uses_gpu), timeout_min=24 * 60
        )

    def submit(self, command: Sequence[str], log: Path, slot: int) -> Any:
        """Queue the command."""
        log.parent.mkdir(parents=True, exist_ok=True)
        return self.executor.submit(run_command, list(command), str(log))

    def poll(self, job: Any) -> int | None:
        """The worker's exit code; a job that ended without one counts as killed."""
        if not job.done():
            return None
        return -signal.SIGKILL if job.exception() is not None else int(job.result())

    def stop(self, jobs: Sequence[Any]) -> None:
        """Cancel the jobs; Slurm's SIGTERM lets them save."""
        for job in jobs:
            job.cancel()
