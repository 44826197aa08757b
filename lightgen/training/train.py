"""Training from cached latents: one loop for CPU and GPU, one process or several; a kill costs nothing but time.

Everything random in step s comes from (seed, s): the order of samples from (seed, epoch), the masks, timesteps, noise
and dropout from (seed, step). So a resumed run gives the same weights, bit for bit, as one that was never stopped.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import T5EncoderModel

from lightgen.data.latents import Batch, LatentDataset
from lightgen.disk.folders import folder_sha256, temporary_folder
from lightgen.disk.json_files import write_json
from lightgen.disk.seeds import derive_seed
from lightgen.model.config import MARConfig
from lightgen.model.encoders import load_complete, load_tokenizer
from lightgen.model.mar import MAR, MARLoss
from lightgen.model.masking import draw
from lightgen.model.pipeline import LightGenPipeline
from lightgen.training.config import LoopConfig, TrainConfig
from lightgen.training.optimization import Average, learning_rate_at, make_optimizer, set_learning_rate
from lightgen.training.processes import any_process, is_step_finite, make_accelerator
from lightgen.training.resume import (
    Journal,
    finished_result,
    folder_identity,
    load_state,
    pack_optimizer,
    prefixed,
    save_state,
    unpack_optimizer,
    without_prefix,
    write_lineage,
)

if TYPE_CHECKING:
    from accelerate import Accelerator

    from lightgen.model.config import SamplingConfig

FLOP_IMAGES, FLOP_MASKS = 8, 16  # images and batches of masks that the operations of a step are counted on


def train(
    config: TrainConfig,
    model_config: MARConfig,
    latents: Path,
    out: Path,
    *,
    vae: Path,
    text_encoder: Path,
    sampling: SamplingConfig,
    weights: Literal["ema", "raw"] = "ema",
    start: Path | None = None,
    loop: LoopConfig = LoopConfig(),  # noqa: B008
    stop: Callable[[], bool] | None = None,
    on_step: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Train and write OUT/model (a pipeline folder), OUT/metrics.jsonl and OUT/training.json; return the result.

    The same call again resumes, or returns the finished result. `stop` is asked before every step; when it answers
    true the state is saved and the status is "stopped". `start` is a pipeline folder whose weights training begins
    with. `on_step` gets every logged row. Result: steps, seconds, samples, flops, status.
    """
    out = Path(out)
    accelerator = make_accelerator(config.precision)
    data = LatentDataset(latents, device=accelerator.device)
    check_fit(data.index, model_config, vae, text_encoder)
    settings = {
        "train": dataclasses.asdict(config),
        "model": dataclasses.asdict(model_config),
        "latents": data.index["identity"],
        "weights": weights,
        "start": None if start is None else folder_identity(start),
    }
    if (done := finished_result(out, settings)) is not None:
        return done
    if accelerator.is_main_process:
        write_json(out / "training.json", {**settings, "result": None})
    before = torch.get_rng_state()
    try:
        run = _Run(config, model_config, data, out, accelerator, start, loop)
        result = run.loop(stop, on_step)
    finally:
        torch.set_rng_state(before)
    if result["status"] != "stopped" and accelerator.is_main_process:
        if weights == "ema":
            run.average.store()
        save_model(run.model, out / "model", vae, text_encoder, sampling)
        if start is not None:
            write_lineage(out / "model", parent=start)
        write_json(out / "training.json", {**settings, "result": result})
    accelerator.wait_for_everyone()
    return result


class _Run:
    """The model, optimizer, average and position of one run."""

    def __init__(
        self,
        config: TrainConfig,
        model_config: MARConfig,
        data: LatentDataset,
        out: Path,
        accelerator: Accelerator,
        start: Path | None,
        loop: LoopConfig,
    ):
        self.config, self.data, self.out, self.accelerator = config, data, out, accelerator
        self.options = loop
        self.model = _first_model(model_config, config.seed, start).to(accelerator.device).train()
        self.optimizer = make_optimizer(
            self.model,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            betas=(config.beta1, config.beta2),
        )
        self.average = Average(self.model.parameters(), config.ema_decay, config.ema_warmup)
        self.step, self.seconds, self.flops = 0, 0.0, 0
        self.sums = torch.zeros(3, device=accelerator.device)  # loss, mse and gradient norm since the last row
        self.count = 0
        self.healthy = True
        self._load()
        prepared = accelerator.prepare_model(self.model)
        self.forward = torch.compile(prepared) if loop.compile else prepared

    def loop(self, stop: Callable[[], bool] | None, on_step: Callable[[dict[str, Any]], None] | None) -> dict[str, Any]:
        """Run to the end, a stop, or a loss that is not finite."""
        if self.flops == 0:
            self.flops = self._measure_flops() * self.config.steps * self.config.batch_size
        journal = Journal(self.out / "metrics.jsonl", self.step) if self.accelerator.is_main_process else None
        saved = time.monotonic()
        status = "complete"
        try:
            while self.step < self.config.steps:
                if any_process(self.accelerator, stop is not None and stop()):
                    status = "stopped"
                    break
                began = time.monotonic()
                self._one_step()
                self.seconds += time.monotonic() - began
                if self.step % self.options.log_every == 0 or self.step == self.config.steps or not self.healthy:
                    row = self._row()
                    if journal is not None and self.healthy:
                        journal.write(row)
                    if on_step is not None and self.healthy:
                        on_step(row)
                if not self.healthy:
                    status = "diverged"
                    break
                if any_process(self.accelerator, time.monotonic() - saved > self.options.save_every_seconds):
                    self._save()
                    saved = time.monotonic()
        finally:
            if journal is not None:
                journal.close()
        if status == "diverged":
            self._restore_last_good()
        else:
            self._save()
        return self._result(status)

    def _one_step(self) -> None:
        config = self.config
        batch, draws = self._inputs()
        loss: MARLoss = self.forward(batch.latents, batch.text, batch.text_lengths, draws)
        self.accelerator.backward(loss.loss)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm, foreach=True)
        self.healthy = is_step_finite(norm, loss.loss, self.accelerator)
        if not self.healthy:
            return
        rate = learning_rate_at(
            self.step,
            peak=config.learning_rate,
            warmup_steps=config.warmup_steps,
            total_steps=config.steps,
            schedule=config.schedule,
        )
        set_learning_rate(self.optimizer, rate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.step)
        self.sums += torch.stack([loss.loss.detach(), loss.mse.detach(), norm])
        self.count += 1
        self.step += 1

    def _inputs(self) -> tuple[Batch, Any]:
        """This process's part of the step's batch, and its draws; dropout follows the same seed."""
        config, accelerator = self.config, self.accelerator
        rank, world = accelerator.process_index, accelerator.num_processes
        seed = derive_seed(config.seed, "step", self.step, rank)
        torch.manual_seed(seed)
        generator = torch.Generator(accelerator.device).manual_seed(seed)
        ids = order(config.seed, self.step * config.batch_size, config.batch_size, len(self.data))[rank::world]
        batch = self.data.batch(ids, generator)
        grid = self.model.token_grid(batch.latents)
        draws = draw(self.model.mar_config, len(ids), grid, generator, per_image_ratio=config.per_image_ratio)
        return batch, draws

    def _row(self) -> dict[str, Any]:
        sums = self.accelerator.reduce(self.sums, "mean") if self.accelerator.num_processes > 1 else self.sums
        loss, mse, norm = (sums / max(1, self.count)).tolist()
        self.healthy = self.healthy and math.isfinite(loss + norm)
        self.sums.zero_()
        self.count = 0
        samples = self.step * self.config.batch_size
        return {
            "step": self.step,
            "samples": samples,
            "loss": loss,
            "mse": mse,
            "lr": self.optimizer.param_groups[0]["lr"],
            "grad_norm": norm,
            "seconds": round(self.seconds, 3),
            "samples_per_second": round(samples / max(self.seconds, 1e-9), 1),
        }

    def _result(self, status: str) -> dict[str, Any]:
        samples = self.step * self.config.batch_size
        flops = round(self.flops * self.step / self.config.steps)
        seconds = round(self.seconds, 3)
        return {"steps": self.step, "seconds": seconds, "samples": samples, "flops": flops, "status": status}

    def _save(self) -> None:
        if not (self.healthy and self.accelerator.is_main_process):
            return
        if not math.isfinite(self.sums.sum().item()):  # what the device has not told yet
            return
        names = [name for name, _ in self.model.named_parameters()]
        tensors = {
            **prefixed("model", self.model.state_dict()),
            **prefixed("average", dict(zip(names, self.average.values))),
            **pack_optimizer(self.optimizer),
            "sums": self.sums,
        }
        record = {"seconds": self.seconds, "count": self.count, "flops": self.flops}
        save_state(self.out / "resume", self.step, tensors, record)

    def _load(self) -> None:
        state = load_state(self.out / "resume")
        if state is None:
            return
        self.step, tensors, record = state
        self.model.load_state_dict(without_prefix("model", tensors))
        average = without_prefix("average", tensors)
        with torch.no_grad():
            torch._foreach_copy_(self.average.values, [average[name] for name, _ in self.model.named_parameters()])
        unpack_optimizer(self.optimizer, tensors)
        self.sums.copy_(tensors["sums"])
        self.seconds, self.count, self.flops = record["seconds"], record["count"], record["flops"]

    def _restore_last_good(self) -> None:
        """On a CPU the weights are still good; elsewhere bad steps may have been taken, so the saved state counts."""
        if self.accelerator.device.type != "cpu":
            self._load()

    def _measure_flops(self) -> int:
        """Floating-point operations of one image's forward and backward pass, counted on the first few images.

        A batch shares its share of masked tokens, on which the count depends more than twofold: it is the mean over
        several batches of masks, the same ones for every training seed, so that runs of one model count alike.
        """
        from torch.utils.flop_counter import FlopCounterMode

        count = min(FLOP_IMAGES, len(self.data))
        device = self.accelerator.device
        images, generator = (torch.Generator(device).manual_seed(derive_seed(0, "flops", part)) for part in range(2))
        batch = self.data.batch(torch.arange(count), images)  # flips must not shift the masks
        with FlopCounterMode(display=False) as counter:
            for _ in range(FLOP_MASKS):
                draws = draw(self.model.mar_config, count, self.model.token_grid(batch.latents), generator)
                self.model(batch.latents, batch.text, batch.text_lengths, draws).loss.backward()
        self.optimizer.zero_grad(set_to_none=True)
        return counter.get_total_flops() // (FLOP_MASKS * count)


_ORDERS: dict[tuple[int, int, int], Tensor] = {}


def order(seed: int, position: int, count: int, length: int) -> Tensor:
    """Sample numbers (count,) at the given position of an endless stream of shuffled epochs: a function of its
    arguments alone."""
    parts = []
    while count > 0:
        epoch, offset = divmod(position, length)
        key = (seed, epoch, length)
        if key not in _ORDERS:
            _ORDERS.clear()
            generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
            _ORDERS[key] = torch.randperm(length, generator=generator)
        part = _ORDERS[key][offset : offset + count]
        parts.append(part)
        position, count = position + len(part), count - len(part)
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def check_fit(index: dict[str, Any], config: MARConfig, vae: Path, text_encoder: Path) -> None:
    """Refuse latents that a model of this config cannot read, or that other encoders made."""
    for name, have, want in (
        ("latent channels", index["vae"]["channels"], config.vae_channels),
        ("pixels per latent", index["vae"]["stride"], config.vae_stride),
        ("text channels", index["text"]["channels"], config.text_channels),
    ):
        if have != want:
            raise ValueError(f"the latents have {have} {name}, the model config {want}; change the model's")
    if index["text"]["max_length"] > config.max_text_length:
        raise ValueError(
            f"the latents hold up to {index['text']['max_length']} text positions, the model config "
            f"{config.max_text_length}; change the model's max_text_length"
        )
    if config.attend_to_padding and not index["keep_padding"]:
        raise ValueError("a model with attend_to_padding needs latents encoded with keep_padding; encode them again")
    for name, folder in (("vae", vae), ("text", text_encoder)):
        if folder_sha256(folder) != index[name]["identity"]:
            raise ValueError(f"{folder} is not the {name} encoder that made these latents; give that, or encode again")


def save_model(model: MAR, folder: Path, vae: Path, text_encoder: Path, sampling: SamplingConfig) -> None:
    """Write a pipeline folder that needs no other: model, image tokenizer, text encoder and tokenizer."""
    pipeline = LightGenPipeline(
        vae=load_complete(AutoencoderKL, vae),
        text_encoder=load_complete(T5EncoderModel, text_encoder),
        tokenizer=load_tokenizer(text_encoder),
        transformer=model,
        sampling=sampling,
    )
    with temporary_folder(folder) as temporary:
        pipeline.save_pretrained(temporary)


def _first_model(config: MARConfig, seed: int, start: Path | None) -> MAR:
    if start is None:
        torch.manual_seed(derive_seed(seed, "weights"))
        return MAR(**dataclasses.asdict(config))
    model = LightGenPipeline.from_pretrained(start).transformer
    if model.mar_config != config:
        raise ValueError(f"{start} holds a model of another config than the one to train")
    return model
