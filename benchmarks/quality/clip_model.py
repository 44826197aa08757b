"""A CLIP in open_clip, loaded completely or not at all."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.quality.weights import KNOWN, WeightFile, file_sha256, require, state_sha256

# OpenAI's weights were trained with QuickGELU; open_clip's plain architecture names would run them with GELU.
_OPENAI_ARCHITECTURES = {"ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336", "RN50", "RN101"}

# Trained on the icon world's pictures, and part of this repository.
EMBEDDED = {"icon-clip": Path(__file__).resolve().parents[2] / "ablations" / "icons" / "components" / "clip"}


@dataclass(frozen=True, kw_only=True)
class ClipModel:
    """Network, image transform, tokenizer and identity (sha256 of the weights)."""

    name: str
    weights: str
    network: Any
    preprocess: Any
    tokenizer: Any
    device: str


def load_clip(source: str | Path, *, name: str | None = None, device: str = "cpu") -> ClipModel:
    """An open_clip folder (with open_clip_config.json), icon-clip, or `clip-ARCHITECTURE[@TAG]` (tag: openai)."""
    import open_clip
    from safetensors import SafetensorError

    name = name or (Path(source).resolve().name if is_clip_folder(source) else str(source))
    if not is_clip_folder(source):
        source = EMBEDDED.get(str(source), source)
    if is_clip_folder(source):
        identifier, tag, weights = f"local-dir:{Path(source).resolve()}", None, file_sha256(_weight_file(Path(source)))
    elif str(source).startswith("clip-"):
        identifier, tag, weights = *_named(str(source)), None
    else:
        raise ValueError(
            f"{source} is neither a folder with open_clip_config.json nor a name like clip-ViT-L-14, icon-clip"
        )
    try:
        network, preprocess = open_clip.create_model_from_pretrained(identifier, pretrained=tag, device=device)
    except (RuntimeError, OSError, KeyError, SafetensorError) as error:
        raise ValueError(f"the CLIP in {source} cannot be loaded ({error})") from error
    network.eval().requires_grad_(False)
    return ClipModel(
        name=name,
        weights=weights or state_sha256(network),
        network=network,
        preprocess=preprocess,
        tokenizer=open_clip.get_tokenizer(identifier),
        device=device,
    )


def is_clip_folder(source: str | Path) -> bool:
    return (Path(source) / "open_clip_config.json").is_file()


def _weight_file(folder: Path) -> Path:
    for name in ("open_clip_model.safetensors", "model.safetensors"):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{folder} has no open_clip_model.safetensors; copy the weights beside its config")


def _named(source: str) -> tuple[str, str]:
    """Architecture and tag of a name; the weights must be in the hub's cache."""
    import open_clip

    architecture, _, tag = source.removeprefix("clip-").partition("@")
    tag = tag or "openai"
    if architecture not in open_clip.list_models():
        raise ValueError(f"open_clip knows no {architecture!r}; see open_clip.list_models()")
    if tag == "openai" and architecture in _OPENAI_ARCHITECTURES:
        architecture += "-quickgelu"
    described = open_clip.get_pretrained_cfg(architecture, tag)
    if not described:
        valid = ", ".join(open_clip.list_pretrained_tags_by_model(architecture))
        raise ValueError(f"{architecture} has no weights tagged {tag!r}; valid: {valid}")
    repository = described.get("hf_hub", "").strip("/")
    known = WeightFile(file="open_clip_model.safetensors", repository=repository, megabytes=0)
    require(source, KNOWN.get(source, known))
    return architecture, tag
