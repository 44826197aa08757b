"""Images a second by batch, and the latency of one image; 64 x 100 and 20 x 20 steps with guidance."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch

from benchmarks.gpu.job import Job
from benchmarks.speed.limits import known_machine, latency_floor, sampling_flops, share_of_limit
from benchmarks.speed.models import make_model
from benchmarks.speed.timer import alternate, summary
from lightgen.device import in_batches
from lightgen.model.config import MARConfig, SamplingConfig
from lightgen.model.mar import MAR
from lightgen.model.sampling import compiled_head, generate_latents

STEPS = {"released": ((20, 20), (64, 100)), "tiny": ((4, 3),)}
BATCHES = {"released": (64, 1, 256, 16), "tiny": (2, 1)}  # in order of value


def sampling(job: Job) -> None:
    """Rows of the largest model: each batch at both numbers of steps; then one image with its head compiled."""
    name, config = next(iter(job.models.items()))
    dtype = torch.float32 if job.device.type == "cpu" else torch.bfloat16
    model = make_model(config, job.device, dtype)
    plans = [(batch, steps, False) for batch in BATCHES[job.sizes] for steps in STEPS[job.sizes]]
    if job.device.type != "cpu":  # a host's compiler takes minutes
        plans += [(1, steps, True) for steps in STEPS[job.sizes]]
    for batch, steps, compiled in plans:
        what = {"model": name, "batch": batch, "steps": list(steps), "compiled_head": compiled}
        if job.left < 5:
            job.add(f"{what}: no time left", {**what, "skipped": "no time left"})
            continue
        try:
            row = time_sampling(job, model, config, batch, steps, compiled)
        except Exception as error:
            row = {"failed": f"{type(error).__name__}: {str(error)[:200]}"}
        rate = f"{row['images_per_second']} images/s, {row['seconds']['median']:.3f} s" if "seconds" in row else row
        job.add(f"batch {batch}, {steps[0]} x {steps[1]}{' compiled' if compiled else ''}: {rate}", {**what, **row})


def time_sampling(
    job: Job, model: MAR, config: MARConfig, batch: int, steps: tuple[int, int], compiled: bool
) -> dict[str, Any]:
    """One row; a batch that does not fit is made in halves, which is said in it."""
    settings = SamplingConfig(num_steps=steps[0], num_head_steps=steps[1])
    halved: list[str] = []
    job.memory()

    def once() -> None:
        list(in_batches(range(batch), batch, lambda seeds: _images(job, model, config, settings, seeds), halved.append))

    with compiled_head(model) if compiled else nullcontext():
        seconds = alternate({"images": once}, 2, job.device)["images"]
    parts = sampling_flops(config, settings, config.position_grid**2, config.max_text_length)
    gflop = sum(parts.values()) * batch / 1e9
    dtype = next(model.parameters()).dtype
    known = known_machine(job.device)
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "seconds": summary(seconds),
        "images_per_second": round(batch / min(seconds), 2),
        "limit": share_of_limit(gflop, batch, min(seconds), job.device, dtype),
        **({"latency_floor": round(latency_floor(config, settings, known.bandwidth), 3)} if known else {}),
        **({"halved": halved} if halved else {}),
        **job.memory(),
    }


def _images(job: Job, model: MAR, config: MARConfig, settings: SamplingConfig, seeds: Any) -> Any:
    generators = [torch.Generator(job.device).manual_seed(seed) for seed in seeds]
    text = torch.zeros(len(seeds), config.max_text_length, config.text_channels, device=job.device)
    lengths = torch.full((len(seeds),), config.max_text_length, device=job.device)
    grid = (config.position_grid, config.position_grid)
    return generate_latents(model, text, lengths, grid, settings, generators)
