"""A GenEval score of a LightGen while it trains: what `python -m lightgen train --evaluate-every N` asks for.

lightgen knows no scorer and GenEval no model: they meet here, by an entry point of pyproject.toml.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightgen.disk.config import from_dict

if TYPE_CHECKING:
    from geneval.metric import GenEval
    from geneval.prompts import Prompt
    from lightgen.model.config import SamplingConfig
    from lightgen.model.mar import MAR

SEED = 42  # of the pictures: the same ones every time, so that only the model differs


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Who scores, and what."""

    detector: str  # as for `python -m geneval detect`
    clip: str = "ViT-L-14-quickgelu"  # likewise
    prompts: str = ""  # prompts file; "": two prompts a task over the detector's classes
    copies: int = 1  # images a prompt

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise ValueError(f"copies is {self.copies}, must be at least 1")


def geneval_scorer(
    *, asked: Mapping[str, Any], vae: Path, text_encoder: Path, sampling: SamplingConfig, device: str
) -> Callable[[int, MAR], dict[str, float]]:
    """The function that scores a model in training; `asked` are the fields of `EvaluationConfig`."""
    from geneval.judge import Judge
    from geneval.metric import GenEval
    from geneval.prompts import prompt_suite
    from geneval.templates import read_asked

    config = from_dict(EvaluationConfig, asked, "--evaluate")
    if int(os.environ.get("RANK", "0")):
        return _elsewhere
    judge = Judge.from_pretrained(config.detector, config.clip, device)
    suite = config.prompts and read_asked(Path(config.prompts))
    prompts = suite or prompt_suite(judge.detector.names, num_prompts=2)
    judge.prompts(prompts)
    # One process measures while the others wait: nothing may be gathered from them.
    metric = GenEval(judge, sync_on_compute=False)
    return scorer(metric, prompts, config.copies, vae, text_encoder, sampling)


def _elsewhere(step: int, model: MAR) -> dict[str, float]:
    """In place of a judge where another process measures: a GPU's memory is not spent on one that is never asked."""
    raise RuntimeError("of several processes the first one measures")


def scorer(
    metric: GenEval, prompts: Sequence[Prompt], copies: int, vae: Path, text_encoder: Path, sampling: SamplingConfig
) -> Callable[[int, MAR], dict[str, float]]:
    """A function of step and model: GenEval of its pictures of the prompts, each from the same seed every time."""
    from diffusers import AutoencoderKL
    from transformers import T5EncoderModel

    from lightgen.model.encoders import load_complete, load_tokenizer

    fixed: dict[str, Any] = {
        "vae": load_complete(AutoencoderKL, vae),
        "text_encoder": load_complete(T5EncoderModel, text_encoder),
        "tokenizer": load_tokenizer(text_encoder),
    }

    def score(step: int, model: MAR) -> dict[str, float]:
        import torch

        from geneval.generate import image_seed
        from lightgen.model.pipeline import LightGenPipeline

        device = next(model.parameters()).device
        pipeline: Any = LightGenPipeline(transformer=model, sampling=sampling, **fixed).to(device)
        pipeline.set_progress_bar_config(disable=True)
        metric.reset()
        for prompt in prompts:
            seeds = [image_seed(SEED, prompt.prompt, copy) for copy in range(copies)]
            generators = [torch.Generator().manual_seed(seed) for seed in seeds]
            images = pipeline([prompt.prompt] * copies, generator=generators).images
            metric.update(images, [prompt] * copies)
        return {f"geneval/{name}": round(float(value), 6) for name, value in metric.compute().items()}

    return score
