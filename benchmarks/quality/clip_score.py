"""CLIP score: cosine of image and prompt embeddings (Hessel et al. 2021), one number an image."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.arrays import unit_length
from benchmarks.quality.captions import prompts_of
from benchmarks.quality.config import ExtractionConfig
from benchmarks.quality.extraction import extract
from benchmarks.quality.extractors import clip_extractor
from benchmarks.quality.features import load_features
from benchmarks.quality.images import list_images
from geneval.clip import Clip, load_clip
from geneval.device import without_tf32


@dataclass(frozen=True, kw_only=True)
class ClipScores:
    """`values` (N,) = weight x cosine; how many prompts were longer than the model reads; the model's identity."""

    values: np.ndarray
    truncated: int
    weight: float
    clamped: bool
    extractor: dict[str, str]


def clip_scores(
    images: Iterable[Any],
    prompts: Sequence[str],
    model: str | Path | Clip,
    *,
    weight: float = 100.0,
    clamp: bool = False,
    batch_size: int = 64,
    device: str = "auto",
) -> ClipScores:
    """Score of each (PIL RGB image, prompt) pair.

    `weight` 100 is the usual scale, 2.5 with `clamp` (negative cosines count 0) is Hessel's CLIP-S. Prompts longer
    than the model's context (77 tokens in CLIP) are cut, keeping the end token, and counted.
    """
    clip = model if isinstance(model, Clip) else load_clip(model, device=device)
    features = [_image_features(batch, clip) for batch in _batches(images, batch_size)]
    if not features:
        raise ValueError("a CLIP score needs at least one image")
    return clip_scores_from_features(np.concatenate(features), prompts, clip, weight=weight, clamp=clamp)


def clip_scores_from_features(
    features: np.ndarray, prompts: Sequence[str], clip: Clip, *, weight: float = 100.0, clamp: bool = False
) -> ClipScores:
    """The same scores from cached image features (N, D) of the same CLIP; every distinct prompt is encoded once."""
    if len(features) != len(prompts):
        raise ValueError(f"{len(features)} images and {len(prompts)} prompts; a CLIP score needs one prompt an image")
    captions = list(dict.fromkeys(prompts))
    text = np.concatenate([_text_features(batch, clip) for batch in _batches(captions, 256)])
    row = {caption: index for index, caption in enumerate(captions)}
    if not np.isfinite(features).all() or not np.isfinite(text).all():
        raise ValueError(f"{clip.name} gave NaN or infinite features; look for broken weights")
    cosines = (unit_length(features) * unit_length(text)[[row[prompt] for prompt in prompts]]).sum(1)
    return ClipScores(
        values=weight * (cosines.clip(0) if clamp else cosines),
        truncated=sum(is_truncated(caption, clip) for caption in captions),
        weight=weight,
        clamped=clamp,
        extractor={"name": clip.name, "weights": clip.weights, "implementation": "open_clip"},
    )


def score_images(
    images: Path,
    model: str | Path,
    *,
    captions: Path | None = None,
    clip_s: bool = False,
    device: str = "auto",
    skip_corrupt: bool = False,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The record entry of a folder's or shards' CLIP score, and one {"file", "prompt", "score"} an image."""
    prompts = prompts_of(images, list_images(images), captions)
    clip = load_clip(model, device=device)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "features.safetensors"
        features = load_features(
            extract(images, clip_extractor(clip), out, ExtractionConfig(skip_corrupt=skip_corrupt))
        )
    own = [prompts[image] for image in features.ids]
    scores = clip_scores_from_features(features.values, own, clip, weight=2.5 if clip_s else 100.0, clamp=clip_s)
    rows = [
        {"file": image, "prompt": prompt, "score": round(float(score), 6)}
        for image, prompt, score in zip(features.ids, own, scores.values)
    ]
    return score_entry(scores, own, features.meta["skipped"]), rows


def score_entry(scores: ClipScores, prompts: Sequence[str], skipped: int = 0) -> dict[str, Any]:
    """{clip_score[MODEL,w=WEIGHT]: record entry}, its interval from drawing prompts again."""
    convention = f"w={scores.weight:g}" + (",clamped" if scores.clamped else "")
    name = f"clip_score[{scores.extractor['name']},{convention}{f',skipped={skipped}' if skipped else ''}]"
    entry = {
        "value": float(scores.values.mean()),
        "ci": bootstrap_mean(scores.values, prompts),
        "n": len(scores.values),
        "clusters": len(set(prompts)),
        "higher_is_better": True,
        "version": f"cosine; weights={scores.extractor['weights'][:12]}; prompts cut={scores.truncated}",
    }
    return {name: entry}


def is_truncated(prompt: str, clip: Clip) -> bool:
    """Whether the tokenizer cuts the prompt: in a context twice as long, is there more than padding past the end?"""
    length = int(clip.tokenizer.context_length)
    padding, tokens = clip.tokenizer(["", prompt], context_length=2 * length)
    return bool((tokens[length:] != padding[-1]).any())


def bootstrap_mean(values: np.ndarray, clusters: Sequence, *, resamples: int = 2000, seed: int = 0) -> list[float]:
    """95 % interval of the mean when whole clusters (the images of one prompt) are drawn again."""
    names = {name: index for index, name in enumerate(dict.fromkeys(clusters))}
    membership = np.array([names[name] for name in clusters])
    totals = np.bincount(membership, weights=values, minlength=len(names))
    counts = np.bincount(membership, minlength=len(names))
    drawn = np.random.default_rng(seed).integers(len(names), size=(resamples, len(names)))
    means = totals[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return [float(low), float(high)]


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


def _image_features(images: list, clip: Clip) -> np.ndarray:
    import torch

    with torch.inference_mode(), without_tf32():
        pixels = torch.stack([clip.preprocess(image) for image in images]).to(clip.device)
        return clip.network.encode_image(pixels).cpu().double().numpy()


def _text_features(captions: list[str], clip: Clip) -> np.ndarray:
    import torch

    with torch.inference_mode(), without_tf32():
        return clip.network.encode_text(clip.tokenizer(captions).to(clip.device)).cpu().double().numpy()
