"""Ray's srun: starts a cell's processes in its placement group, this node's itself, the others' by a task a node.

`python -m ablations.runner.engines.spread GROUP COUNT ARGUMENT ...` is a child of the cell's worker, in the first
bundle of the group. A signal, or a process that failed, ends all of them, which save; the exit code is that of the one
to blame.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from ablations.runner.engines.ranks import LOOK_SECONDS, NAMESPACE, run_ranks, signal_ranks, start_ranks

LOST = 128 + signal.SIGKILL  # as a shell tells of a killed process
RESUMABLE = 75
KEPT = ("MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "WORLD_SIZE")


def spread(group: str, count: int, arguments: Sequence[str]) -> int:
    """Run `count` processes in all; returns 0, or what became of the first that did not end well."""
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda *_: asked.set())
    ray, place = _join(group)
    nodes = len(place.bundle_specs)
    environment = {name: os.environ[name] for name in KEPT if name in os.environ} | {"WORLD_SIZE": str(count)}
    environment["MASTER_ADDR"] = ray.util.get_node_ip_address()
    each = count // nodes
    others = [_submit(ray, place, node, arguments, environment, node * each, each) for node in range(1, nodes)]
    ours = start_ranks(arguments, environment, 0, each)
    try:
        return _wait(ray, ours, others, asked)
    finally:
        signal_ranks(ours, signal.SIGKILL)


def _join(group: str) -> tuple[Any, Any]:
    """Ray, connected to the cell's cluster, and the cell's placement group."""
    import ray

    ours = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    ray.init(namespace=NAMESPACE, **quiet)
    for number, handler in ours.items():
        signal.signal(number, handler)
    return ray, ray.util.get_placement_group(group)


def _submit(ray: Any, place: Any, node: int, *given: Any) -> Any:
    """The task that runs a node's processes, by what `run_ranks` is given."""
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    asked = place.bundle_specs[node]
    task = ray.remote(max_retries=0)(run_ranks).options(
        num_cpus=asked.get("CPU", 0),
        num_gpus=asked.get("GPU", 0),
        scheduling_strategy=PlacementGroupSchedulingStrategy(place, placement_group_bundle_index=node),
    )
    return task.remote(*given)


def _wait(ray: Any, ours: Sequence[subprocess.Popen[bytes]], others: Sequence[Any], asked: threading.Event) -> int:
    """Wait for all, and end all where one failed or a signal came."""
    left, codes, is_ending = list(others), [], False
    while left or any(process.poll() is None for process in ours):
        ready, left = ray.wait(left, num_returns=len(left), timeout=0) if left else ([], [])
        for task in ready:
            codes += _codes(ray, task)
        failed = any(codes) or any(process.returncode for process in ours)
        if (asked.is_set() or failed) and not is_ending:
            is_ending = True
            signal_ranks(ours, signal.SIGTERM)
            for task in left:
                ray.cancel(task)
        time.sleep(LOOK_SECONDS)
    return _to_blame([*codes, *(process.returncode for process in ours)])


def _codes(ray: Any, task: Any) -> list[int]:
    try:
        return ray.get(task)
    except ray.exceptions.TaskCancelledError:
        return [RESUMABLE]
    except ray.exceptions.RayError:
        return [LOST]  # its node, or the process of Ray's that it ran in


def _to_blame(codes: Sequence[int]) -> int:
    """A killed process, before a failed one, before one that saved."""
    shown = [128 - code if code < 0 else code for code in codes if code]
    return max((code for code in shown if code > 128), default=0) or next(
        (code for code in shown if code != RESUMABLE), RESUMABLE if shown else 0
    )


if __name__ == "__main__":
    code = spread(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
    sys.stdout.flush()
    os._exit(code)
