"""Whether a score may stand beside published GenEval: the original's own weights, resize and color classifier."""

from collections.abc import Mapping
from typing import Any

NOT_COMPARABLE = "not comparable with published GenEval"
# The original checkpoint's file names end in the first 8 digits of its sha256: mmdet 2's and mmdet 3's.
ORIGINAL_SHA256 = ("743b7d99", "c9d0c4f2")


def is_original_clip(name: str) -> bool:
    """Whether colors come from the original's classifier, OpenAI's ViT-L/14."""
    return name.startswith("ViT-L-14-quickgelu")


def is_comparable(identity: Mapping[str, Any]) -> bool:
    """Whether a score from detections of this identity may stand beside published ones."""
    return (
        bool(identity.get("is_original"))
        and identity.get("preprocessing", {}).get("resize") == "cv2"
        and is_original_clip(str((identity.get("clip") or {}).get("name", "")))
    )


def comparability(detector: Mapping[str, Any]) -> dict[str, Any]:
    """What every output says of its detections."""
    return {"comparable": True} if detector.get("comparable") else {"comparable": False, "note": NOT_COMPARABLE}
