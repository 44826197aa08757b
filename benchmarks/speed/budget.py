"""What a paper's statement of cost means: parameters counted, operations summed, and the share of a peak that follows.

LightGen states 0.7 B parameters and 88 A100 GPU-days (arXiv 2503.08619, abstract). The released script's first stage is
100,000 steps of 2,048 images at 256 px; the stages after it have no stated number of steps.
"""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.speed.limits import training_flops
from lightgen.model.config import MARConfig
from lightgen.model.mar import MAR

A100_FLOPS = 312e12  # dense bf16 operations a second, NVIDIA's data sheet
STEPS, BATCH, STATED_DAYS = 100_000, 2048, 88
DAY = 86_400


def budget(config: MARConfig = MARConfig()) -> dict[str, Any]:  # noqa: B008
    """Parameters of the released model, operations of its first stage, and days at shares of an A100's peak."""
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in MAR(config).parameters())
    tokens = config.position_grid**2
    per_image = sum(training_flops(config, tokens, config.max_text_length).values())
    images = STEPS * BATCH
    at_peak = per_image * images / A100_FLOPS / DAY
    rate = images / STATED_DAYS / DAY
    return {
        "command": "python -m benchmarks budget --out FILE",
        "parameters": parameters,
        "gflop_per_image": per_image / 1e9,
        "images": images,
        "days_at_peak": at_peak,
        "share_for_stated_days": at_peak / STATED_DAYS,
        "images_per_second_for_stated_days": rate,
        "sentences": [
            f"the released model has {parameters / 1e6:.0f} M trainable parameters, not 0.7 B; its text encoder's 4.8 B"
            " are beside that",
            f"one image of {tokens} tokens takes {per_image / 1e9:.0f} GFLOP forward and backward by the fewest"
            f" operations that give the same result; {STEPS:,} steps of {BATCH:,} images take"
            f" {per_image * images:.2g} FLOP, {at_peak:.1f} days of an A100 at its peak",
            f"{STATED_DAYS} days of it are reached at {at_peak / STATED_DAYS:.0%} of the peak, {rate:.0f} images a"
            " second on each GPU, if they were all spent on the first stage: the statement is plausible",
            f"at 40 % of the peak {STATED_DAYS} days would buy {0.4 * STATED_DAYS / at_peak:.1f} such trainings;"
            " no training at this size was measured here",
        ],
    }  # fmt: skip
