"""All quality metrics of one set of images against a reference, in the record form that reports read."""

import hashlib
import json
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality.captions import prompts_of
from benchmarks.quality.clip_score import clip_scores_from_features, score_entry
from benchmarks.quality.comparison import compare
from benchmarks.quality.config import ExtractionConfig, MeasureConfig
from benchmarks.quality.extraction import extract
from benchmarks.quality.extractors import Extractor, clip_extractor, load_extractor
from benchmarks.quality.features import Features, load_features, require_same_extractor
from benchmarks.quality.frechet import RankDeficientWarning
from benchmarks.quality.images import ImageEntry, list_images
from benchmarks.quality.spectrum import compare_details, detail_of
from geneval.clip import Clip, load_clip
from lightgen.disk.atomic import write_text


def measure(generated: Path, reference: Path, config: MeasureConfig) -> dict[str, Any]:
    """{"metrics": {name: {value, ci, n, clusters?, higher_is_better, version}}, "warnings", "fid_by_n", ...}.

    Either side may be images or a features file. The CLIP score needs a prompt of every image (a GenEval folder,
    shards, or captions); the diversity of a prompt's samples two or more of each. Detail is compared where both sides'
    images are there: a features file's lie in images/ beside it.
    """
    generated, reference = Path(generated), Path(reference)
    prompts = _prompts(generated, config.captions, required=config.clip is not None)
    network, model = _networks(config)
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RankDeficientWarning)
        folder = Path(config.out or scratch)
        ours = _features(generated, network, folder / "features.safetensors", config.extraction)
        theirs = _features(reference, network, folder / "reference.safetensors", config.extraction)
        images = [_measured_images(source, found) for source, found in ((generated, ours), (reference, theirs))]
        texts = prompts or _texts(images[0]), _texts(images[1])
        result = compare(
            ours, theirs, reference_name=config.reference_name, prompts=texts[0], reference_prompts=texts[1]
        )
        if model:
            same = network.implementation == "open_clip" and model.weights == network.weights
            seen = ours if same else _clip_features(generated, model, folder, config.extraction)
            result["metrics"] |= _clip_metric(result, seen, [prompts[image] for image in seen.ids], model)
    _add_detail(result, (images[0], ours), (images[1], theirs))
    result["warnings"] += list(dict.fromkeys(str(item.message) for item in caught))
    if config.out:
        write_text(Path(config.out) / "quality.json", json.dumps(result, indent=1) + "\n")
    return result


def describe(generated: Path, config: MeasureConfig, shard: tuple[int, int]) -> None:
    """Make those of the features that `measure` will look for in `config.out` which are this process's share."""
    if config.out is None:
        raise ValueError("features that processes share need a folder (out)")
    network, _ = _networks(config)
    extract(generated, network, Path(config.out) / "features.safetensors", config.extraction, shard=shard)


def _networks(config: MeasureConfig) -> tuple[Extractor, Clip | None]:
    """The extractor and the CLIP; loaded once where they are the same."""
    made = config.extraction
    if str(config.clip) == str(config.extractor):
        model = load_clip(config.extractor, label=made.name, device=made.device)
        return clip_extractor(model), model
    clip = None if config.clip is None else load_clip(config.clip, device=made.device)
    return load_extractor(config.extractor, name=made.name, weights=made.weights, device=made.device), clip


def _features(source: Path, network: Extractor, out: Path, config: ExtractionConfig) -> Features:
    if Path(source).suffix == ".safetensors":
        features = load_features(source)
        require_same_extractor(features.meta, {"extractor": network.identity})
        return features
    if Path(source).suffix == ".npz":
        raise ValueError(
            f"{source} holds a mean and a covariance, of which only an FID can be made: write the other side's with "
            "`python -m benchmarks quality features`, then `python -m benchmarks quality fid FEATURES STATISTICS`"
        )
    return load_features(extract(source, network, out, config))


def _clip_features(generated: Path, model: Clip, folder: Path, config: ExtractionConfig) -> Features:
    if Path(generated).suffix == ".safetensors":
        raise ValueError(f"the CLIP score needs images, and {generated} holds features of another network")
    return _features(generated, clip_extractor(model), folder / "clip_features.safetensors", config)


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


def _clip_metric(result: dict[str, Any], images: Features, prompts: list[str], model: Clip) -> dict[str, Any]:
    scores = clip_scores_from_features(images.values, prompts, model)
    if scores.truncated:
        result["warnings"].append(f"{scores.truncated} prompts are longer than the CLIP reads and were cut")
    result["clip_scores"] = dict(zip(images.ids, scores.values.round(6).tolist()))
    return score_entry(scores, prompts, images.meta["skipped"])


def _texts(images: Sequence[ImageEntry] | None) -> dict[str, str]:
    """{id: prompt} of the images whose folder or shard has one."""
    return {entry.id: entry.prompt for entry in images or () if entry.prompt is not None}


def _add_detail(result: dict[str, Any], *sides: tuple[list[ImageEntry] | None, Features]) -> None:
    """The detail metrics and spectra, where both sides' images are there and of one size; else a warning."""
    readable = [(entries, features.meta["skipped"]) for entries, features in sides if entries]
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
