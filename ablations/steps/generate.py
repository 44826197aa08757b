"""The step that makes a model's pictures of the benchmark's prompts, and what other steps use to make theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ablations.runner.step import Facts, Step, Work
from ablations.steps.asked import Asked, prompts_of
from ablations.steps.train import encoders
from lightgen.disk.json_files import read_json
from lightgen.model.config import SamplingConfig

if TYPE_CHECKING:
    from geneval.prompts import Prompt


@dataclass(frozen=True, kw_only=True)
class Generate(Step):
    """images/: the benchmark's prompts as GenEval's folder."""

    resumable: ClassVar[bool] = True
    parts: ClassVar[tuple[str, ...]] = ("run",)
    model: Step
    prompts: Asked
    sampling: SamplingConfig
    copies: int
    seed: int
    tuned: Step | None = None  # whose sampling.json replaces settings
    side: int = 0  # pixels of a picture's sides; 0 = the model's own

    def run(self, work: Work) -> Facts:
        prompts = prompts_of(self.prompts, work.made)
        call = sampling_call(self.sampling)
        if self.side:
            call |= {"height": self.side, "width": self.side}
        if self.tuned is not None:
            call |= read_json(work.made(self.tuned) / "sampling.json")
        generate(work, self.model, prompts, work.out / "images", call, copies=self.copies, seed=self.seed)
        return {"prompts": len(prompts), "images": len(prompts) * self.copies}


def generate(
    work: Work, model: Step, prompts: Sequence[Prompt], out: Path, call: dict[str, Any], *, copies: int, seed: int
) -> None:
    """Images of the prompts by the model that a step made, each from its own seed; of a shard, its prompts'."""
    from geneval.generate import generate_images

    batch = work.runtime.generate_batch
    generate_images(
        load_model(work, model), prompts, out, copies=copies, seed=seed, batch_size=batch, call=call, seeding="image",
        shard=work.shard, progress=work.tick,
    )  # fmt: skip


def load_model(work: Work, model: Step) -> Any:
    """The pipeline of a step's model, on the device."""
    from lightgen.device import choose_device
    from lightgen.model.folder import load_pipeline

    lie = encoders(model)
    pipeline = load_pipeline(work.made(model) / "model", vae=lie["vae"], text_encoder=lie["text_encoder"])
    pipeline = pipeline.to(choose_device(work.runtime.device))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sampling_call(sampling: SamplingConfig) -> dict[str, Any]:
    """The settings as arguments of the pipeline's call."""
    settings = asdict(sampling)
    return {"num_inference_steps": settings.pop("num_steps"), **settings}
