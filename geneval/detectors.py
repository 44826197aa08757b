"""The detector that a folder holds: GenEval's Mask2Former, one as it comes from the Hub, or one of boxes alone."""

from pathlib import Path
from typing import Any

from geneval.box_detector import TYPES, BoxDetector, box_identity, model_type
from geneval.detector import Detector, detector_folder, detector_identity


def load_detector(name: str | Path, device: str = "auto") -> Detector | BoxDetector:
    """The detector of a folder, or of a Hub name that is already downloaded, by the `model_type` of its config."""
    folder = detector_folder(name)
    return BoxDetector.from_pretrained(folder, device) if _is_boxes(folder) else Detector.from_pretrained(name, device)


def identity_of(name: str | Path) -> dict[str, Any]:
    """What decides a folder's detections, read without torch."""
    folder = detector_folder(name)
    return box_identity(folder) if _is_boxes(folder) else detector_identity(folder)


def _is_boxes(folder: Path) -> bool:
    return model_type(folder) in TYPES
