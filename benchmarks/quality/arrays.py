"""Feature arrays (N, D) in float64, checked once for all metrics."""

from typing import Any

import numpy as np


def finite(values: Any) -> np.ndarray:
    """The values in float64; NaN and infinities are refused."""
    values = np.asarray(values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("the features hold NaN or infinite values; look for a broken extractor or image")
    return values


def require_same_dimensions(a: np.ndarray, b: np.ndarray) -> None:
    """Refuse features whose last axes differ."""
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"features of {a.shape[-1]} and {b.shape[-1]} dimensions come from different extractors")


def unit_length(values: Any) -> np.ndarray:
    """Each row scaled to length 1."""
    values = np.asarray(values, dtype=np.float64)
    return values / np.linalg.norm(values, axis=1, keepdims=True).clip(1e-12)
