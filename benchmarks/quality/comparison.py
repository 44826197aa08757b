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
    reference_prompts: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The metrics that need features alone; prompts' texts by image id, where they are known."""
    require_same_extractor(generated.meta, reference.meta)
    label = reference_name or reference.meta["images"][:8]
    subject = _Subject(generated=generated, reference=reference, label=label)
    a, b = generated.values, reference.values
    metrics = {subject.name("fid"): _entry(frechet.fid(a, b), len(a), False, subject.version("frechet float64"))}
    by_n, infinity = [], None
    if len(a) >= 20:
        limit = frechet.fid_infinity(a, b)
        by_n = [[size, distance] for size, distance in zip(limit.sizes, limit.distances)]
        # The fit's own error knows nothing of which prompts were asked: no interval is better than that one.
        infinity = {"value": limit.value, "stderr": None}
        version = subject.version("line in 1/N, 8 sizes from N/5, seed 0")
        metrics[subject.name("fid_infinity")] = _entry(limit.value, len(a), False, version)
    owners = _owners(subject.generated.ids, prompts or {}), _owners(subject.reference.ids, reference_prompts or {})
    metrics[subject.name("kid")] = _kid(subject, *owners)
    metrics[subject.name("cmmd")] = _entry(
        kernels.cmmd(a, b), len(a), False, subject.version("sigma 10, biased, x1000")
    )
    metrics |= _manifold_metrics(subject, a, b)
    diversity, warning = _prompt_diversity(subject, *owners)
    warnings = _container_warning(generated, reference) + warning + _pairing_warning(*owners)
    found = {"metrics": metrics | diversity, "warnings": warnings}
    return found | {"fid_by_n": by_n, "fid_infinity": infinity}


@dataclass(frozen=True, kw_only=True)
class _Owners:
    """The prompt that each image belongs to: its text, or its folder's number, which says nothing across folders."""

    names: list[str] | None
    are_texts: bool


def _owners(ids: Sequence[str], texts: Mapping[str, str]) -> _Owners:
    if ids and all(image in texts for image in ids):
        return _Owners(names=[texts[image] for image in ids], are_texts=True)
    return _Owners(names=_prompt_folders(ids), are_texts=False)


def _kid(subject: _Subject, ours: _Owners, theirs: _Owners) -> dict[str, Any]:
    """KID without pairs of one prompt and with an interval over prompts where they are known, else over images."""
    # Folder numbers of two sets may mean different prompts: only texts are compared across.
    clusters = [
        [name if owners.are_texts else (side, name) for name in owners.names] if owners.names else None
        for side, owners in (("generated", ours), ("reference", theirs))
    ]
    generated, reference = subject.generated.values, subject.reference.values
    estimate = kernels.kid(generated, reference, clusters_a=clusters[0], clusters_b=clusters[1])
    if clusters == [None, None]:
        said = "all samples; interval=jackknife over images"
    else:
        said = "pairs of one prompt left out (2); interval=jackknife over prompts"
    entry = _entry(
        estimate.value, len(generated), False, subject.version(f"cubic, unbiased, {said}"), stderr=estimate.stderr
    )
    return entry | ({"clusters": len(set(clusters[0]))} if clusters[0] else {})


def _pairing_warning(ours: _Owners, theirs: _Owners) -> list[str]:
    if not (ours.names and theirs.names) or (ours.are_texts and theirs.are_texts):
        return []
    return ["KID: prompts' texts are not known on both sides; pairs of one prompt across them could not be left out"]


def _prompt_diversity(subject: _Subject, ours: _Owners, theirs: _Owners) -> tuple[dict[str, Any], list[str]]:
    """The mean Vendi score of the samples of one prompt; nothing where no prompt has two, a warning where some have."""
    values, owners = subject.generated.values, ours.names or []
    copies = Counter(owners).values()
    if not owners or max(copies) < 2:
        return {}, []
    if min(copies) < 2:
        alone = sum(count < 2 for count in copies)
        return {}, [f"prompt_vendi was not measured: {alone} of {len(copies)} prompts have one image, not two or more"]
    center = subject.reference.values.mean(0, dtype=np.float64)
    scores = manifold.prompt_vendi(values, owners, center)
    each = f"{min(copies)}" + (f" to {max(copies)}" if max(copies) > min(copies) else "")
    version = subject.version(f"mean over prompts, {each} images each; cosine kernel around the reference's mean")
    entry = _entry(float(scores.mean()), len(values), None, version, ci=bootstrap_mean(scores, range(len(scores))))
    if target := _prompt_target(subject.reference.values, theirs.names, set(copies), center):
        entry["target"] = target
    return {subject.name("prompt_vendi"): entry | {"clusters": len(scores)}}, []


def _prompt_target(
    values: np.ndarray, owners: Sequence[str] | None, copies: set[int], center: np.ndarray
) -> float | None:
    """The reference's own score, where its prompts have as many images each: the score grows with their number."""
    if owners is None or set(Counter(owners).values()) != copies or len(copies) > 1:
        return None
    return float(manifold.prompt_vendi(values, owners, center).mean())


def _prompt_folders(ids: Sequence[str]) -> list[str] | None:
    """Each image's prompt folder in GenEval's layout; None in others, whose ids do not tell the prompt."""
    found = [_GENEVAL_ID.fullmatch(image) for image in ids]
    return [match[1] for match in found if match] if all(found) else None


def _manifold_metrics(subject: _Subject, a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    entry = _entry(manifold.vendi(a), len(a), None, subject.version("cosine kernel"))
    if len(b) >= len(a):
        # The score grows with the number of images: the reference's is of as many.
        drawn = np.sort(np.random.default_rng(0).choice(len(b), len(a), replace=False))
        entry["target"] = manifold.vendi(b[drawn])
    metrics = {subject.name("vendi"): entry}
    if min(len(a), len(b)) > 5:
        values = {**manifold.precision_recall(a, b)._asdict(), **manifold.density_coverage(a, b)._asdict()}
        for metric, value in values.items():
            k = 3 if metric in ("precision", "recall") else 5
            metrics[subject.name(metric)] = _entry(value, len(a), True, subject.version(f"k={k}"))
    return metrics


def _entry(
    value: float,
    n: int,
    higher_is_better: bool | None,
    version: str,
    *,
    stderr: float | None = None,
    ci: list | None = None,
) -> dict[str, Any]:
    if stderr is not None and np.isfinite(stderr):
        ci = [value - NORMAL_95 * stderr, value + NORMAL_95 * stderr]
    return {"value": value, "ci": ci, "n": n, "higher_is_better": higher_is_better, "version": version}


def _container_warning(generated: Features, reference: Features) -> list[str]:
    ours, theirs = generated.meta["containers"], reference.meta["containers"]
    if ours == theirs:
        return []
    return [f"generated images are {'+'.join(ours)} and the reference {'+'.join(theirs)}: compression shifts every FID"]
