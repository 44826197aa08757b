"""Memory of sampling: the most that is held above the weights while a model of random weights generates one image."""

import resource
from pathlib import Path
from typing import Any

import torch

from benchmarks.environment import timing_environment
from benchmarks.speed.config import MemoryPeak
from benchmarks.speed.models import DTYPES, describe, make_model, make_text, size
from benchmarks.speed.report import Report, row_line
from lightgen.model.config import SamplingConfig
from lightgen.model.sampling import generate_latents


def run_benchmark(config: MemoryPeak) -> dict[str, Any]:
    """Measure and print: a row a size."""
    report = Report("memory", config, device=config.device, threads=config.threads)
    for name in config.sizes:
        row = measure(name, device=report.device, dtype=DTYPES[config.precision])
        report.add_row(row_line(row), row)
    return report.finish()


def measure(
    name: str = "released",
    *,
    num_steps: int = 4,
    num_head_steps: int = 2,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> dict[str, Any]:
    """One row, bytes: weights, the peak, and the peak above the weights.

    On a CPU the peak is the process's resident memory, the interpreter and its libraries included. Few
    autoregressive steps predict more tokens at once than the released 64 do: the peak is an upper bound.
    """
    device = torch.device(device)
    chosen = size(name)
    model = make_model(chosen.model, device, dtype)
    weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    text = make_text(chosen, device, 1)
    config = SamplingConfig(num_steps=num_steps, num_head_steps=num_head_steps)
    reset_peak(device)
    before = _resident(device)
    generators = [torch.Generator(device).manual_seed(0)]
    latents = generate_latents(model, *text, (chosen.grid, chosen.grid), config, generators)
    peak = peak_bytes(device)
    if not torch.isfinite(latents).all():
        raise ValueError("the generated latents are not finite")
    return {
        "size": name,
        **describe(chosen, model),
        "steps": [num_steps, num_head_steps],
        "guidance_scale": config.guidance_scale,
        "dtype": str(dtype).removeprefix("torch."),
        "weights": weights,
        "before": before,
        "peak": peak,
        "above_weights": peak - weights,
        "above_before": peak - before,
        "machine": timing_environment(device),
    }


def reset_peak(device: torch.device) -> None:
    """Begin to measure: `peak_bytes` counts from here on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif (path := Path("/proc/self/clear_refs")).exists():
        path.write_text("5")  # Linux: the high-water mark starts again from what is resident now


def _resident(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else _status("VmRSS")


def peak_bytes(device: torch.device) -> int:
    """The most that was held since `reset_peak`: of a GPU its tensors, of a CPU the process's resident memory."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _status("VmHWM")


def _status(entry: str) -> int:
    """Bytes that /proc/self/status names, or the process's peak where there is no such file."""
    path = Path("/proc/self/status")
    if not path.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    line = next(line for line in path.read_text().splitlines() if line.startswith(entry))
    return int(line.split()[1]) * 1024
