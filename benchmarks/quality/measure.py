"""All quality metrics of one set of images against a reference, in the record form that reports read."""

import hashlib
import json
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality import frechet, kernels, manifold
from benchmarks.quality.clip_model import ClipModel, load_clip
from benchmarks.quality.clip_score import bootstrap_mean, clip_scores_from_features, score_entry
from benchmarks.quality.extractors import Extractor, clip_extractor, default_device, load_extractor
from benchmarks.quality.features import Features, extract, load_features, require_same_extractor
from benchmarks.quality.images import ImageEntry, list_images, prompts_of
from benchmarks.quality.moments import write_atomically
from benchmarks.quality.spectrum import compare_details, detail_of

_NORMAL_95 = 1.959964
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


def measure(
    generated: Path,
    reference: Path,
    *,
    extractor: str | Path,
    name: str | None = None,
    clip: str | Path | None = None,
    captions: Path | None = None,
    reference_name: str | None = None,
    out: Path | None = None,
    weights: Path | None = None,
    batch_size: int = 64,
    device: str | None = None,
    limit: int | None = None,
    skip_corrupt: bool = False,
) -> dict[str, Any]:
    """{"metrics": {name: {value, ci, n, clusters?, higher_is_better, version}}, "warnings", "fid_by_n", ...}.

    Either side may be images or a features file. `clip` adds the CLIP score where every image has a prompt (a GenEval
    folder, shards, or `captions`); the diversity of a prompt's samples needs two or more of each. Detail is compared
    where both sides' images are there: a features file's lie in images/ beside it. `reference_name` replaces the hash
    of the reference's images in the names. `out` keeps the features and quality.json; without it nothing is written.
    """
    prompts = _prompts(Path(generated), captions, required=clip is not None)
    network, model = _load(extractor, name, clip, weights, device)
    settings = {"batch_size": batch_size, "limit": limit, "skip_corrupt": skip_corrupt}
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", frechet.RankDeficientWarning)
        folder = Path(out) if out else Path(scratch)
        ours = _features(generated, network, folder / "features.safetensors", settings)
        theirs = _features(reference, network, folder / "reference.safetensors", settings)
        result = compare(ours, theirs, reference_name=reference_name, prompts=prompts)
        if model:
            same = network.implementation == "open_clip" and model.weights == network.weights
            images = ours if same else _clip_features(generated, model, folder, settings)
            result["metrics"] |= _clip_metric(result, images, [prompts[image] for image in images.ids], model)
    _add_detail(result, (generated, ours), (reference, theirs))
    result["warnings"] += list(dict.fromkeys(str(item.message) for item in caught))
    if out:
        write_atomically(Path(out) / "quality.json", (json.dumps(result, indent=1) + "\n").encode())
    return result


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


def _add_detail(result: dict[str, Any], *sides: tuple[Path, Features]) -> None:
    """The detail metrics and spectra, where both sides' images are there and of one size; else a warning."""
    found = [(_measured_images(Path(source), features), features.meta["skipped"]) for source, features in sides]
    readable = [(entries, skipped) for entries, skipped in found if entries]
    if len(readable) < len(sides):
        result["warnings"].append("detail was not measured: it needs the images themselves on both sides")
        return
    try:
        comparison = compare_details(*(detail_of(*side) for side in readable))
    except ValueError as error:
        result["warnings"].append(f"detail was not measured: {error}")
        return
    for entry in comparison["metrics"].values():
        entry["version"] += f"; ref={sides[1][1].meta['images'][:12]}"
    result["metrics"] |= comparison["metrics"]
    result["spectrum"] = comparison["spectrum"]


def _measured_images(source: Path, features: Features) -> list[ImageEntry] | None:
    """The images behind the features; for a features file those in images/ beside it, if they are the very same."""
    is_file = source.suffix == ".safetensors"
    folder = source.with_name("images") if is_file else source
    if not folder.exists():
        return None
    ids = set(features.ids)
    entries = [entry for entry in list_images(folder) if entry.id in ids]
    if is_file and _digest(entries) != features.meta["images"]:
        return None
    return entries


def _digest(entries: Sequence[ImageEntry]) -> str:
    """The hash that a features file keeps of its images."""
    return hashlib.sha256("".join(hashlib.sha256(entry.read()).hexdigest() for entry in entries).encode()).hexdigest()


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
        ci = [value - _NORMAL_95 * stderr, value + _NORMAL_95 * stderr]
    return {"value": value, "ci": ci, "n": n, "higher_is_better": higher_is_better, "version": version}


def _load(extractor, name, clip, weights, device) -> tuple[Extractor, ClipModel | None]:
    """The extractor and the CLIP; loaded once where they are the same folder."""
    device = device or default_device()
    if clip is None:
        return load_extractor(extractor, name=name, weights=weights, device=device), None
    if str(clip) == str(extractor):
        model = load_clip(clip, name=name, device=device)
        return clip_extractor(model), model
    model = load_clip(clip, device=device)
    return load_extractor(extractor, name=name, weights=weights, device=device), model


def _features(source: Path, network: Extractor, out: Path, settings: dict[str, Any]) -> Features:
    if Path(source).suffix == ".safetensors":
        features = load_features(source)
        require_same_extractor(features.meta, {"extractor": network.identity})
        return features
    if Path(source).suffix == ".npz":
        raise ValueError(
            f"{source} holds a mean and a covariance, of which only an FID can be made: write the other side's with "
            "`python -m benchmarks quality features`, then `python -m benchmarks quality fid FEATURES STATISTICS`"
        )
    return load_features(extract(source, network, out, **settings))


def _clip_features(generated: Path, model: ClipModel, folder: Path, settings: dict[str, Any]) -> Features:
    if Path(generated).suffix == ".safetensors":
        raise ValueError(f"the CLIP score needs images, and {generated} holds features of another network")
    return _features(generated, clip_extractor(model), folder / "clip_features.safetensors", settings)


def _prompts(generated: Path, captions: Path | None, *, required: bool) -> dict[str, str]:
    """{id: prompt} from the captions file or the images' own folder or shards; read before anything is computed."""
    if generated.suffix == ".safetensors":
        if required or captions:
            raise ValueError(f"prompts belong to images, and {generated} holds features; give the images instead")
        return {}
    entries = list_images(generated)
    if not (required or captions) and any(entry.prompt is None for entry in entries):
        return {}
    return prompts_of(generated, entries, captions)


def _clip_metric(result: dict[str, Any], images: Features, prompts: list[str], model: ClipModel) -> dict[str, Any]:
    scores = clip_scores_from_features(images.values, prompts, model)
    if scores.truncated:
        result["warnings"].append(f"{scores.truncated} prompts are longer than the CLIP reads and were cut")
    result["clip_scores"] = dict(zip(images.ids, scores.values.round(6).tolist()))
    return score_entry(scores, prompts, images.meta["skipped"])


def _container_warning(generated: Features, reference: Features) -> list[str]:
    ours, theirs = generated.meta["containers"], reference.meta["containers"]
    if ours == theirs:
        return []
    return [f"generated images are {'+'.join(ours)} and the reference {'+'.join(theirs)}: compression shifts every FID"]
