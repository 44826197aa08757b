"""A training step: masked tokens only against all tokens through decoder, cross stack and head, as the release does."""

from functools import partial
from typing import Any

import torch

from benchmarks.speed.config import ModelSpeed
from benchmarks.speed.limits import share_of_limit, training_flops
from benchmarks.speed.models import DTYPES, describe, make_model, make_text, size
from benchmarks.speed.report import Report, row_line
from benchmarks.speed.timer import alternate, count_operations, ratio, summary
from geneval.device import choose_device
from lightgen.model.masking import draw
from lightgen.model.released import reference_loss


def run_benchmark(config: ModelSpeed) -> dict[str, Any]:
    """Measure and print: a row a size."""
    torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    report = Report("training", config, device)
    for name in config.sizes:
        row = measure(
            name,
            repetitions=config.repetitions,
            batch_size=config.batch_size or 4,
            device=device,
            dtype=DTYPES[config.precision],
            paths=("fast",) if config.fast_only else ("reference", "fast"),
        )
        report.add_row(row_line(row), row)
    return report.finish()


def measure(
    name: str,
    *,
    batch_size: int = 4,
    steps: int = 4,
    repetitions: int = 5,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    paths: tuple[str, ...] = ("reference", "fast"),
) -> dict[str, Any]:
    """One row: seconds of `steps` forward and backward passes, one mask ratio each; dropout off so that the losses of
    the two paths can be compared. The optimizer, which is the same for both, is left out."""
    device = torch.device(device)
    chosen = size(name, batch_size=batch_size)
    model = make_model(chosen.model, device)
    grid = (chosen.grid, chosen.grid)
    side = chosen.grid * chosen.model.patch_size
    generator = torch.Generator(device).manual_seed(2)
    latents = torch.randn(
        batch_size, chosen.model.vae_channels, side, side, generator=generator, device=device
    )  # fmt: skip
    text = make_text(chosen, device, batch_size)
    draws = [draw(chosen.model, batch_size, grid, generator) for _ in range(steps)]
    losses: dict[str, list[torch.Tensor]] = {}

    def run(path: str) -> None:
        loss = model if path == "fast" else partial(reference_loss, model)
        losses[path] = []
        for drawn in draws:
            model.zero_grad(set_to_none=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
                value = loss(latents, *text, drawn).loss
            value.backward()
            losses[path].append(value.detach())

    seconds = alternate({path: lambda path=path: run(path) for path in paths}, repetitions, device)  # type: ignore[misc]
    operations = {path: count_operations(lambda path=path: run(path)) // steps for path in paths}  # type: ignore[misc]
    gflop = sum(training_flops(chosen.model, chosen.grid**2, chosen.text_length).values()) * batch_size * steps / 1e9
    row: dict[str, Any] = {
        "size": name,
        **describe(chosen, model),
        "noise_copies": chosen.model.noise_copies,
        "mean_mask_ratio": round(sum(d.masked_range[0] for d in draws) / steps / chosen.grid**2, 3),
        "steps": steps,
        "dtype": str(dtype).removeprefix("torch."),
        "seconds": {path: summary(values) for path, values in seconds.items()},
        "images_per_second": {p: round(batch_size * steps / min(values), 2) for p, values in seconds.items()},
        "operations_per_step": operations,
        "limit": {
            "gflop": round(gflop, 3),
            **share_of_limit(gflop, batch_size * steps, min(seconds["fast"]), device, torch.float32),
        },
    }
    if len(paths) == 2:
        fast, reference = torch.stack(losses["fast"]), torch.stack(losses["reference"])
        difference = float((fast / reference - 1).abs().max())
        row |= {"ratio": ratio(seconds, "reference", "fast"), "relative_difference": difference}
    return row
