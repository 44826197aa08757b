"""The Ray engine (extra `ray`): each cell is a Ray task on one node, which runs the worker command as its child."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ablations.runner.attempt import RESUMABLE
from ablations.runner.engines.resources import Shape

STOP_SECONDS = 40.0  # what workers get to save before their tasks are killed


def run_command(command: Sequence[str], log: str, threads: int) -> int:
    """Run the worker in a process group of its own; a cancelled task lets it save and leaves nothing behind."""
    environment = os.environ | {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    arguments = [sys.executable, *command, "--parent", str(os.getpid())]
    with open(log, "ab") as output:
        worker = subprocess.Popen(
            arguments, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    try:
        while worker.poll() is None:  # not wait(): Ray's cancelling reaches only a process that looks
            time.sleep(0.2)
        return worker.returncode
    except KeyboardInterrupt:
        os.killpg(worker.pid, signal.SIGTERM)
        return worker.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)


class RayEngine:
    """Uses the cluster that RAY_ADDRESS names, else one on this machine that listens on loopback alone."""

    def __init__(self, workers: int, shape: Shape) -> None:
        try:
            import ray
        except ImportError as error:
            raise ValueError("--engine ray needs the extra: pip install 'lightgen-bench[ray]'") from error
        self.workers, self.shape, self.ray = workers, shape, ray
        ours = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        _connect(ray)
        for number, handler in ours.items():  # Ray puts its own in their place, which end the process at once
            signal.signal(number, handler)
        cores, gpus = shape.resources.cpus, shape.resources.gpus_per_node
        _check(ray.nodes(), shape)
        # Of a cluster only a shared folder is assumed; the code comes from where each node has it installed.
        self.task = ray.remote(max_retries=0)(run_command).options(num_cpus=cores, num_gpus=gpus)

    def submit(self, command: Sequence[str], log: Path, slot: int) -> Any:
        """Queue the command."""
        log.parent.mkdir(parents=True, exist_ok=True)
        return self.task.remote([*command, *self.shape.words], str(log), self.shape.threads)

    def poll(self, job: Any) -> int | None:
        """The worker's exit code; a task whose node or process was lost is to be resumed."""
        ready, _ = self.ray.wait([job], timeout=0)
        if not ready:
            return None
        errors = self.ray.exceptions
        try:
            return int(self.ray.get(job))
        except errors.OutOfMemoryError:
            return -signal.SIGKILL
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.ObjectLostError, errors.TaskCancelledError):
            return RESUMABLE
        except errors.RayError:
            return -signal.SIGKILL

    def name(self, job: Any) -> str:
        """Ray's id of the task."""
        return job.task_id().hex()

    def stop(self, jobs: Sequence[Any]) -> None:
        """Cancel the tasks, which let their workers save; those that take too long are killed."""
        for job in jobs:
            self.ray.cancel(job)
        deadline = time.monotonic() + STOP_SECONDS
        left = list(jobs)
        while left and time.monotonic() < deadline:
            _, left = self.ray.wait(left, num_returns=len(left), timeout=1.0)
        for job in left:
            self.ray.cancel(job, force=True)


def _connect(ray: Any) -> None:
    """The cluster that is named, or a new one that nobody else can reach."""
    if "RAY_ADDRESS" in os.environ:
        try:
            ray.init(log_to_driver=False, logging_level="error")
        except (ConnectionError, ValueError) as error:
            raise ValueError(f"no Ray cluster at RAY_ADDRESS={os.environ['RAY_ADDRESS']} ({error})") from None
        return
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="error", _node_ip_address="127.0.0.1")


def _check(nodes: Sequence[dict[str, Any]], shape: Shape) -> None:
    """A cell that fits on no node would wait for ever."""
    asked = {"CPU": shape.resources.cpus, "GPU": shape.resources.gpus_per_node}
    if shape.resources.nodes > 1:
        raise ValueError("--engine ray runs a cell on one node; give --nodes 1, or --engine slurm")
    found = [node["Resources"] for node in nodes if node["Alive"]]
    if not any(all(node.get(kind, 0) >= count for kind, count in asked.items()) for node in found):
        has = "; ".join(f"{node.get('CPU', 0):g} cores and {node.get('GPU', 0):g} GPUs" for node in found)
        raise ValueError(
            f"no node of the Ray cluster has what a cell asks for, {asked['CPU']} cores and {asked['GPU']} GPUs: {has}"
        )
