"""Image quality: FID, KID, CMMD, precision and recall, density and coverage, Vendi score, CLIP score."""

from importlib import import_module
from typing import Any

_HOMES = {
    "Features": "features",
    "Statistics": "moments",
    "clip_scores": "clip_score",
    "cmmd": "kernels",
    "compare_detail": "spectrum",
    "density_coverage": "manifold",
    "extract": "features",
    "fid": "frechet",
    "fid_infinity": "frechet",
    "kid": "kernels",
    "load_features": "features",
    "load_statistics": "moments",
    "measure": "measure",
    "precision_recall": "manifold",
    "save_statistics": "moments",
    "vendi": "manifold",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
