"""The card, its driver and libraries, and the rates that times are held against."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import torch

from benchmarks.environment import PACKAGES
from benchmarks.environment import environment as described
from benchmarks.gpu.job import Job
from benchmarks.speed.limits import known_machine, matmul_rate

CARRIED = ("torch-fidelity", "webdataset", "tyro", "rich", "torchmetrics", "tokenizers", "safetensors", "peft")


def environment(job: Job) -> None:
    """One row of what is there, one of what it reaches."""
    versions = {name: _version(name) for name in (*PACKAGES, *CARRIED)}
    job.record |= {"environment": described(), "packages": versions, "card": _card(job)}
    job.write()
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        if job.device.type == "cpu" and dtype is torch.bfloat16:
            continue  # some processors compute it a hundred times slower
        rate = matmul_rate(job.device, dtype) / 1e12
        job.add(f"{name} matrix products: {rate:.2f} TFLOP/s", {"dtype": name, "tflops": round(rate, 3)})
    if job.device.type != "cpu":
        rate = _bandwidth(job) / 1e9
        job.add(f"memory: {rate:.0f} GB/s", {"copy_gb_per_second": round(rate, 1)})


def _card(job: Job) -> dict[str, Any]:
    if job.device.type != "cuda":
        return {}
    properties = torch.cuda.get_device_properties(job.device)
    published = known_machine(job.device)
    return {
        "name": properties.name,
        "memory_gb": round(properties.total_memory / 1e9, 1),
        "capability": f"{properties.major}.{properties.minor}",
        "processors": properties.multi_processor_count,
        "bf16": torch.cuda.is_bf16_supported(including_emulation=False),
        "cuda": torch.version.cuda,
        "published": None if published is None else published.__dict__,
    }


def _bandwidth(job: Job) -> float:
    """Bytes a second that a copy reads and writes."""
    x = torch.empty(2**28, dtype=torch.float32, device=job.device)
    y = torch.empty_like(x)
    y.copy_(x)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(10):
        y.copy_(x)
    end.record()
    job.synchronize()
    return 20 * x.numel() * 4 / (start.elapsed_time(end) / 1e3)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
