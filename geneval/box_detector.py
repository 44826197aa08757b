"""Detectors of boxes without masks, as transformers has them: DETR, RT-DETR and their kin. Never published GenEval.

Such a detector sees other objects and gives colors of whole boxes, their background in it: every score of it is marked.
"""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geneval.detector import Detections, check_loaded
from geneval.device import choose_device, without_tf32
from geneval.finite import refuse_not_finite
from geneval.hashes import file_sha256, safetensors_sha256
from geneval.json_files import read_object
from geneval.preprocessing import check_picture_sizes
from geneval.weight_files import check_sizes

if TYPE_CHECKING:
    from PIL import Image

# model_type of config.json: transformers' own classes only; a folder never says what is imported.
TYPES = ("detr", "conditional_detr", "deformable_detr", "rt_detr", "rt_detr_v2", "rf_detr", "d_fine", "yolos")

_RENAMED = {
    **{
        "mouse": "computer mouse",
        "remote": "tv remote",
        "keyboard": "computer keyboard",
    },  # as in COCO
    **{
        "motorbike": "motorcycle",
        "aeroplane": "airplane",
        "sofa": "couch",
        "tvmonitor": "tv",
    },  # as in VOC
    **{"pottedplant": "potted plant", "diningtable": "dining table", "hair dryer": "hair drier"},
}


class BoxDetector:
    """A detector with the image processor and the post-processing of its own library; masks are None."""

    def __init__(self, model: Any, processor: Any, names: Sequence[str], identity: dict[str, Any]) -> None:
        self.model, self.processor, self.identity = model, processor, identity
        self.label_names = tuple(names)  # by label, "" for one that is no class
        self.names = tuple(dict.fromkeys(name for name in names if name))

    @classmethod
    def from_pretrained(cls, folder: Path, device: str = "auto") -> "BoxDetector":
        """The detector of a transformers folder with its preprocessor_config.json."""
        from PIL import Image
        from transformers import AutoImageProcessor, AutoModelForObjectDetection

        identity = box_identity(folder)
        check_sizes(folder)
        check_picture_sizes(folder / "preprocessor_config.json")
        try:
            model, info = AutoModelForObjectDetection.from_pretrained(
                folder, output_loading_info=True, use_safetensors=True, trust_remote_code=False
            )
            processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)
            # What its settings cannot do is told here, and not at the first picture.
            processor(images=[Image.new("RGB", (8, 8))], return_tensors="pt")
        except Exception as error:  # damaged weights and settings raise anything from KeyError to SafetensorError
            reason = str(error).partition("\n")[0]
            raise ValueError(f"{folder}: not a folder of a detector ({type(error).__name__}: {reason})") from None
        check_loaded(folder, info)
        refuse_not_finite(model, folder)
        labels = model.config.id2label
        names = [geneval_name(labels[i]) for i in range(len(labels))]
        return cls(model.float().eval().to(choose_device(device)), processor, names, identity)

    def detect(self, images: "Sequence[Image.Image]") -> list[Detections]:
        """The detections of RGB pictures of any sizes; those of one size go through the network together."""
        by_size: dict[tuple[int, int], list[int]] = {}
        for i, image in enumerate(images):
            by_size.setdefault(image.size, []).append(i)
        found: dict[int, Detections] = {}
        for indices in by_size.values():
            found.update(zip(indices, self._detect_same_size([images[i] for i in indices])))
        return [found[i] for i in range(len(images))]

    def _detect_same_size(self, images: "Sequence[Image.Image]") -> list[Detections]:
        import torch

        width, height = images[0].size
        inputs = self.processor(images=list(images), return_tensors="pt").to(self.model.device)
        with torch.inference_mode(), without_tf32():
            output = self.model(**inputs)
        sizes = [(height, width)] * len(images)
        found = self.processor.post_process_object_detection(output, threshold=0.0, target_sizes=sizes)
        return [self._by_class((width, height), one) for one in found]

    def _by_class(self, size: tuple[int, int], found: dict[str, Any]) -> Detections:
        rows: dict[str, list[list[float]]] = {}
        labels, scores, boxes = (found[name].tolist() for name in ("labels", "scores", "boxes"))
        for i in sorted(range(len(labels)), key=labels.__getitem__):
            if name := self.label_names[labels[i]]:
                inside = [min(max(float(v), 0.0), float(size[axis % 2])) for axis, v in enumerate(boxes[i])]
                rows.setdefault(name, []).append([*inside, scores[i]])
        return Detections(size, rows, {}, None)


def box_identity(folder: Path) -> dict[str, Any]:
    """What decides the detections, read without torch."""
    settings = folder / "preprocessor_config.json"
    if not settings.is_file():
        raise FileNotFoundError(f"{settings}: missing; the detector's image sizes and constants stand there")
    return {
        "weights": safetensors_sha256(folder),
        "converted_from": None,
        "is_original": False,
        "preprocessing": {"resize": "transformers", "settings": file_sha256(settings)},
        "versions": {name: version(name) for name in ("torch", "transformers")},
    }


def geneval_name(label: str) -> str:
    """GenEval's name of a label; "" for the gaps of COCO's numbering."""
    name = _RENAMED.get(label, label)
    return "" if name in ("N/A", "background", "") else name


def model_type(folder: Path) -> str:
    """The `model_type` of a folder's config.json, "" where it has none."""
    try:
        found = read_object(folder / "config.json").get("model_type")
    except (OSError, ValueError):
        return ""
    return found if isinstance(found, str) else ""
