"""The color classifier: CLIP zero-shot on the object's crop, background grayed, as the original asks it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from geneval.clip import Clip, load_clip
from geneval.options import DEFAULTS, Options
from geneval.prompts import COLORS
from geneval.rules import Rows, keep
from geneval.ties import confidence_order

if TYPE_CHECKING:
    import torch

_TEMPLATES = ("a photo of a {color} {name}", "a photo of a {color}-colored {name}", "a photo of a {color} object")


class ColorClassifier:
    """An open_clip model that says which of GenEval's ten colors an object has."""

    def __init__(self, clip: Clip) -> None:
        self.model, self.transform, self.tokenizer = clip.network, clip.preprocess, clip.tokenizer
        self.device = next(self.model.parameters()).device
        self._text: dict[str, torch.Tensor] = {}

    @classmethod
    def from_pretrained(cls, name: str | Path, device: str = "auto") -> "ColorClassifier":
        """Of a CLIP as `geneval.clip` names it, with weights on this machine."""
        return cls(load_clip(name, device=device))

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
