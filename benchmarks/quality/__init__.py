"""Image quality: FID, KID, CMMD, precision and recall, density and coverage, Vendi score, CLIP score, fine detail.

Names are imported when they are first used.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "clip_score": ("clip_scores",),
    "config": ("ExtractionConfig", "MeasureConfig"),
    "extraction": ("extract", "extract_statistics"),
    "features": ("Features", "load_features"),
    "frechet": ("fid", "fid_infinity"),
    "kernels": ("cmmd", "kid"),
    "manifold": ("density_coverage", "precision_recall", "prompt_vendi", "vendi"),
    "measurement": ("measure",),
    "metrics": ("CLIPScore", "FrechetDistance", "KernelDistance", "PrecisionRecall", "Vendi"),
    "moments": ("Statistics", "load_statistics", "save_statistics"),
    "spectrum": ("compare_detail",),
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names}
__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'benchmarks.quality' has no attribute {name!r}")
    return getattr(import_module(f"benchmarks.quality.{_PLACES[name]}"), name)
