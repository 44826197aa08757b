"""The quality metrics as torchmetrics metrics: the numbers of `measure` in a training loop, over all processes."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from benchmarks.quality.clip_score import clip_scores
from benchmarks.quality.extractors import Extractor, load_extractor
from benchmarks.quality.features import Features
from benchmarks.quality.frechet import fid
from benchmarks.quality.kernels import kid
from benchmarks.quality.manifold import precision_recall, vendi
from benchmarks.quality.moments import Statistics
from geneval.clip import Clip, load_clip
from geneval.images import as_pictures

_DIGITS = 3  # 16-bit digits of a prompt's hash beside its features, exact in float32


class FrechetDistance(Metric):
    """FID of the pictures seen since the last reset to a reference; memory does not grow with their number.

    Images everywhere here: PIL pictures, or tensors (B, 3, H, W), floats in [0, 1] or uint8. States are float64.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    count: Tensor
    total: Tensor
    products: Tensor

    def __init__(
        self, extractor: str | Path | Extractor, reference: Statistics | Features | np.ndarray, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.extractor = _extractor(extractor)
        self.reference = _statistics(reference)
        size = len(self.reference.mean)
        self.add_state("count", torch.zeros((), dtype=torch.float64), "sum")
        # Sums are taken around the reference's mean, which every process knows: far from zero they would lose digits.
        self.add_state("total", torch.zeros(size, dtype=torch.float64), "sum")
        self.add_state("products", torch.zeros(size, size, dtype=torch.float64), "sum")

    def update(self, images: Any) -> None:
        """Take in a batch of pictures."""
        centered = torch.from_numpy(_features(self.extractor, images) - self.reference.mean).to(self.total.device)
        self.count += len(centered)
        self.total += centered.sum(0)
        self.products += centered.T @ centered

    def compute(self) -> Tensor:
        """The distance; ValueError below two pictures."""
        count = int(self.count)
        if count < 2:
            raise ValueError(f"an FID needs at least 2 pictures; there are {count}")
        mean = (self.total / count).cpu().numpy()
        covariance = (self.products.cpu().numpy() - count * np.outer(mean, mean)) / (count - 1)
        ours = Statistics(mean=mean + self.reference.mean, covariance=covariance, num_samples=count)
        return torch.tensor(fid(ours, self.reference), device=self.total.device)


class FeatureMetric(Metric):
    """What keeps the features of all pictures; a prompt each tells which pictures belong together."""

    is_differentiable = False
    full_state_update = False
    rows: list[Tensor]
    width: Tensor

    def __init__(self, extractor: str | Path | Extractor, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.extractor = _extractor(extractor)
        self.add_state("rows", [], "cat")
        self.add_state("width", torch.zeros((), dtype=torch.int64), "max")

    def update(self, images: Any, prompts: Sequence[str] | None = None) -> None:
        """Take in a batch of pictures and, where the metric or its interval asks for them, their prompts."""
        values = _features(self.extractor, images).astype(np.float32)
        if prompts is not None and len(prompts) != len(values):
            raise ValueError(f"{len(values)} pictures and {len(prompts)} prompts; give one prompt a picture")
        texts: list[str | None] = [None] * len(values) if prompts is None else list(prompts)
        names = np.array([_digits(text) for text in texts], np.float32).reshape(-1, _DIGITS)
        if len(values):
            # Flat, so that a process without pictures, for which the library makes an empty vector, fits in.
            self.rows.append(torch.from_numpy(np.concatenate([values, names], 1)).flatten().to(self.device))
            self.width = torch.full_like(self.width, values.shape[1])

    def gathered(self) -> tuple[np.ndarray, list[str] | None]:
        """Features (N, D) of all processes, and a name of each picture's prompt where all have one."""
        vectors = [self.rows] if isinstance(self.rows, Tensor) else self.rows
        if not int(self.width):
            raise ValueError("no pictures since the last reset")
        table = torch.cat(vectors).reshape(-1, int(self.width) + _DIGITS).cpu().numpy()
        names = table[:, int(self.width) :]
        known = bool((names >= 0).all())
        return table[:, : int(self.width)], [str(name.tolist()) for name in names] if known else None


class KernelDistance(FeatureMetric):
    """KID to a reference's features; pairs with the same prompt are left out where both sides give prompts."""

    higher_is_better = False

    def __init__(
        self,
        extractor: str | Path | Extractor,
        reference: Features | np.ndarray,
        reference_prompts: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(extractor, **kwargs)
        self.reference = _values(reference)
        self.reference_prompts = None
        if reference_prompts is not None:
            self.reference_prompts = [str(_digits(text)) for text in reference_prompts]

    def compute(self) -> Tensor:
        """The distance."""
        values, prompts = self.gathered()
        found = kid(values, self.reference, clusters_a=prompts, clusters_b=self.reference_prompts)
        return torch.tensor(found.value, device=self.device)


class PrecisionRecall(FeatureMetric):
    """{"precision", "recall"} in the reference's k nearest neighbors."""

    higher_is_better = True

    def __init__(
        self, extractor: str | Path | Extractor, reference: Features | np.ndarray, k: int = 3, **kwargs: Any
    ) -> None:
        super().__init__(extractor, **kwargs)
        self.reference, self.k = _values(reference), k

    def compute(self) -> dict[str, Tensor]:
        """Both shares."""
        found = precision_recall(self.gathered()[0], self.reference, k=self.k)
        return {name: torch.tensor(value, device=self.device) for name, value in found._asdict().items()}


class Vendi(FeatureMetric):
    """Effective number of distinct pictures. More is not better: compare with a reference of as many pictures."""

    higher_is_better = None

    def compute(self) -> Tensor:
        """The score, from 1 to the number of pictures."""
        return torch.tensor(vendi(self.gathered()[0]), device=self.device)


class CLIPScore(Metric):
    """Mean of 100 x cosine of picture and prompt."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    count: Tensor
    total: Tensor

    def __init__(self, clip: str | Path | Clip, *, weight: float = 100.0, clamp: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.clip = clip if isinstance(clip, Clip) else load_clip(clip)
        self.weight, self.clamp = weight, clamp
        for name in ("count", "total"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), "sum")

    def update(self, images: Any, prompts: Sequence[str]) -> None:
        """Take in a batch of pictures and their prompts."""
        pictures = as_pictures(images)
        if pictures or prompts:
            scores = clip_scores(pictures, prompts, self.clip, weight=self.weight, clamp=self.clamp)
            self.count += len(scores.values)
            self.total += float(scores.values.sum())

    def compute(self) -> Tensor:
        """The mean; ValueError without pictures."""
        if not self.count:
            raise ValueError("a CLIP score needs at least one picture")
        return self.total / self.count


def _extractor(given: str | Path | Extractor) -> Extractor:
    return given if isinstance(given, Extractor) else load_extractor(given)


def _features(extractor: Extractor, images: Any) -> np.ndarray:
    """Features (B, D) in float64."""
    prepared = [extractor.prepare(picture) for picture in as_pictures(images)]
    return np.asarray(extractor(prepared) if prepared else np.zeros((0, 1)), dtype=np.float64)


def _values(reference: Features | np.ndarray) -> np.ndarray:
    return reference.values if isinstance(reference, Features) else np.asarray(reference)


def _statistics(reference: Statistics | Features | np.ndarray) -> Statistics:
    return reference if isinstance(reference, Statistics) else Statistics.of(_values(reference))


def _digits(text: str | None) -> list[float]:
    """-1 thrice where there is no prompt."""
    if text is None:
        return [-1.0] * _DIGITS
    digest = hashlib.sha256(text.encode()).digest()
    return [float(int.from_bytes(digest[2 * i : 2 * i + 2], "little")) for i in range(_DIGITS)]
