"""`python -m ablations.train LATENTS ...`: `python -m lightgen train`, with a GenEval score every so many steps.

lightgen knows no scorer and GenEval no model: they meet here. Scores go to OUT/evaluations.jsonl, a row a time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from geneval.metric import GenEval
    from geneval.prompts import Prompt
    from lightgen.model.config import SamplingConfig
    from lightgen.model.mar import MAR


def train(
    latents: Positional[Path],
    out: Path,
    vae: Path,
    text_encoder: Path,
    detector: Path,
    clip: str,
    evaluate_every: int,
    prompts: Path | None = None,
    copies: int = 1,
    preset: str = "tiny",
    values: Annotated[tuple[str, ...], arg(name="set", metavar="NAME=VALUE ...")] = (),
    device: str = "auto",
) -> None:
    """Train a model and score it with GenEval on the way; run again to resume.

    Args:
        latents: folder from `python -m lightgen prepare`
        out: folder of the run
        vae: the folder the latents were encoded with
        text_encoder: the folder the latents were encoded with
        detector: as for `python -m geneval detect`
        clip: as for `python -m geneval detect`
        evaluate_every: steps between two scores
        prompts: prompts file (default: two prompts a task over the detector's classes)
        copies: images a prompt
        preset: as for `python -m lightgen train`
        values: changes of the preset, as train.learning_rate=1e-4
        device: auto, cpu, cuda, cuda:N or mps
    """
    from geneval.judge import Judge
    from geneval.metric import GenEval
    from geneval.prompts import prompt_suite, read_prompts
    from lightgen.console import finish, json_pairs, row_lines, stop_on_signals
    from lightgen.disk.config import override
    from lightgen.presets import preset as named
    from lightgen.training.evaluation import Evaluation
    from lightgen.training.train import train as run

    chosen = override(named(preset), json_pairs(values))
    judge = Judge.from_pretrained(detector, clip, device)
    asked = read_prompts(prompts) if prompts else prompt_suite(judge.detector.names, num_prompts=2)
    judge.prompts(asked)
    score = scorer(GenEval(judge), asked, copies, vae, text_encoder, chosen.sampling)
    parts: dict[str, Any] = {"vae": vae, "text_encoder": text_encoder, "sampling": chosen.sampling}
    parts |= {"device": device, "weights": chosen.weights, "stop": stop_on_signals()}
    parts |= {"on_step": row_lines(chosen.train.steps)}
    evaluation = Evaluation(function=score, every=evaluate_every)
    finish(run(chosen.training, chosen.model, latents, out, evaluation=evaluation, **parts), out, False)


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
            seeds = [image_seed(42, prompt.prompt, copy) for copy in range(copies)]
            generators = [torch.Generator().manual_seed(seed) for seed in seeds]
            images = pipeline([prompt.prompt] * copies, generator=generators).images
            metric.update(images, [prompt] * copies)
        return {f"geneval/{name}": round(float(value), 6) for name, value in metric.compute().items()}

    return score


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code; a user's mistake is one line on stderr and 2."""
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
    try:
        tyro.cli(train, prog="python -m ablations.train", args=arguments, config=config)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
