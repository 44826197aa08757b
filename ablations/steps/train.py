"""Steps that make a model from latents, or from nothing."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ablations.runner.step import Facts, Folder, Step, Stopped, Work, in_order
from ablations.steps.encode import Encode
from ablations.steps.subsets import Subset, ids_of
from lightgen.model.config import MARConfig, SamplingConfig
from lightgen.training.config import LoopConfig, TrainConfig

if TYPE_CHECKING:
    from lightgen.training.evaluation import Evaluation


class Training(Protocol):
    """What every step that trains from latents says."""

    @property
    def latents(self) -> Encode: ...
    @property
    def model(self) -> MARConfig: ...
    @property
    def config(self) -> TrainConfig: ...
    @property
    def subset(self) -> Subset | None: ...


@dataclass(frozen=True, kw_only=True)
class Train(Step):
    """model/ and metrics.jsonl."""

    resumable: ClassVar[bool] = True
    is_slow: ClassVar[bool] = True
    together: ClassVar[bool] = True
    latents: Encode
    model: MARConfig
    config: TrainConfig  # its seed is the cell's
    subset: Subset | None = None  # of the latents' samples; None = all
    start: Train | None = None  # whose model it begins with; None = random weights

    def run(self, work: Work) -> Facts:
        return run_training(self, work, start=None if self.start is None else work.made(self.start) / "model")


def run_training(step: Training, work: Work, evaluation: Evaluation | None = None, start: Path | None = None) -> Facts:
    """Train as the step says, from the model in `start`, into its folder; `evaluation` looks at it on the way."""
    from lightgen.training.train import train

    runtime, total = work.runtime, step.config.samples_seen
    result = train(
        step.config,
        step.model,
        work.made(step.latents) / "latents",
        work.out,
        vae=step.latents.vae.location,
        text_encoder=step.latents.text.location,
        sampling=default_sampling(step.model),
        start=start,
        ids=None if step.subset is None else ids_of(step.subset, work.made),
        loop=LoopConfig(
            log_every=runtime.log_every,
            save_every_seconds=runtime.save_every_seconds,
            compile=runtime.compile,
            track=runtime.track,
        ),
        device=runtime.device,
        stop=work.stop,
        on_step=lambda row: work.progress(row["samples"] / total),
        on_pace=lambda row: work.progress(row["samples"] / total),
        evaluation=evaluation,
    )
    return finished(work, result)


@dataclass(frozen=True, kw_only=True)
class Initialize(Step):
    """model/ with its first weights, never trained."""

    model: MARConfig
    vae: Folder
    text: Folder
    seed: int

    def run(self, work: Work) -> Facts:
        import torch

        from lightgen.model.folder import write_model
        from lightgen.model.mar import MAR

        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            model = MAR(self.model)
        write_model(
            model,
            work.out / "model",
            vae=self.vae.location,
            text_encoder=self.text.location,
            sampling=default_sampling(self.model),
        )
        return {"samples": 0, "seconds": 0.0, "flops": 0, "steps": 0, "status": "complete"}


def encoders(model: Step) -> dict[str, Path]:
    """Where the encoders of a step's model lie here: a model folder says where they lay when it was made, and stores
    are shared between installations."""
    step = next(step for step in reversed(in_order([model])) if isinstance(step, Encode | Initialize))
    return {"vae": step.vae.location, "text_encoder": step.text.location}


def default_sampling(model: MARConfig) -> SamplingConfig:
    """What the saved model does when it is asked nothing; not a study's choice, so a choice moves no training."""
    steps = min(64, model.position_grid**2)
    return SamplingConfig(num_steps=steps, solver="ddpm" if model.head_objective == "ddpm" else "euler")


def finished(work: Work, result: Mapping[str, Any]) -> Facts:
    """The facts of a run that was not stopped; what it would have gone on from is removed."""
    if result["status"] == "stopped":
        raise Stopped
    shutil.rmtree(work.out / "resume", ignore_errors=True)
    return dict(result)
