"""The metrics of one set of features against another, in the record form that reports read."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.quality import frechet, kernels, manifold
from benchmarks.quality.clip_score import bootstrap_mean
from benchmarks.quality.features import Features, require_same_extractor
from geneval.statistics import NORMAL_95

_GENEVAL_ID = re.compile(r"(\d{5,})/samples/[^/]+")


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """What every metric of one comparison shares, and how its names and versions are written."""

    generated: Features
    reference: Features
    label: str

    def name(self, metric: str) -> str:
        """Metric, extractor, N and reference, as in fid[icon-clip,n=1000,ref=523a1194]; and how many were left out."""
        parts = [self.generated.meta["extractor"]["name"], f"n={len(self.generated.values)}", f"ref={self.label}"]
        skipped = self.generated.meta["skipped"] + self.reference.meta["skipped"]
        return f"{metric}[{','.join(parts + ([f'skipped={skipped}'] if skipped else []))}]"

    def version(self, detail: str) -> str:
        """Everything else that would change the value."""
        extractor, reference = self.generated.meta["extractor"], self.reference.meta
        containers = "+".join(self.generated.meta["containers"]) + "/" + "+".join(reference["containers"])
        return (
            f"{detail}; weights={extractor['weights'][:12]}; resize={extractor['resize']}; "
            f"ref={reference['images'][:12]},n={len(self.reference.values)}; {containers}"
        )


def compare(
    generated: Features,
    reference: Features,
    *,
    reference_name: str | None = None,
    prompts: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The metrics that need features alone; `prompts` by image id where GenEval's ids do not tell them."""
    require_same_extractor(generated.meta, reference.meta)
    label = reference_name or reference.meta["images"][:8]
    subject = _Subject(generated=generated, reference=reference, label=label)
    a, b = generated.values, reference.values
    metrics = {subject.name("fid"): _entry(frechet.fid(a, b), len(a), False, subject.version("frechet float64"))}
    by_n, infinity = [], None
    if len(a) >= 20:
        limit = frechet.fid_infinity(a, b)
        by_n = [[size, distance] for size, distance in zip(limit.sizes, limit.distances)]
        infinity = {"value": limit.value, "stderr": limit.stderr}
        metrics[subject.name("fid_infinity")] = _entry(
            limit.value, len(a), False, subject.version("line in 1/N, 8 sizes from N/5, seed 0"), stderr=limit.stderr
        )
    metrics[subject.name("kid")] = _kid(subject)
    metrics[subject.name("cmmd")] = _entry(
        kernels.cmmd(a, b), len(a), False, subject.version("sigma 10, biased, x1000")
    )
    metrics |= _manifold_metrics(subject, a, b)
    diversity, warning = _prompt_diversity(subject, prompts or {})
    found = {"metrics": metrics | diversity, "warnings": _container_warning(generated, reference) + warning}
    return found | {"fid_by_n": by_n, "fid_infinity": infinity}


def _kid(subject: _Subject) -> dict[str, Any]:
    """KID with an interval over prompts where the ids tell which images share one, else over images."""
    ours, theirs = subject.generated, subject.reference
    prompts = [_prompt_folders(side.ids) for side in (ours, theirs)]
    estimate = kernels.kid(ours.values, theirs.values, clusters_a=prompts[0], clusters_b=prompts[1])
    over = "images" if prompts == [None, None] else "prompts"
    version = subject.version(f"cubic, unbiased, all samples; interval=jackknife over {over}")
    entry = _entry(estimate.value, len(ours.values), False, version, stderr=estimate.stderr)
    return entry | ({"clusters": len(set(prompts[0]))} if prompts[0] else {})


def _prompt_diversity(subject: _Subject, prompts: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The mean Vendi score of the samples of one prompt; nothing where no prompt has two, a warning where some have."""
    ids, values = subject.generated.ids, subject.generated.values
    owners = _prompt_folders(ids) or [prompts[image] for image in ids if image in prompts]
    copies = Counter(owners).values()
    if len(owners) < len(ids) or max(copies) < 2:
        return {}, []
    if min(copies) < 2:
        alone = sum(count < 2 for count in copies)
        return {}, [f"prompt_vendi was not measured: {alone} of {len(copies)} prompts have one image, not two or more"]
    scores = manifold.prompt_vendi(values, owners, subject.reference.values.mean(0, dtype=np.float64))
    each = f"{min(copies)}" + (f" to {max(copies)}" if max(copies) > min(copies) else "")
    version = subject.version(f"mean over prompts, {each} images each; cosine kernel around the reference's mean")
    entry = _entry(float(scores.mean()), len(ids), True, version, ci=bootstrap_mean(scores, range(len(scores))))
    return {subject.name("prompt_vendi"): entry | {"clusters": len(scores)}}, []


def _prompt_folders(ids: Sequence[str]) -> list[str] | None:
    """Each image's prompt folder in GenEval's layout; None in others, whose ids do not tell the prompt."""
    found = [_GENEVAL_ID.fullmatch(image) for image in ids]
    return [match[1] for match in found if match] if all(found) else None


def _manifold_metrics(subject: _Subject, a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    metrics = {subject.name("vendi"): _entry(manifold.vendi(a), len(a), True, subject.version("cosine kernel"))}
    if min(len(a), len(b)) > 5:
        values = {**manifold.precision_recall(a, b)._asdict(), **manifold.density_coverage(a, b)._asdict()}
        for metric, value in values.items():
            k = 3 if metric in ("precision", "recall") else 5
            metrics[subject.name(metric)] = _entry(value, len(a), True, subject.version(f"k={k}"))
    return metrics


def _entry(
    value: float, n: int, higher_is_better: bool, version: str, *, stderr: float | None = None, ci: list | None = None
) -> dict[str, Any]:
    if stderr is not None and np.isfinite(stderr):
        ci = [value - NORMAL_95 * stderr, value + NORMAL_95 * stderr]
    return {"value": value, "ci": ci, "n": n, "higher_is_better": higher_is_better, "version": version}


def _container_warning(generated: Features, reference: Features) -> list[str]:
    ours, theirs = generated.meta["containers"], reference.meta["containers"]
    if ours == theirs:
        return []
    return [f"generated images are {'+'.join(ours)} and the reference {'+'.join(theirs)}: compression shifts every FID"]
