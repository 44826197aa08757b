"""The object detector: any transformers Mask2Former, its input made and its output read as the original does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geneval.comparability import ORIGINAL_SHA256
from geneval.device import choose_device, without_tf32
from geneval.embedded import DETECTORS
from geneval.finite import refuse_not_finite
from geneval.hashes import file_sha256, safetensors_sha256
from geneval.json_files import read_object
from geneval.preprocessing import Preprocessing, normalize, pad, resize, resize_method
from geneval.prompts import OBJECTS
from geneval.weight_files import check_sizes

if TYPE_CHECKING:
    import torch
    from PIL import Image

_NUM_DETECTIONS = 100  # an image, of queries x classes
_CHUNK_ELEMENTS = 1 << 26  # mask logits at picture size that are held at once


@dataclass(frozen=True)
class Detections:
    """One image's full list: class -> rows [x0, y0, x1, y1, score] and class -> the query of each row."""

    size: tuple[int, int]  # width, height
    rows: dict[str, list[list[float]]]
    queries: dict[str, list[int]]
    masks: "torch.Tensor | None"  # (queries, height, width) bool; None of a detector of boxes

    def mask(self, name: str, index: int) -> np.ndarray | None:
        """The mask (height, width) of a row."""
        return None if self.masks is None else self.masks[self.queries[name][index]].cpu().numpy()


class Detector:
    """A Mask2Former with its preprocessing and its class names."""

    def __init__(self, model: Any, settings: Preprocessing, names: Sequence[str], identity: dict[str, Any]) -> None:
        self.model, self.settings, self.names, self.identity = model, settings, tuple(names), identity
        self.resize = identity["preprocessing"]["resize"]

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str = "auto") -> "Detector":
        """The detector of a transformers folder; missing or foreign tensors are refused."""
        from transformers import Mask2FormerForUniversalSegmentation

        folder = detector_folder(folder)
        identity = detector_identity(folder)
        check_sizes(folder)
        try:
            loaded: Any = Mask2FormerForUniversalSegmentation.from_pretrained(
                folder, output_loading_info=True, use_safetensors=True
            )
        except Exception as error:  # damaged weights and settings raise anything from KeyError to SafetensorError
            reason = str(error).partition("\n")[0]
            raise ValueError(f"{folder}: not a Mask2Former folder ({type(error).__name__}: {reason})") from None
        model, info = loaded
        check_loaded(folder, info)
        refuse_not_finite(model, folder)
        names = class_names(model.config.id2label, folder)
        model = model.float().eval().to(choose_device(device))
        return cls(model, Preprocessing.from_folder(folder), names, identity)

    def detect(self, images: "Sequence[Image.Image]") -> list[Detections]:
        """The detections of RGB pictures of any sizes; those of one size go through the network together."""
        by_size: dict[tuple[int, int], list[int]] = {}
        for i, image in enumerate(images):
            by_size.setdefault(image.size, []).append(i)
        found: dict[int, Detections] = {}
        for indices in by_size.values():
            found.update(zip(indices, self._detect_same_size([images[i] for i in indices])))
        return [found[i] for i in range(len(images))]

    def network_input(self, images: "Sequence[Image.Image]") -> "torch.Tensor":
        """(B, 3, H, W) for pictures of one size."""
        import torch

        width, height = self.settings.resized(*images[0].size)
        pixels = np.stack([resize(np.asarray(image), width, height, self.resize) for image in images])
        return normalize(torch.from_numpy(pad(pixels, self.settings)).to(self.model.device), self.settings)

    def _detect_same_size(self, images: "Sequence[Image.Image]") -> list[Detections]:
        import torch

        size, inputs = images[0].size, self.network_input(images)
        with torch.inference_mode(), without_tf32():
            output = self.model(pixel_values=inputs, output_auxiliary_logits=False)
            found = []
            step = max(
                1, _CHUNK_ELEMENTS // (output.masks_queries_logits.shape[1] * inputs.shape[-1] * inputs.shape[-2])
            )
            for start in range(0, len(images), step):
                rows = slice(start, start + step)
                masks = masks_at_picture_size(
                    output.masks_queries_logits[rows], inputs.shape[-2:], self.settings.resized(*size)[::-1], size[::-1]
                )
                found += read_output(output.class_queries_logits[rows], masks, self.names)
        return found


def check_loaded(folder: Path, info: Mapping[str, Any]) -> None:
    """Refuse missing, foreign and misshapen tensors of what transformers loaded."""
    missing = set(info["missing_keys"]) - {"criterion.empty_weight"}
    # Index tables and counters that older files carry are computed, not learned.
    computed = ("relative_position_index", "num_batches_tracked")
    foreign = [name for name in info["unexpected_keys"] if not name.endswith(computed)]
    if missing or foreign or info["mismatched_keys"]:
        raise ValueError(
            f"{folder}: not the weights of this detector: {len(missing)} missing, "
            f"{len(foreign)} foreign, {len(info['mismatched_keys'])} of another shape"
        )


def masks_at_picture_size(
    logits: "torch.Tensor", padded: Sequence[int], resized: Sequence[int], original: Sequence[int]
) -> "torch.Tensor":
    """Mask logits (B, Q, h, w) -> (B, Q, H, W): up to the padded input, padding cut off, to the picture."""
    from torch.nn.functional import interpolate

    for size, crop in ((padded, resized), (original, original)):
        if tuple(logits.shape[-2:]) != tuple(size):
            logits = interpolate(logits, tuple(size), mode="bilinear", align_corners=False)
        logits = logits[..., : crop[0], : crop[1]]
    return logits


def read_output(class_logits: "torch.Tensor", mask_logits: "torch.Tensor", names: Sequence[str]) -> list[Detections]:
    """The best 100 of queries x classes (B, Q, C + 1) with their masks (B, Q, H, W): boxes around the masks' pixels.

    score = class probability x mean mask probability over the mask's pixels; nothing is cut or suppressed.
    """
    import torch

    num_classes = class_logits.shape[-1] - 1
    masks = mask_logits > 0
    areas = masks.flatten(2).sum(-1).float()
    mask_scores = (mask_logits.sigmoid() * masks).flatten(2).sum(-1) / (areas + 1e-6)
    probabilities = class_logits.softmax(-1)[..., :-1].flatten(1)
    best, positions = probabilities.topk(min(_NUM_DETECTIONS, probabilities.shape[1]), sorted=False)
    queries, labels = positions // num_classes, positions % num_classes
    scores = best * mask_scores.gather(1, queries)
    boxes = _boxes(masks).gather(1, queries[..., None].expand(-1, -1, 4))
    rows = torch.cat([boxes.float(), scores[..., None].float()], -1).tolist()
    height, width = mask_logits.shape[-2:]
    return [
        _by_class((width, height), rows[b], labels[b].tolist(), queries[b].tolist(), masks[b], names)
        for b in range(len(rows))
    ]


def _boxes(masks: "torch.Tensor") -> "torch.Tensor":
    """(B, Q, H, W) bool -> (B, Q, 4): first set column and row, last ones plus one; zeros for an empty mask."""
    import torch

    corners = []
    for dim in (-2, -1):
        is_set = masks.any(dim)
        is_empty = ~is_set.any(-1)
        first = is_set.byte().argmax(-1)
        last = is_set.shape[-1] - is_set.flip(-1).byte().argmax(-1)
        corners.append((first.masked_fill(is_empty, 0), last.masked_fill(is_empty, 0)))
    (x0, x1), (y0, y1) = corners
    return torch.stack([x0, y0, x1, y1], -1)


def _by_class(
    size: tuple[int, int],
    rows: list[list[float]],
    labels: list[int],
    queries: list[int],
    masks: "torch.Tensor",
    names: Sequence[str],
) -> Detections:
    by_name: dict[str, list[list[float]]] = {}
    query_of: dict[str, list[int]] = {}
    for i in sorted(range(len(labels)), key=labels.__getitem__):
        by_name.setdefault(names[labels[i]], []).append(rows[i])
        query_of.setdefault(names[labels[i]], []).append(queries[i])
    return Detections(size, by_name, query_of, masks)


# --- the folder -----------------------------------------------------------------------------------------------------


def detector_folder(name: str | Path) -> Path:
    """The local folder of a detector: itself, an embedded one's by name, or of a Hub name that is already downloaded;
    nothing is downloaded."""
    folder = Path(name)
    if folder.is_dir():
        return folder
    if str(name) in DETECTORS:
        return DETECTORS[str(name)]
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(name), local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        raise FileNotFoundError(
            f"{name}: no such detector folder. GenEval's own checkpoint: download mask2former_swin-s-p4-w7-224_lsj_8x2_"
            "50e_coco_20220504_001756-743b7d99.pth (about 275 MB) and run `python -m geneval convert FILE --out DIR`"
        ) from None


def detector_identity(folder: Path) -> dict[str, Any]:
    """What decides the detections: weights, preprocessing, versions; read without torch."""
    settings = Preprocessing.from_folder(folder)
    weights = safetensors_sha256(folder)
    converted_from = _converted_from(folder, weights)
    return {
        "weights": weights,
        "converted_from": converted_from,
        "is_original": converted_from is not None and converted_from.startswith(ORIGINAL_SHA256),
        "preprocessing": {**settings.record(), "resize": resize_method()},
        "versions": {name: version(name) for name in ("torch", "transformers")},
    }


def _converted_from(folder: Path, weights: str) -> str | None:
    """The sha256 of the checkpoint that `convert` read, or None for a folder of another origin; ValueError where the
    folder is not as `convert` wrote it."""
    path = folder / "conversion.json"
    if not path.is_file():
        return None
    try:
        record = read_object(path)
        if not isinstance(record["sha256"], str):
            raise TypeError("'sha256' is no string")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not written by `convert` ({type(error).__name__}: {error})") from None
    settings = file_sha256(folder / "preprocessor_config.json")
    # Folders of before do not say what was written.
    if record.get("weights", weights) != weights or record.get("preprocessing", settings) != settings:
        raise ValueError(f"{path}: weights, config.json or preprocessor_config.json changed since; convert again")
    return record["sha256"]


def class_names(id2label: dict[int, str], folder: Path) -> list[str]:
    """GenEval's class names of a detector: COCO's 80 by index (GenEval renames three), any other list as it is."""
    names = [name for i in range(len(id2label)) if isinstance(name := id2label.get(i), str)]
    if not names or len(names) < len(id2label):
        raise ValueError(f"{folder / 'config.json'}: id2label must name the classes, from 0 on")
    if set(names) <= set(OBJECTS):
        return names
    is_unnamed = names[0].startswith("LABEL_")
    if len(names) == len(OBJECTS) and (is_unnamed or (names[0], names[-1]) == (OBJECTS[0], OBJECTS[-1])):
        return list(OBJECTS)
    if is_unnamed or len(set(names)) != len(names):
        raise ValueError(f"{folder / 'config.json'}: id2label must name the {len(names)} classes, each once")
    return names
