"""Training from cached latents, on a CPU or a GPU, in one process or several; a kill costs nothing but time.

Everything random in step s comes from (seed, s): the order of samples from (seed, epoch), the masks, timesteps, noise
and dropout from (seed, step). So a resumed run gives the same weights, bit for bit, as one that was never stopped.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor

from lightgen.data.latents import Batch, LatentDataset
from lightgen.disk.folders import folder_sha256
from lightgen.disk.seeds import derive_seed
from lightgen.model.card import model_card
from lightgen.model.config import MARConfig, SamplingConfig
from lightgen.model.folder import load_transformer, model_identity, read_lineage, write_model
from lightgen.model.mar import MAR, MARLoss
from lightgen.model.masking import Draws, draw
from lightgen.training.config import LoopConfig, TrainConfig
from lightgen.training.evaluation import FILE_NAME as EVALUATIONS
from lightgen.training.evaluation import Evaluation, evaluate
from lightgen.training.journal import read_journal
from lightgen.training.lock import alone
from lightgen.training.loop import OnStep, Run, Stop
from lightgen.training.optimization import Average
from lightgen.training.order import order
from lightgen.training.processes import make_accelerator
from lightgen.training.record import finished_result, write_record
from lightgen.training.state import prefixed, without_prefix

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
    ids: Sequence[int] | None = None,
    loop: LoopConfig = LoopConfig(),  # noqa: B008
    device: str = "auto",
    stop: Stop | None = None,
    on_step: OnStep | None = None,
    on_pace: OnStep | None = None,
    evaluation: Evaluation | None = None,
) -> dict[str, Any]:
    """Train and write OUT/model (a model folder), OUT/metrics.jsonl and OUT/training.json; return the result.

    The same call again resumes, with another `loop` if wanted, or returns the finished result. `stop` is asked before
    every step; when it answers true the state is saved and the status is "stopped". `start` is a model or pipeline
    folder whose weights training begins with; `ids` are the samples of the latents to train on (default: all).
    `on_step` gets every logged row; `on_pace`, where these are far apart, the step and the speed. `evaluation` measures
    the model now and then, into OUT/evaluations.jsonl. Result: steps, seconds, samples, flops, status. ValueError for
    latents that do not fit, and for a folder of another run.
    """
    out = Path(out)
    accelerator = make_accelerator(config.precision, device)
    data = LatentDataset(latents, ids=ids, device=accelerator.device)
    check_fit(data.index, model_config, vae, text_encoder)
    settings = {
        "train": dataclasses.asdict(config),
        "model": dataclasses.asdict(model_config),
        "latents": data.index["identity"],
        "weights": weights,
        "start": None if start is None else model_identity(start),
        **({} if ids is None else {"ids": hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()}),
    }
    with alone(out, accelerator):
        if (done := finished_result(out, settings)) is not None:
            return done
        if accelerator.is_main_process:
            write_record(out, settings)
        before = torch.get_rng_state()
        try:
            run = TrainingRun(
                config, _first_model(model_config, config.seed, start), data, out, accelerator, loop, evaluation
            )
            result = run.run(stop, on_step, on_pace)
        finally:
            torch.set_rng_state(before)
        if result["status"] != "stopped" and accelerator.is_main_process:
            if weights == "ema":
                run.average.store()
            ancestors = [] if start is None else [*read_lineage(start), model_identity(start)]
            parts: dict[str, Any] = {"vae": vae, "text_encoder": text_encoder, "sampling": sampling}
            scores = read_journal(out / EVALUATIONS)
            card = model_card(model_config, run.model.num_parameters(), settings, result, scores)
            write_model(run.model, out / "model", **parts, ancestors=ancestors, card=card)
            write_record(out, settings, result)
        accelerator.wait_for_everyone()
        return result


class TrainingRun(Run):
    """A run on latents: MAR's loss under random masks, and the average of the weights."""

    names = ("loss", "mse", "grad_norm")
    config: TrainConfig

    def __init__(
        self,
        config: TrainConfig,
        model: MAR,
        data: LatentDataset,
        out: Path,
        accelerator: Accelerator,
        loop: LoopConfig,
        evaluation: Evaluation | None = None,
    ):
        super().__init__(config, model.to(accelerator.device).train(), out, accelerator, loop)
        self.data, self.evaluation = data, evaluation
        self.average = Average(self.model.parameters(), config.ema_decay, config.ema_warmup)

    def losses(self, parts: int) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """Each part weighs as many masked tokens as it has; all parts share the batch's draws."""
        batch, draws = self._inputs()
        if self.pace.compile:
            draws = draws.bucketed(self.model.mar_config)
        if parts == 1:
            found: MARLoss = self.forward(batch.latents, batch.text, batch.text_lengths, draws)
            yield found.loss, [found.mse.detach()]
            return
        for ids in torch.arange(len(batch.latents), device=self.device).tensor_split(parts):
            part = draws.select(ids)
            found = self.forward(batch.latents[ids], batch.text[ids], batch.text_lengths[ids], part)
            share = part.mask.sum() / draws.mask.sum()
            yield found.loss * share, [found.mse.detach() * share]

    def trained(self) -> list[list[Tensor]]:
        return [list(self.model.parameters())]

    def ready(self, stop: Stop | None) -> bool:
        if self.evaluation is not None:
            row = evaluate(self.evaluation, self.step, self.model, self.average, self.out, self.accelerator)
            if row and self.tracking is not None:
                self.tracking.log(row)
        return True

    def after_step(self, values: Tensor) -> None:
        self.average.update(self.step - 1)

    def tensors(self) -> dict[str, Tensor]:
        names = [name for name, _ in self.model.named_parameters()]
        return prefixed("average", dict(zip(names, self.average.values, strict=True)))

    def restore(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        average = without_prefix("average", tensors)
        with torch.no_grad():
            torch._foreach_copy_(self.average.values, [average[name] for name, _ in self.model.named_parameters()])

    def _inputs(self) -> tuple[Batch, Draws]:
        """This process's part of the step's batch, and its draws, which are the whole batch's however many processes
        share it; only dropout is each process's own."""
        config, accelerator = self.config, self.accelerator
        rank, world = accelerator.process_index, accelerator.num_processes
        torch.manual_seed(derive_seed(config.seed, "step", self.step, rank))
        generator = torch.Generator(accelerator.device)
        generator.manual_seed(derive_seed(config.seed, "step", self.step, 0))
        ids, part = self._ids(self.step), slice(rank, None, world) if world > 1 else slice(None)
        batch = self.data.batch(ids, generator, part)
        if self.data.is_mapped and self.step + 1 < config.steps:
            self.data.prefetch(self._ids(self.step + 1)[part])
        grid = self.model.token_grid(batch.latents)
        draws = draw(self.model.mar_config, len(ids), grid, generator, per_image_ratio=config.per_image_ratio)
        return batch, draws if world == 1 else draws.select(torch.arange(len(ids), device=accelerator.device)[part])

    def _ids(self, step: int) -> Tensor:
        """The samples of that step."""
        size = self.config.batch_size
        return order(self.config.seed, step * size, size, len(self.data))

    def sample_flops(self) -> int:
        """Floating-point operations of one image's forward and backward pass, counted on the first few images.

        A batch shares its share of masked tokens, on which the count depends more than twofold: it is the mean over
        several batches of masks, the same ones for every training seed, so that runs of one model count alike.
        """
        from torch.utils.flop_counter import FlopCounterMode

        count = min(FLOP_IMAGES, len(self.data))
        images, masks = (torch.Generator(self.device).manual_seed(derive_seed(0, "flops", part)) for part in range(2))
        batch = self.data.batch(torch.arange(count), images)  # flips must not shift the masks
        with FlopCounterMode(display=False) as counter:
            for _ in range(FLOP_MASKS):
                draws = draw(self.model.mar_config, count, self.model.token_grid(batch.latents), masks)
                self.model(batch.latents, batch.text, batch.text_lengths, draws).loss.backward()
        return counter.get_total_flops() // (FLOP_MASKS * count)


def check_fit(index: dict[str, Any], config: MARConfig, vae: Path, text_encoder: Path) -> None:
    """Refuse latents that a model of this config cannot read, or that other encoders made."""
    for name, field, have in (
        ("latent channels", "vae_channels", index["vae"]["channels"]),
        ("pixels per latent", "vae_stride", index["vae"]["stride"]),
        ("text channels", "text_channels", index["text"]["channels"]),
    ):
        if have != (want := getattr(config, field)):
            raise ValueError(
                f"the latents have {have} {name}, the model config {want}; give --set model.{field}={have}"
            )
    if index["text"]["max_length"] > config.max_text_length:
        raise ValueError(
            f"the latents hold up to {index['text']['max_length']} text positions, the model config "
            f"{config.max_text_length}; give --set model.max_text_length={index['text']['max_length']}"
        )
    if config.attend_to_padding and not index["keep_padding"]:
        raise ValueError(
            "a model with attend_to_padding needs latents with their padding; prepare them again with --keep-padding, "
            "or give --set model.attend_to_padding=false"
        )
    for name, folder in (("vae", vae), ("text", text_encoder)):
        if folder_sha256(folder) != index[name]["identity"]:
            option = {"vae": "--vae", "text": "--text-encoder"}[name]
            raise ValueError(f"{folder} is not the {name} encoder that made these latents; give that as {option}")


def _first_model(config: MARConfig, seed: int, start: Path | None) -> MAR:
    if start is None:
        torch.manual_seed(derive_seed(seed, "weights"))
        return MAR(config)
    model = load_transformer(start)
    if model.mar_config != config:
        raise ValueError(f"{start} holds a model of another config than the one to train")
    return model
