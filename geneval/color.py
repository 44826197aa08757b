"""The color classifier: CLIP zero-shot on the object's crop, background grayed, as the original asks it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from geneval.options import DEFAULTS, Options
from geneval.prompts import COLORS
from geneval.rules import Rows, keep
from geneval.ties import confidence_order
from geneval.weights import file_sha256, safetensors_sha256

if TYPE_CHECKING:
    import torch

_TEMPLATES = ("a photo of a {color} {name}", "a photo of a {color}-colored {name}", "a photo of a {color} object")
# The Hub's repositories of the weights that GenEval needs: known here, so that looking for them loads no open_clip.
_REPOSITORIES = {"ViT-L-14-quickgelu:openai": "timm/vit_large_patch14_clip_224.openai"}
_WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


class ColorClassifier:
    """An open_clip model that says which of GenEval's ten colors an object has."""

    def __init__(self, model: Any, transform: Any, tokenizer: Any, identity: dict[str, str]) -> None:
        self.model, self.transform, self.tokenizer, self.identity = model, transform, tokenizer, identity
        self.device = next(model.parameters()).device
        self._text: dict[str, torch.Tensor] = {}

    @classmethod
    def from_pretrained(cls, name: str | Path, device: str | None = None) -> "ColorClassifier":
        """From an open_clip folder, or `MODEL[:TAG or weights file]` (TAG "openai") with weights on this machine."""
        import open_clip

        from geneval.detector import default_device

        identity = color_identity(name)
        model_name, pretrained = _source(name)
        try:
            model, _, transform = open_clip.create_model_and_transforms(
                model_name, pretrained=pretrained, require_pretrained=True, precision="fp32", weights_only=True
            )
            tokenizer = open_clip.get_tokenizer(model_name)
        except Exception as error:  # damaged weights and settings raise anything from KeyError to RuntimeError
            reason = str(error).partition("\n")[0]
            raise ValueError(f"{name}: open_clip cannot load this ({type(error).__name__}: {reason})") from None
        return cls(model.eval().to(device or default_device()), transform, tokenizer, identity)

    def classify(self, crops: Sequence[Image.Image], names: Sequence[str]) -> list[str]:
        """The color of each crop, an object of class `names[i]`."""
        import torch

        if not crops:
            return []
        pixels = torch.stack([self.transform(crop) for crop in crops]).to(self.device)
        with torch.inference_mode(), self._autocast():
            features = torch.nn.functional.normalize(self.model.encode_image(pixels), dim=-1)
            answers = [""] * len(crops)
            for name in dict.fromkeys(names):
                rows = [i for i, n in enumerate(names) if n == name]
                logits = (100.0 * features[rows]) @ self._text_weights(name)
                for i, best in zip(rows, logits.float().argmax(1).tolist()):
                    answers[i] = COLORS[best]
        return answers

    def _text_weights(self, name: str) -> "torch.Tensor":
        """(features, colors): each color's templates, normalized, averaged, normalized again."""
        import torch

        if name not in self._text:
            texts = [template.format(color=color, name=name) for color in COLORS for template in _TEMPLATES]
            features = self.model.encode_text(self.tokenizer(texts).to(self.device))
            means = torch.nn.functional.normalize(features, dim=-1).unflatten(0, (len(COLORS), -1)).mean(1)
            self._text[name] = (means / means.norm(dim=-1, keepdim=True)).T
        return self._text[name]

    def _autocast(self) -> Any:
        """Half precision on an accelerator, logits included, as in the original; float32 on the CPU."""
        import torch

        kind = self.device.type
        return torch.autocast(kind, dtype=torch.float16, enabled=kind != "cpu")


def object_crop(
    image: Image.Image,
    mask: np.ndarray | None,
    box: Sequence[float],
    options: Options = DEFAULTS,
) -> Image.Image:
    """The picture with everything outside the mask painted `bgcolor`, cut to the box."""
    if options.bgcolor != "original" and mask is not None:
        background = Image.new("RGB", image.size, options.bgcolor)
        image = Image.composite(image, background, Image.fromarray(mask.astype(np.uint8) * 255))
    if options.crop == "1":
        x0, y0, x1, y1 = box[:4]
        image = image.crop((x0, y0, x1, y1))  # type: ignore[arg-type]
    return image


def color_candidates(
    metadata: Mapping[str, Any], detections: Mapping[str, Rows], options: Options, floor: float
) -> list[tuple[str, int]]:
    """The objects whose color a verdict may ask for: as `options` say, and at any higher threshold than `floor`."""
    wanted: dict[tuple[str, int], None] = {}
    clauses = [clause for clause in metadata.get("include", ()) if "color" in clause]
    kept = keep(detections, options, metadata["tag"]) if clauses else {}
    for clause in clauses:
        name, count = clause["class"], clause["count"]
        scores = [row[4] for row in detections.get(name, ())]
        above = [i for i in confidence_order(scores) if scores[i] > floor]
        for order in (kept.get(name, []), above):
            if len(order) >= count:
                wanted.update(dict.fromkeys((name, i) for i in order[:count]))
    return list(wanted)


# --- the weights ----------------------------------------------------------------------------------------------------


def color_identity(name: str | Path) -> dict[str, str]:
    """The classifier's name and the sha256 of its weights, read without torch; missing weights are refused."""
    folder = Path(name)
    if folder.is_dir():
        if not (folder / "open_clip_config.json").is_file():
            raise FileNotFoundError(f"{folder / 'open_clip_config.json'}: missing; not an open_clip folder")
        return {"name": folder.name, "weights": safetensors_sha256(folder)}
    model, tag = _split(str(name))
    if Path(tag).is_file():
        return {"name": model, "weights": file_sha256(Path(tag))}
    return {"name": f"{model}:{tag}", "weights": file_sha256(_downloaded(model, tag))}


def _source(name: str | Path) -> tuple[str, str | None]:
    """Model name and pretrained argument for open_clip."""
    if Path(name).is_dir():
        return f"local-dir:{name}", None
    model, tag = _split(str(name))
    return model, str(tag if Path(tag).is_file() else _downloaded(model, tag))


def _split(name: str) -> tuple[str, str]:
    model, _, tag = name.partition(":")
    tag = tag or "openai"
    if tag == "openai" and "quickgelu" not in model:
        raise ValueError(
            f"{model}: open_clip 2.29 and later builds this with plain GELU, but OpenAI's weights need QuickGELU and "
            f"would give other colors without a word; use {model}-quickgelu"
        )
    return model, tag


def _downloaded(model: str, tag: str) -> Path:
    """The weights of an open_clip tag in the Hub's cache; nothing is downloaded."""
    from huggingface_hub import try_to_load_from_cache

    repository = _REPOSITORIES.get(f"{model}:{tag}") or _repository(model, tag)
    for file in _WEIGHT_FILES:
        path = try_to_load_from_cache(repository, file)
        if isinstance(path, str):
            return Path(path)
    raise FileNotFoundError(
        f"{model}:{tag}: weights not on this machine. Download open_clip_model.safetensors of {repository} on the Hub "
        f"(ViT-L-14: about 1.7 GB) and give --clip {model}:FILE, or `hf download {repository}` into its cache"
    )


def _repository(model: str, tag: str) -> str:
    import open_clip

    if model not in open_clip.list_models():
        raise ValueError(f"{model!r} is neither a folder nor an open_clip model; GenEval's is ViT-L-14-quickgelu")
    repository = (open_clip.get_pretrained_cfg(model, tag) or {}).get("hf_hub", "").rstrip("/")
    if not repository:
        raise ValueError(f"open_clip knows no weights {tag!r} for {model}; give MODEL:FILE or a folder")
    return repository
