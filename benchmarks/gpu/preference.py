"""Seconds of a DPO step with stored reference errors and with the reference held in memory."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.gpu.job import Job
from lightgen.model.config import MARConfig
from lightgen.model.mar import MAR
from lightgen.preference.config import PreferenceConfig
from lightgen.preference.encoded import EncodedPairs
from lightgen.preference.run import PreferenceRun
from lightgen.training.processes import make_accelerator

PAIRS = {"released": 8, "tiny": 2}  # a step


def preference(job: Job) -> None:
    """A row for each reference."""
    name, config = next(iter(job.models.items()))
    kinds: tuple[Literal["precomputed", "held"], ...] = ("precomputed", "held")
    for reference in kinds:
        try:
            row = time_preference(job, config, reference, PAIRS[job.sizes])
        except Exception as error:
            row = {"failed": f"{type(error).__name__}: {str(error)[:200]}"}
        line = f"{row['pairs_per_second']} pairs/s" if "failed" not in row else row["failed"]
        job.add(f"{name}, reference {reference}: {line}", {"model": name, "reference": reference, **row})


def time_preference(job: Job, config: MARConfig, reference: Any, pairs: int) -> dict[str, Any]:
    """Median seconds of steps on the same pairs; the reference's errors are computed before."""
    precision: Any = "fp32" if job.device.type == "cpu" else "bf16"
    settings = PreferenceConfig(
        batch_size=pairs, steps=64, draws_per_pair=1, measured_pairs=0, learning_rate=1e-8, reference=reference,
        precision=precision, drift_every=64,
    )  # fmt: skip
    described = {"preference": asdict(settings), "reference": "", "drift_from": "", "pairs": ""}
    accelerator = make_accelerator(precision, str(job.device))
    with torch.device(job.device):
        model = MAR(config)
    job.memory()
    with tempfile.TemporaryDirectory() as out:
        run = PreferenceRun(settings, model, _pairs(config, pairs), Path(out), accelerator, described)
        run.prepare(None)
        run.forward = accelerator.prepare_model(model)
        seconds = []
        for _ in range(8):
            begun = time.perf_counter()
            run.one_step()
            job.synchronize()
            seconds.append(time.perf_counter() - begun)
            if job.left < 5:
                break
    median = sorted(seconds[2:] or seconds)[len(seconds[2:] or seconds) // 2]
    rate = round(pairs / median, 2)
    return {"pairs": pairs, "precision": precision, "seconds": seconds, "pairs_per_second": rate, **job.memory()}


def _pairs(config: MARConfig, count: int) -> EncodedPairs:
    side = config.position_grid * config.patch_size
    chosen, rejected = torch.randn(2, count, config.vae_channels, side, side)
    text = torch.randn(count, config.max_text_length, config.text_channels)
    lengths = torch.full((count,), config.max_text_length)
    return EncodedPairs.of(chosen, rejected, text, lengths, torch.arange(count))
