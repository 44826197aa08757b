"""The Ray engine (extra `ray`): each cell is a placement group, a bundle a node; a task in its first bundle runs the
worker command as its child."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.runner.attempt import RESUMABLE
from ablations.runner.engines.ranks import NAMESPACE
from ablations.runner.engines.resources import Shape

STOP_SECONDS = 40.0  # what workers get to save before their tasks are killed


def run_command(command: Sequence[str], log: str, more: Mapping[str, str]) -> int:
    """Run the worker in a process group of its own; a cancelled task lets it save and leaves nothing behind."""
    environment = os.environ | more
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


@dataclass(frozen=True)
class RayJob:
    """A cell's task, and the placement group that it runs in."""

    task: Any
    group: Any


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
        _check(ray.nodes(), shape)
        # Of a cluster only a shared folder is assumed; the code comes from where each node has it installed.
        self.remote = ray.remote(max_retries=0)(run_command)

    def submit(self, command: Sequence[str], log: Path, slot: int) -> RayJob:
        """Queue the command; it starts once all of its nodes can be had together."""
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        asked, name = self.shape.resources, f"cell-{uuid.uuid4().hex}"
        group = placement_group(
            [{"CPU": asked.cpus, "GPU": asked.gpus_per_node}] * asked.nodes,
            strategy="STRICT_SPREAD" if asked.nodes > 1 else "PACK",
            name=name,
        )
        task = self.remote.options(
            num_cpus=asked.cpus,
            num_gpus=asked.gpus_per_node,
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0),
        )
        log.parent.mkdir(parents=True, exist_ok=True)
        spread = ("--group", name) if asked.nodes > 1 else ()
        return RayJob(task.remote([*command, *self.shape.words, *spread], str(log), self._environment), group)

    def poll(self, job: RayJob) -> int | None:
        """The worker's exit code; a task whose node or process was lost is to be resumed."""
        ready, _ = self.ray.wait([job.task], timeout=0)
        if not ready:
            return None
        self.ray.util.remove_placement_group(job.group)
        errors = self.ray.exceptions
        try:
            return int(self.ray.get(job.task))
        except errors.OutOfMemoryError:
            return -signal.SIGKILL
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.ObjectLostError, errors.TaskCancelledError):
            return RESUMABLE
        except errors.RayError:
            return -signal.SIGKILL

    def name(self, job: RayJob) -> str:
        """Ray's id of the task."""
        return job.task.task_id().hex()

    def stop(self, jobs: Sequence[RayJob]) -> None:
        """Cancel the tasks, which let their workers save; those that take too long are killed."""
        left = [job.task for job in jobs]
        for task in left:
            self.ray.cancel(task)
        deadline = time.monotonic() + STOP_SECONDS
        while left and time.monotonic() < deadline:
            _, left = self.ray.wait(left, num_returns=len(left), timeout=1.0)
        for task in left:
            self.ray.cancel(task, force=True)
        for job in jobs:
            self.ray.util.remove_placement_group(job.group)

    @property
    def _environment(self) -> dict[str, str]:
        """What a worker is given: its threads, and where its cluster is."""
        threads = {name: str(self.shape.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        return threads | {"RAY_ADDRESS": self.ray.get_runtime_context().gcs_address}


def _connect(ray: Any) -> None:
    """The cluster that is named, or a new one that nobody else can reach."""
    if "RAY_ADDRESS" in os.environ:
        try:
            ray.init(namespace=NAMESPACE, log_to_driver=False, logging_level="error")
        except (ConnectionError, ValueError) as error:
            raise ValueError(f"no Ray cluster at RAY_ADDRESS={os.environ['RAY_ADDRESS']} ({error})") from None
        return
    quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
    try:
        ray.init(namespace=NAMESPACE, _node_ip_address="127.0.0.1", **quiet)
    except Exception as error:  # Ray raises no class of its own where a node does not start within its 30 s
        raise ValueError(f"Ray did not start on this machine: {error}") from error


def _check(nodes: Sequence[dict[str, Any]], shape: Shape) -> None:
    """A cell that fits on no nodes would wait for ever."""
    asked = {"CPU": shape.resources.cpus, "GPU": shape.resources.gpus_per_node}
    found = [node["Resources"] for node in nodes if node["Alive"]]
    fit = sum(all(node.get(kind, 0) >= count for kind, count in asked.items()) for node in found)
    if fit < shape.resources.nodes:
        has = "; ".join(f"{node.get('CPU', 0):g} cores and {node.get('GPU', 0):g} GPUs" for node in found)
        wanted = f"{asked['CPU']} cores and {asked['GPU']} GPUs"
        few = f"{fit} nodes of the Ray cluster have" if fit else "no node of the Ray cluster has"
        raise ValueError(f"{few} what a cell asks for, {wanted} on each of {shape.resources.nodes} nodes: {has}")
