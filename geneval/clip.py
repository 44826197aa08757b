"""A CLIP in open_clip, named in one way everywhere and loaded completely or not at all.

    FOLDER             an open_clip folder: open_clip_config.json and open_clip_model.safetensors
    icon-clip          the one of this repository, trained on the icon world's pictures
    MODEL[:TAG|FILE]   an architecture of open_clip with a file of weights, or with a tag's in the Hub's cache (openai)
    clip-MODEL[@TAG]   the same, as the names of metrics have it

OpenAI's weights were trained with QuickGELU; a plain architecture, which open_clip builds with GELU from 2.29 on, would
give other numbers without a word. With the tag openai MODEL therefore always means MODEL-quickgelu.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from geneval.device import choose_device
from geneval.embedded import CLIPS
from geneval.finite import refuse_not_finite
from geneval.hashes import file_sha256, safetensors_sha256, state_sha256
from geneval.weight_files import check_sizes
from geneval.weights import WeightFile, require

# The weights that are asked for by name most: known here, so that looking for them loads no open_clip.
WEIGHTS = {
    f"{model}-quickgelu:openai": WeightFile(file="open_clip_model.safetensors", repository=repository, megabytes=size)
    for model, repository, size in (
        ("ViT-L-14", "timm/vit_large_patch14_clip_224.openai", 1711),
        ("ViT-B-32", "timm/vit_base_patch32_clip_224.openai", 605),
    )
}


@dataclass(frozen=True, kw_only=True)
class ClipSource:
    """What a name stands for: a folder, or an architecture with a file of weights (of a tag, or of the user's)."""

    label: str  # in the names of metrics
    file: Path  # of weights
    folder: Path | None = None
    architecture: str = ""
    tag: str = ""

    @property
    def identity(self) -> dict[str, str]:
        """The name and the sha256 of the weights (a folder's with its settings), as detections have them."""
        if self.folder is not None:
            return {"name": self.folder.name, "weights": safetensors_sha256(self.folder)}
        name = f"{self.architecture}:{self.tag}" if self.tag else self.architecture
        return {"name": name, "weights": file_sha256(self.file)}


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Network, image transform and tokenizer, with where they come from."""

    name: str
    source: ClipSource
    network: Any
    preprocess: Any
    tokenizer: Any
    device: str

    @cached_property
    def weights(self) -> str:
        """The sha256 of the weight file; of the tensors where a tag names them, as the versions of metrics have it."""
        return state_sha256(self.network) if self.source.tag else file_sha256(self.source.file)


def load_clip(name: str | Path, *, label: str | None = None, device: str = "auto") -> Clip:
    """The CLIP that `name` stands for; `label` replaces its name in the names of metrics."""
    import open_clip
    from PIL import Image

    source = find_clip(name)
    settings: dict[str, Any] = {"pretrained": str(source.file), **_preprocessing(source)}
    identifier = source.architecture
    if source.folder is not None:
        identifier, settings = f"local-dir:{source.folder.resolve()}", {}
        check_sizes(source.folder)
    device = choose_device(device)
    try:
        network, _, preprocess = open_clip.create_model_and_transforms(
            identifier, require_pretrained=True, precision="fp32", weights_only=True, device=device, **settings
        )
        tokenizer = open_clip.get_tokenizer(identifier)
        # What their settings cannot do is told here, and not at the first picture.
        preprocess(Image.new("RGB", (8, 8))), tokenizer(["a"])
    except Exception as error:  # damaged weights and settings raise anything from KeyError to RuntimeError
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{name}: open_clip cannot load this ({type(error).__name__}: {reason})") from None
    network.eval().requires_grad_(False)
    refuse_not_finite(network, name)
    return Clip(
        name=label or source.label,
        source=source,
        network=network,
        preprocess=preprocess,
        tokenizer=tokenizer,
        device=device,
    )


def find_clip(name: str | Path) -> ClipSource:
    """What `name` stands for, found without torch; missing weights are refused."""
    text = str(name)
    folder = CLIPS.get(text, Path(name))
    if folder.is_dir() or text in CLIPS:
        label = text if text in CLIPS else folder.resolve().name
        return ClipSource(label=label, folder=folder, file=_weight_file(folder))
    model, tag = _split(text)
    if Path(tag).is_file():
        return ClipSource(label=model, architecture=model, file=Path(tag))
    return ClipSource(label=text, architecture=model, tag=tag, file=_cached(model, tag))


def is_clip_name(name: str | Path) -> bool:
    """Whether a name among those of other networks is a CLIP's: a folder of open_clip's, icon-clip, or clip-..."""
    text = str(name)
    return text in CLIPS or text.startswith("clip-") or (Path(name) / "open_clip_config.json").is_file()


def _split(text: str) -> tuple[str, str]:
    """Architecture, and tag or file."""
    is_metric_name = text.startswith("clip-")
    model, _, tag = text.removeprefix("clip-").partition("@" if is_metric_name else ":")
    tag = tag or "openai"
    return model if tag != "openai" or "quickgelu" in model else f"{model}-quickgelu", tag


def _weight_file(folder: Path) -> Path:
    if not (folder / "open_clip_config.json").is_file():
        raise FileNotFoundError(f"{folder / 'open_clip_config.json'}: missing; not an open_clip folder")
    for name in ("open_clip_model.safetensors", "model.safetensors"):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{folder} has no open_clip_model.safetensors; copy the weights beside its config")


def _cached(model: str, tag: str) -> Path:
    """The weights of an open_clip tag in the Hub's cache."""
    name = f"{model}:{tag}"
    weight = WEIGHTS.get(name) or WeightFile(file="open_clip_model.safetensors", repository=_repository(model, tag))
    # open_clip's older uploads are pickled; they are read as tensors only.
    older = WeightFile(file="open_clip_pytorch_model.bin", repository=weight.repository)
    return weight.path() or older.path() or require(name, weight, f"give {model}:FILE or an open_clip folder")


def _repository(model: str, tag: str) -> str:
    import open_clip

    if model not in open_clip.list_models():
        raise ValueError(f"{model!r} is neither a folder nor an open_clip model; GenEval's is ViT-L-14-quickgelu")
    repository = (open_clip.get_pretrained_cfg(model, tag) or {}).get("hf_hub", "").rstrip("/")
    if not repository:
        valid = ", ".join(open_clip.list_pretrained_tags_by_model(model))
        raise ValueError(f"{model} has no weights tagged {tag!r}; valid: {valid}, or give MODEL:FILE or a folder")
    return repository


def _preprocessing(source: ClipSource) -> dict[str, Any]:
    """A tag's own image settings, which open_clip does not know of a file."""
    import open_clip

    known = (open_clip.get_pretrained_cfg(source.architecture, source.tag) or {}) if source.tag else {}
    names = {"image_mean": "mean", "image_std": "std", "image_interpolation": "interpolation"}
    names["image_resize_mode"] = "resize_mode"
    return {ours: known[theirs] for ours, theirs in names.items() if known.get(theirs) is not None}
