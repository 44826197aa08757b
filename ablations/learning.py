"""The stages that make a model: teach, encode, train or initialize, and prefer.

Heavy libraries are imported inside, so that a plan needs none of them.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablations.cells import Work
from ablations.judging import Facts, component, ticker
from ablations.store import Stopped, read_json, write_json
from ablations.suite import dataset_config


def teach(work: Work) -> Facts:
    """dataset/ and captions.json: the teacher's pictures; or of the user's own shards as many as are asked for."""
    data = work.recipe["data"]
    if data["shards"]:
        return _own_shards(work, Path(data["shards"]) / data["diversity"], data[data["volume"]])
    from ablations.icons.render import diversity_statistics, render_dataset, sample_scenes

    config = dataset_config(data, work.seed)
    render_dataset(config, work.out / "dataset")
    write_json(work.out / "captions.json", [scene.request["prompt"] for scene in sample_scenes(config)])
    return {"diversity": diversity_statistics(config)}


def _own_shards(work: Work, folder: Path, images: int) -> Facts:
    from itertools import islice

    from lightgen.data.shards import read_shards, write_shards

    write_shards(islice(read_shards(folder), images), work.out / "dataset", manifest={"part_of": folder.name})
    captions = [sample.prompt for sample in read_shards(work.out / "dataset")]
    if len(captions) < images:
        raise ValueError(f"{folder} holds {len(captions)} images, {images} are asked for")
    write_json(work.out / "captions.json", captions)
    return {"diversity": {"images": images, "distinct_captions": len(set(captions))}}


def encode(work: Work) -> Facts:
    """latents/: VAE moments and text features; measures how diverse the captions' features are."""
    from lightgen.data.latents import encode_dataset
    from lightgen.model.encoders import ImageTokenizer, TextEncoder

    dataset = work.inputs["dataset"] / "dataset"
    model = work.recipe["model"]
    text = TextEncoder.from_pretrained(component(work, "text"), model["max_text_length"])
    tokenizer = ImageTokenizer.from_pretrained(component(work, "vae"))
    index = encode_dataset(
        dataset,
        work.out / "latents",
        tokenizer=tokenizer,
        text=text,
        keep_padding=model["attend_to_padding"],
        progress=ticker(work),
        **work.recipe["encode"],
    )
    return {
        "identity": index["identity"],
        "vendi_text": _vendi(read_json(work.inputs["dataset"] / "captions.json"), text),
    }


def _vendi(captions: Sequence[str], text: Any, limit: int = 2000) -> float:
    """The Vendi score of the centered mean text features of `limit` captions, as often as the data set shows them."""
    import numpy as np

    from benchmarks.quality.manifold import vendi

    # Drawn, not taken in steps: data sets turn through the tasks, and a step could meet the same few again and again.
    prompts = random.Random(0).sample(list(captions), min(limit, len(captions)))
    unique = sorted(set(prompts))
    features, lengths = text(unique)
    kept = (np.arange(features.shape[1]) < lengths.numpy()[:, None])[..., None]
    means = (features.float().cpu().numpy() * kept).sum(1) / kept.sum(1)
    means = means - means.mean(0)  # what all captions share ("a photo of") would make every pair look alike
    return float(vendi(means[[unique.index(prompt) for prompt in prompts]]))


def train(work: Work) -> Facts:
    """model/ and metrics.jsonl."""
    from lightgen.disk.config import from_dict
    from lightgen.model.config import MARConfig
    from lightgen.training.config import TrainConfig
    from lightgen.training.train import train as run

    model = from_dict(MARConfig, dict(work.recipe["model"]))
    config = from_dict(TrainConfig, {**work.recipe["train"], "seed": work.seed})
    total = config.samples_seen
    result = run(
        config,
        model,
        work.inputs["latents"] / "latents",
        work.out,
        vae=component(work, "vae"),
        text_encoder=component(work, "text"),
        sampling=_default_sampling(work.recipe["model"]),
        stop=work.stop,
        on_step=lambda row: work.progress(row["samples"] / total),
    )
    return _finished(work, result)


def initialize(work: Work) -> Facts:
    """model/ with its first weights, never trained."""
    import torch

    from lightgen.disk.config import from_dict
    from lightgen.model.config import MARConfig
    from lightgen.model.mar import MAR
    from lightgen.training.train import save_model

    from_dict(MARConfig, dict(work.recipe["model"]))
    with torch.random.fork_rng():
        torch.manual_seed(work.seed)
        model = MAR(**work.recipe["model"])
    folders = component(work, "vae"), component(work, "text")
    save_model(model, work.out / "model", *folders, _default_sampling(work.recipe["model"]))
    return {"samples": 0, "seconds": 0.0, "flops": 0, "steps": 0, "status": "complete"}


def prefer(work: Work) -> Facts:
    """model/ after DPO, and metrics.jsonl; the reference is the model it starts from, drift is told from `origin`."""
    from lightgen.disk.config import from_dict
    from lightgen.preference.averaging import train_policies
    from lightgen.preference.config import PreferenceConfig

    pairs_file = work.inputs["pairs"] / "pairs.jsonl"
    if not pairs_file.stat().st_size:  # every caption's samples were graded alike: nothing to prefer, nothing to change
        shutil.copytree(work.inputs["model"] / "model", work.out / "model", dirs_exist_ok=True)
        (work.out / "metrics.jsonl").touch()
        return {"samples": 0, "seconds": 0.0, "flops": 0, "steps": 0, "status": "complete"}
    settings = {**work.recipe["dpo"], **work.recipe.get("finish", {})}  # the stages that finish are given both
    config = from_dict(PreferenceConfig, {**settings, "seed": work.seed})
    origin = work.inputs["origin"] / "model" if "origin" in work.inputs else None
    policies, extrapolation = (work.recipe["preference"][name] for name in ("policies", "extrapolation"))
    result = train_policies(
        config,
        work.inputs["model"] / "model",
        pairs_file,
        work.out,
        policies=policies,
        extrapolation=extrapolation,
        drift_from=origin,
        stop=work.stop,
        on_step=lambda row: work.progress(row["step"] / (config.steps * policies)),
    )
    if result["status"] != "stopped":
        for folder in work.out.glob("policy_*"):  # the average is what the study keeps
            shutil.rmtree(folder)
    return _finished(work, result)


def _finished(work: Work, result: Mapping[str, Any]) -> Facts:
    if result["status"] == "stopped":
        raise Stopped
    shutil.rmtree(work.out / "resume", ignore_errors=True)
    return dict(result)


def _default_sampling(model: Mapping[str, Any]) -> Any:
    """What the saved pipeline does when it is asked nothing; not a study's choice, so a choice moves no training."""
    from lightgen.model.config import SamplingConfig

    steps = min(64, model["position_grid"] ** 2)
    if model["head_objective"] == "ddpm":
        return SamplingConfig(num_steps=steps, solver="ddpm")
    return SamplingConfig(num_steps=steps, solver="euler")
