"""Sampling: the fast path against the reference path, at the same draws and the same output."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch

from benchmarks.speed.config import ModelSpeed
from benchmarks.speed.limits import known_machine, latency_floor, sampling_flops, share_of_limit
from benchmarks.speed.models import DTYPES, Size, describe, make_model, make_text, size
from benchmarks.speed.report import Report, row_line
from benchmarks.speed.timer import alternate, count_operations, ratio, summary
from geneval.device import choose_device
from lightgen.model.config import MARConfig, SamplingConfig
from lightgen.model.mar import MAR
from lightgen.model.released import PATHS, ReferenceTrunk
from lightgen.model.sampling import generate_latents

RELEASED_OPERATIONS = {"head_step": 171, "trunk_pass": 642}  # of the released program, counted the same way

GUIDANCE = (4.0, 1.0)


def run_benchmark(config: ModelSpeed) -> dict[str, Any]:
    """Measure and print: what each path issues, then a row a size and guidance."""
    torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    report = Report("sampling", config, device)
    operations = count_paths()
    report.add(_operations_line(operations), operations=operations)
    for name in config.sizes:
        for scale in GUIDANCE:
            row = measure(
                name,
                guidance_scale=scale,
                repetitions=config.repetitions,
                batch_size=config.batch_size,
                device=device,
                dtype=DTYPES[config.precision],
                paths=("fast",) if config.fast_only else ("reference", "fast"),
            )
            report.add_row(row_line(row), row)
    return report.finish()


def measure(
    name: str,
    *,
    guidance_scale: float,
    num_steps: int = 64,
    num_head_steps: int = 100,
    repetitions: int = 3,
    batch_size: int = 0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    paths: tuple[str, ...] = ("reference", "fast"),
) -> dict[str, Any]:
    """One row: seconds of each path, their ratio, their difference, and the fast path's share of the limit."""
    device = torch.device(device)
    chosen = size(name, **({"batch_size": batch_size} if batch_size else {}))
    model = make_model(chosen.model, device, dtype)
    config = SamplingConfig(num_steps=num_steps, num_head_steps=num_head_steps, guidance_scale=guidance_scale)
    results: dict[str, torch.Tensor] = {}

    def generate(path: str) -> None:
        results[path] = run(model, chosen, config, path, device)

    with torch.no_grad():
        seconds = alternate({path: partial(generate, path) for path in paths}, repetitions, device)
    row: dict[str, Any] = {
        "size": name,
        **describe(chosen, model),
        "steps": [num_steps, num_head_steps],
        "guidance_scale": guidance_scale,
        "dtype": str(dtype).removeprefix("torch."),
        "seconds": {path: summary(values) for path, values in seconds.items()},
        "limit": _limit(chosen, config, min(seconds["fast"]), device, dtype),
    }
    if "reference" in results:
        expected = results["reference"]
        difference = (results["fast"] - expected).abs().max() / expected.abs().max()
        row |= {"ratio": ratio(seconds, "reference", "fast"), "relative_difference": float(difference)}
    return row


def run(model: MAR, chosen: Size, config: SamplingConfig, path: str, device: torch.device) -> torch.Tensor:
    """Latents of the size's batch, the same draws for every path."""
    generators = [torch.Generator(device).manual_seed(seed) for seed in range(chosen.batch_size)]
    text = make_text(chosen, device, chosen.batch_size)
    return generate_latents(model, *text, (chosen.grid, chosen.grid), config, generators, parts=PATHS[path])


def _limit(
    chosen: Size, config: SamplingConfig, seconds: float, device: torch.device, dtype: torch.dtype
) -> dict[str, Any]:
    parts = sampling_flops(chosen.model, config, chosen.grid**2, chosen.text_length)
    gflops = sum(parts.values()) * chosen.batch_size / 1e9
    limit: dict[str, Any] = {
        "gflop": round(gflops, 3),
        "parts": {part: round(value * chosen.batch_size / 1e9, 3) for part, value in parts.items()},
    }
    limit |= share_of_limit(gflops, chosen.batch_size, seconds, device, dtype)
    if (known := known_machine(device)) is not None:
        limit["latency_floor"] = round(latency_floor(chosen.model, config, known.bandwidth), 3)
    return limit


def count_paths(depth: int = 16, head_depth: int = 8) -> dict[str, Any]:
    """Operations, views left out, that each path issues at the released depths (they do not depend on widths)."""
    config = MARConfig(
        width=16, encoder_depth=depth, decoder_depth=depth, cross_depth=depth, heads=2, text_depth=1, text_channels=8,
        max_text_length=4, vae_channels=1, position_grid=4, head_depth=head_depth, head_width=16,
    )  # fmt: skip
    chosen = Size(model=config, grid=4, text_length=4, batch_size=2)
    device = torch.device("cpu")
    model = make_model(config, device)
    found: dict[str, Any] = {"released": RELEASED_OPERATIONS}
    for path in ("reference", "fast"):
        settings = SamplingConfig(num_steps=4, num_head_steps=5)
        longer = replace(settings, num_head_steps=6)
        counts = [count_operations(partial(run, model, chosen, c, path, device)) for c in (settings, longer)]
        more = replace(settings, num_steps=5)
        step = count_operations(partial(run, model, chosen, more, path, device)) - counts[0]
        head = (counts[1] - counts[0]) / settings.num_steps
        found[path] = {"head_step": head, "autoregressive_step_without_head_steps": step - 5 * head}
    trunk = ReferenceTrunk(model, *make_text(chosen, device, 2), (4, 4), guided=True)
    visible = torch.arange(8).expand(2, -1)
    with torch.no_grad():
        found["reference"]["trunk_pass"] = count_operations(
            partial(trunk, torch.zeros(2, 16, 4), visible, visible[:, :2] + 8)
        )
    return found


def _operations_line(found: dict[str, Any]) -> str:
    head, trunk = found["reference"]["head_step"], found["reference"]["trunk_pass"]
    return (
        f"operations at the released depths: reference path {head:.0f} a head step, {trunk} a trunk pass (the release"
        f" {found['released']['head_step']} and {found['released']['trunk_pass']}); fast path"
        f" {found['fast']['head_step']:.0f} a head step"
    )
