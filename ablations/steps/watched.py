"""Training that is looked at on its way: models after parts of it, and how well each knows pictures held out of it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any, ClassVar

from ablations.runner.step import Facts, Step, Work
from ablations.steps.encode import Encode
from ablations.steps.subsets import Subset
from ablations.steps.train import default_sampling, run_training
from lightgen.disk.json_files import read_json, write_json
from lightgen.model.config import MARConfig
from lightgen.training.config import TrainConfig

HELD_OUT, HELD_OUT_BATCH = 1024, 256  # pictures at most, and at once


@dataclass(frozen=True, kw_only=True)
class TrainWatched(Step):
    """parts/1 to parts/N, the model after each part of the training, and curve.json: samples seen and the loss on
    pictures held out, part by part.

    `held` are held-out pictures encoded; None: of one's own data, those that no subset holds.
    """

    resumable: ClassVar[bool] = True
    is_slow: ClassVar[bool] = True
    latents: Encode
    model: MARConfig
    config: TrainConfig  # its seed is the cell's
    snapshots: int  # N
    held: Encode | None = None
    subset: Subset | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.snapshots <= self.config.steps:
            raise ValueError(f"{self.config.steps} training steps have no {self.snapshots} parts")

    def run(self, work: Work) -> Facts:
        from lightgen.training.evaluation import Evaluation

        held = self._held(work)
        look = Evaluation(function=lambda step, model: self._keep(work, step, model, held), every=self._every)
        facts = run_training(self, work, look)
        return facts if facts["status"] != "complete" else {**facts, "curve": self._curve(work, held)}

    @property
    def _every(self) -> int:
        return self.config.steps // self.snapshots

    def _keep(self, work: Work, step: int, model: Any, held: Any) -> dict[str, float]:
        from lightgen.model.folder import write_model

        write_model(
            model,
            work.out / "parts" / str(step // self._every),
            vae=self.latents.vae.location,
            text_encoder=self.latents.text.location,
            sampling=default_sampling(self.model),
        )
        return {"held_out_loss": held_out_loss(model, held)}

    def _curve(self, work: Work, held: Any) -> dict[str, list[float]]:
        """The losses of all parts; the model at the end becomes the last of them."""
        from lightgen.model.folder import load_transformer
        from lightgen.training.journal import read_journal

        rows = [
            row for row in read_journal(work.out / "evaluations.jsonl") if row["step"] // self._every < self.snapshots
        ]
        last, steps = work.out / "parts" / str(self.snapshots), self.config.steps
        shutil.rmtree(last, ignore_errors=True)
        shutil.copytree(work.out / "model", last)
        losses = [row["held_out_loss"] for row in rows]
        losses.append(held_out_loss(load_transformer(last), held))
        samples = [row["step"] * self.config.batch_size for row in rows] + [steps * self.config.batch_size]
        curve = {"samples": samples, "held_out_loss": losses}
        write_json(work.out / "curve.json", curve)
        return curve

    def _held(self, work: Work) -> Any:
        import numpy as np

        from lightgen.data.latents import LatentDataset
        from lightgen.data.pool import read_pool

        if self.held is not None:
            return LatentDataset(work.made(self.held) / "latents")
        if self.subset is None:
            raise ValueError("nothing is held out: give pictures that are, or train on a subset")
        latents = work.made(self.latents) / "latents"
        ids = np.flatnonzero(read_pool(latents).held_out(self.subset.config.held_out))[:HELD_OUT].tolist()
        return LatentDataset(latents, ids=ids)


@dataclass(frozen=True, kw_only=True)
class TakePart(Step):
    """model/ after one part of a training: the one of that number, or the best by the loss on held-out pictures."""

    training: TrainWatched
    part: int = 0  # from 1; 0: the best

    def run(self, work: Work) -> Facts:
        made = work.made(self.training)
        if not (made / "curve.json").is_file():  # it diverged: the model is as it was left
            shutil.copytree(made / "model", work.out / "model")
            return {"part": 0, "samples": 0}
        curve = read_json(made / "curve.json")
        losses: list[float] = curve["held_out_loss"]
        part = self.part or 1 + losses.index(min(losses))
        shutil.copytree(made / "parts" / str(part), work.out / "model")
        return {"part": part, "parts": len(losses), "samples": curve["samples"][part - 1]}


def held_out_loss(model: Any, held: Any) -> float:
    """The mean squared error (of the noise, or of the flow's velocity) on a `LatentDataset`, one mask ratio an image;
    masks and noise are the same every time."""
    import torch

    from lightgen.model.masking import draw

    was_training, total = model.training, 0.0
    device, generator = next(model.parameters()).device, torch.Generator().manual_seed(0)
    model.eval()
    with torch.no_grad():
        for ids in torch.arange(len(held)).split(HELD_OUT_BATCH):
            batch = held.batch(ids, generator)
            grid = model.token_grid(batch.latents)
            draws = draw(model.mar_config, len(ids), grid, generator, drop_text=False, per_image_ratio=True)
            inputs = [value.to(device) for value in (batch.latents, batch.text, batch.text_lengths)]
            total += len(ids) * float(model(*inputs, draws.to(device)).mse)
    model.train(was_training)
    return total / len(held)
