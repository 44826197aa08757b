"""What an image costs by several ways to sample, all in turn in one run.

Timed is what differs between them, the autoregressive loop with its head steps, on models of their sizes with random
weights: weights do not change the work. Text encoder and autoencoder are not in it.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch

from benchmarks.speed.config import ChoicesSpeed, SpeedConfig
from benchmarks.speed.models import DTYPES, Size, make_model, make_text
from benchmarks.speed.report import Report
from benchmarks.speed.timer import alternate, summary
from lightgen.model.config import MARConfig, SamplingConfig
from lightgen.model.mar import MAR
from lightgen.model.sampling import generate_latents


class Choice(NamedTuple):
    """A way to sample."""

    model: MARConfig
    sampling: SamplingConfig
    grid: int  # tokens per side


def measure(choices: Mapping[str, Choice], config: ChoicesSpeed) -> dict[str, Any]:
    """Print a line a choice; the record, with the seconds of an image in each repetition. Equal ones are timed once."""
    report = Report("choices", SpeedConfig(), device=config.device, threads=config.threads)
    models: dict[MARConfig, MAR] = {}
    tasks: dict[Choice, Callable[[], Any]] = {}
    for choice in dict.fromkeys(choices.values()):
        if choice.model not in models:
            models[choice.model] = make_model(choice.model, report.device, DTYPES[config.precision])
        tasks[choice] = partial(_generate, models[choice.model], choice, config.images, report.device)
    named = {f"{place}": task for place, task in enumerate(tasks.values())}
    with torch.no_grad():
        seconds = alternate(named, config.repetitions, report.device)
    found = dict(zip(tasks, seconds.values(), strict=True))
    report.add("", images=config.images, threads=config.threads, precision=config.precision)
    variants = {}
    for name, choice in choices.items():
        values = summary([value / config.images for value in found[choice]])
        variants[name] = values["all"]
        least, middle, most = (1e3 * values[which] for which in ("least", "median", "most"))
        report.add(f"{name}: {middle:.2f} ms an image [{least:.2f}, {most:.2f}]", seconds=variants)
    return report.record


def _generate(model: MAR, choice: Choice, images: int, device: torch.device) -> None:
    length = choice.model.max_text_length
    chosen = Size(model=choice.model, grid=choice.grid, text_length=length, batch_size=images)
    generators = [torch.Generator(device).manual_seed(seed) for seed in range(images)]
    generate_latents(model, *make_text(chosen, device, images), (choice.grid,) * 2, choice.sampling, generators)
