"""What a cell gets of a cluster: said by the command and the setting, never read off the machine that submits it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Annotated, Any

from tyro.conf import arg

CORES_PER_GPU = 4  # beside a GPU, unless --cpus says otherwise
_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Of a cell; for the engines that run it elsewhere."""

    nodes: int = 1  # that a cell spreads over (--engine slurm)
    gpus_per_node: int = 0  # that a cell gets on each node
    cpus: int = 0  # cores on each node (default: the processes' threads, 4 a GPU)
    memory: str = ""  # of each node, as 64G (--engine slurm)
    time: str = ""  # at most, as 12:00:00 (--engine slurm); a cell that reaches it saves and is queued again
    slurm: Annotated[tuple[str, ...], arg(metavar="NAME=VALUE ...")] = ()  # to sbatch: partition, account, qos, ...

    @property
    def gpus(self) -> int:
        """Of all nodes."""
        return self.nodes * self.gpus_per_node


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Resources together with the setting's processes and threads: everything that an engine must know of a cell."""

    resources: Resources
    processes: int = 1  # of all nodes
    threads: int = 1  # of each process
    is_pinned: bool = False  # whether the setting says how many threads

    @property
    def words(self) -> tuple[str, ...]:
        """A worker's arguments for it."""
        if self.processes == 1:
            return ()
        return ("--processes", str(self.processes), "--nodes", str(self.resources.nodes))

    @property
    def processes_per_node(self) -> int:
        return self.processes // self.resources.nodes

    @classmethod
    def of(cls, resources: Resources, runtime: Any, engine: str) -> Shape:
        """ValueError, in one line, for what does not go together."""
        nodes, gpus = resources.nodes, resources.gpus_per_node
        if min(nodes, runtime.processes) < 1 or min(gpus, resources.cpus, runtime.threads) < 0:
            raise ValueError("--nodes and runtime.processes are 1 or more, --gpus-per-node, --cpus, threads 0 or more")
        if engine == "local" and resources != Resources():
            raise ValueError("--nodes, --gpus-per-node, --cpus, --memory, --time and --slurm are for --engine slurm")
        if runtime.processes % nodes:
            raise ValueError(f"runtime.processes={runtime.processes} cannot be shared out evenly to {nodes} nodes")
        each = runtime.processes // nodes
        if gpus and gpus != each:
            raise ValueError(
                f"a cell of {runtime.processes} processes on {nodes} nodes uses {each} GPUs a node, not {gpus}: "
                f"--set runtime.processes={gpus * nodes}, or --gpus-per-node {each}"
            )
        cpus = resources.cpus or each * (runtime.threads or (CORES_PER_GPU if gpus else 1))
        threads = runtime.threads or max(1, cpus // each)
        asked = replace(resources, cpus=cpus)
        return cls(resources=asked, processes=runtime.processes, threads=threads, is_pinned=runtime.threads > 0)


def minutes(text: str) -> float:
    """Slurm's time formats: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S. ValueError for another."""
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"a time is M, H:M:S or D-H:M:S, not {text!r}")
    days, *parts = found.groups()
    numbers = [int(part) for part in parts if part is not None]
    if days is not None:
        hours, mins, seconds = [*numbers, 0, 0][:3]
    elif len(numbers) == 3:
        hours, mins, seconds = numbers
    else:
        hours, mins, seconds = 0, *[*numbers, 0][:2]
    return (int(days or 0) * 24 + hours) * 60 + mins + seconds / 60
