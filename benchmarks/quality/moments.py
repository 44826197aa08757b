"""Mean and covariance of features in float64: streamed, saved, and read from other tools' files."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lightgen.disk.atomic import atomic_file


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Mean (D,) and unbiased covariance (D, D) of `num_samples` features, with what they are features of."""

    mean: np.ndarray
    covariance: np.ndarray
    num_samples: int | None
    meta: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, values: np.ndarray, meta: dict[str, Any] | None = None) -> "Statistics":
        """Statistics of features (N, D)."""
        moments = Moments()
        moments.update(values)
        return moments.statistics(meta)


class Moments:
    """Running mean and covariance; memory independent of the number of samples.

    Sums are taken around the first batch's mean: without that shift, features far from zero lose digits.
    """

    def __init__(self) -> None:
        self.num_samples = 0

    def update(self, values: np.ndarray) -> None:
        values = np.asarray(values, dtype=np.float64)
        if values.ndim != 2:
            raise ValueError(f"features must be (samples, dimensions), not {values.shape}")
        if not len(values):
            return
        if self.num_samples == 0:
            self._shift = values.mean(axis=0)
            self._sum = np.zeros_like(self._shift)
            self._products = np.zeros((values.shape[1], values.shape[1]))
        centered = values - self._shift
        self.num_samples += len(values)
        self._sum += centered.sum(axis=0)
        self._products += centered.T @ centered

    def statistics(self, meta: dict[str, Any] | None = None) -> Statistics:
        if self.num_samples < 2:
            raise ValueError(f"a covariance needs at least 2 images; there are {self.num_samples}")
        mean = self._sum / self.num_samples
        covariance = (self._products - self.num_samples * np.outer(mean, mean)) / (self.num_samples - 1)
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise ValueError("the features hold NaN or infinite values; look for a broken extractor or image")
        return Statistics(
            mean=self._shift + mean, covariance=covariance, num_samples=self.num_samples, meta=dict(meta or {})
        )


def save_statistics(statistics: Statistics, path: Path) -> Path:
    """Write a safetensors file with `mean`, `covariance` and the description as metadata."""
    header = {"kind": "statistics", "num_samples": statistics.num_samples, **statistics.meta}
    tensors = {"mean": np.ascontiguousarray(statistics.mean), "covariance": np.ascontiguousarray(statistics.covariance)}
    return write_safetensors(path, tensors, header)


def load_statistics(path: Path) -> Statistics:
    """Statistics from our safetensors file, or from a clean-fid / torch-fidelity style .npz with `mu` and `sigma`."""
    path = Path(path)
    if path.suffix == ".npz":
        return _load_npz(path)
    tensors, meta = read_safetensors(path)
    if meta.pop("kind", None) != "statistics":
        raise ValueError(f"{path} does not hold feature statistics; it was written by something else")
    num_samples = meta.pop("num_samples")
    return Statistics(mean=tensors["mean"], covariance=tensors["covariance"], num_samples=num_samples, meta=meta)


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and the JSON description of one of this package's safetensors files."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist; write it with `python -m benchmarks quality features`")
    try:
        with safe_open(str(path), framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            meta = json.loads((file.metadata() or {}).get("meta", "{}"))
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged or not a safetensors file ({error}); write it again") from error
    return tensors, meta


def write_safetensors(path: Path, tensors: dict[str, np.ndarray], header: dict[str, Any] | None = None) -> Path:
    """Write arrays and a description that `read_safetensors` reads."""
    from safetensors.numpy import save

    with atomic_file(path) as file:
        file.write(save(tensors, metadata=None if header is None else {"meta": json.dumps(header)}))
    return Path(path)


def _load_npz(path: Path) -> Statistics:
    import zipfile

    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            mean, covariance = np.float64(arrays["mu"]), np.float64(arrays["sigma"])
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not an npz with arrays mu and sigma ({error})") from error
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise ValueError(f"{path}: mu {mean.shape} and sigma {covariance.shape} do not belong together")
    # These files say neither how many images nor which network they come from.
    return Statistics(mean=mean, covariance=covariance, num_samples=None, meta={"source": path.name})
