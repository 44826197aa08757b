"""Images a second of whole training steps: draws, forward, backward, clipping, AdamW and the weights' average."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.batch import fitting_batch
from benchmarks.gpu.job import Job
from benchmarks.speed.limits import share_of_limit, training_flops
from lightgen.data.latents import Batch
from lightgen.model.config import MARConfig
from lightgen.model.mar import MAR
from lightgen.training.config import LoopConfig, TrainConfig
from lightgen.training.forward import carried_out
from lightgen.training.processes import make_accelerator
from lightgen.training.train import TrainingRun

WAYS: dict[str, dict[str, Any]] = {"plain": {}, "checkpointed": {"checkpoint": True}, "compiled": {"compile": True}}
MOST_IMAGES = 256  # a step: past it, nothing is gained and time is lost


class Synthetic:
    """Latents and text features that lie on the device."""

    def __init__(self, config: MARConfig, device: torch.device):
        self.config, self.device = config, device
        side = config.position_grid * config.patch_size
        self.grid = (side, side)
        self.text = torch.randn(8, config.max_text_length, config.text_channels, device=device)

    def __len__(self) -> int:
        return 10**6

    def batch(self, ids: Tensor, generator: torch.Generator, part: slice = slice(None)) -> Batch:
        """As `LatentDataset.batch`."""
        shape = (len(ids), self.config.vae_channels, *self.grid)
        latents = torch.randn(shape, generator=generator, device=self.device)[part]
        text = self.text.repeat(-(-len(latents) // 8), 1, 1)[: len(latents)]
        return Batch(latents, text, torch.full((len(latents),), text.shape[1], device=self.device))


def training(job: Job) -> None:
    """A row for each way and model; the compiled way, which waits for its programs, last."""
    for way, pace in WAYS.items():
        for name, config in job.models.items():
            if why := _why_not(job, pace):
                job.add(f"{name} {way}: {why}", {"model": name, "way": way, "skipped": why})
                continue
            try:
                row = time_training(job, config, LoopConfig(**pace))
            except Exception as error:  # the other ways are worth their time
                row = {"failed": f"{type(error).__name__}: {str(error)[:200]}"}
            rate = row.get("images_per_second")
            share = f", {row['share']:.0%} of the limit" if "share" in row else ""
            job.add(f"{name} {way}: {rate} images/s{share}" if rate else f"{name} {way}: {row['failed']}",
                    {"model": name, "way": way, **row})  # fmt: skip


def _why_not(job: Job, pace: dict) -> str:
    if job.left < 10:
        return "no time left"
    # A host's compiler takes minutes, and what it makes says nothing of a device.
    return "for a device alone" if pace.get("compile") and job.device.type == "cpu" else ""


def time_training(job: Job, config: MARConfig, pace: LoopConfig) -> dict:
    """Seconds of steps at the largest batch that fits, halved where it does not after all."""
    memory = job.free_bytes()
    batch = min(MOST_IMAGES, fitting_batch(config, memory, checkpoint=pace.checkpoint))
    if job.sizes == "tiny":
        batch = 4
    if batch < 1:
        raise ValueError(f"{memory / 1e9:.0f} GB hold no image beside the weights")
    while True:
        try:
            return _timed(job, config, pace, batch)
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
            batch //= 2
        torch.cuda.empty_cache()


def _timed(job: Job, config: MARConfig, pace: LoopConfig, batch: int) -> dict:
    precision = "fp32" if job.device.type == "cpu" else "bf16"
    settings = TrainConfig(samples_seen=10**6 * batch, batch_size=batch, precision=precision)  # type: ignore[arg-type]
    accelerator = make_accelerator(precision, str(job.device))
    with torch.device(job.device):
        model = MAR(config)
    with tempfile.TemporaryDirectory() as out:
        run = TrainingRun(settings, model, Synthetic(config, job.device), Path(out), accelerator, pace)  # type: ignore[arg-type]
        job.memory()
        with carried_out(model, accelerator.prepare_model(model), pace) as run.forward:
            warm = _warm(job, run, 16 if pace.compile else 2)
            rates = [_seconds(job, run, warm) for _ in range(3)]
    flops = sum(training_flops(config, config.position_grid**2, config.max_text_length).values()) * batch / 1e9
    seconds = sorted(rates)[1]
    return {
        "batch": batch,
        "precision": precision,
        "seconds_a_step": [round(rate, 5) for rate in rates],
        "images_per_second": round(batch / seconds, 2),
        "limit": (limit := share_of_limit(flops, batch, seconds, job.device, torch.float32)),
        **({"share": limit["share"]} if "share" in limit else {}),
        **job.memory(),
    }


def _warm(job: Job, run: TrainingRun, most: int) -> float:
    """Steps that are not counted (programs are compiled in them); seconds of the last."""
    for _ in range(most):
        begun = time.perf_counter()
        run.one_step()
        job.synchronize()
        seconds = time.perf_counter() - begun
        if job.left < 8:
            break
    return seconds


def _seconds(job: Job, run: TrainingRun, warm: float) -> float:
    """Seconds a step, of as many as the time allows, the device waited for at both ends alone."""
    steps = max(1, int(min(8.0, max(1.0, job.left / 6)) / 3 / warm))
    job.synchronize()
    begun = time.perf_counter()
    for _ in range(steps):
        run.one_step()
    job.synchronize()
    return (time.perf_counter() - begun) / steps
