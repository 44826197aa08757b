"""Features of images and the file that keeps them, with what they are features of."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.moments import LARGEST, Statistics, load_statistics, read_safetensors, write_safetensors
from lightgen.disk.json_files import parse_json


@dataclass(frozen=True, kw_only=True)
class Features:
    """`values` (N, D) float32 of the images `ids`; `meta` has extractor, images' hash, containers, skipped count."""

    values: np.ndarray
    ids: list[str]
    meta: dict[str, Any]


def save_features(features: Features, path: Path) -> Path:
    tensors = {"values": np.ascontiguousarray(features.values, dtype=np.float32), "ids": pack_lines(features.ids)}
    header = {"kind": "features", **features.meta}
    return write_safetensors(path, tensors, header)


def load_features(path: Path) -> Features:
    tensors, meta = read_safetensors(path)
    if meta.pop("kind", None) != "features":
        raise ValueError(f"{path} does not hold features; write it with `python -m benchmarks quality features`")
    values = tensors.get("values")
    ids = unpack_lines(tensors["ids"], path) if "ids" in tensors else None
    if values is None or ids is None or values.ndim != 2 or len(ids) != len(values) or values.dtype.kind != "f":
        raise ValueError(f"{path}: expected float features (N, D) with N ids; write it again")
    if values.size and not np.abs(values).max() <= LARGEST:
        raise ValueError(f"{path}: holds NaN, an infinity or a number beyond {LARGEST:g}; write it again")
    missing = [name for name in ("extractor", "images", "containers", "skipped") if name not in meta]
    if missing or not isinstance(meta["extractor"], dict):
        raise ValueError(f"{path}: its description lacks {', '.join(missing) or 'an extractor'}; write it again")
    return Features(values=values, ids=ids, meta=meta)


def load_moments(path: Path) -> Statistics:
    """Mean and covariance from a file of features or of statistics (.safetensors, .npz)."""
    if Path(path).suffix == ".npz" or read_safetensors(path)[1].get("kind") == "statistics":
        return load_statistics(path)
    features = load_features(path)
    return Statistics.of(features.values, features.meta)


def require_same_extractor(a: dict[str, Any], b: dict[str, Any]) -> None:
    """Refuse two descriptions whose numbers do not compare: another network, weights, or resize."""
    first, second = a.get("extractor"), b.get("extractor")
    if first is None or second is None:
        return  # statistics from other tools' files do not say what they are
    # The name is only a label: what makes the numbers is the weights and what is done to the image before them.
    different = [field for field in ("weights", "resize", "implementation") if first.get(field) != second.get(field)]
    if different:
        pairs = ", ".join(f"{field} {first.get(field)!r} and {second.get(field)!r}" for field in different)
        raise ValueError(f"features of different extractors do not compare: {pairs}")


def pack_lines(lines: list[str]) -> np.ndarray:
    """Strings as bytes of JSON: a safetensors header is too small for many ids."""
    return np.frombuffer(json.dumps(lines).encode(), dtype=np.uint8).copy()


def unpack_lines(packed: np.ndarray, where: object = "packed lines") -> list[str]:
    lines = parse_json(packed.tobytes(), str(where), "write it again")
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise ValueError(f"{where}: expected a list of texts; write it again")
    return lines
