"""Mean and covariance of features in float64: streamed, saved, and read from other tools' files."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.arrays import finite
from lightgen.disk.atomic import atomic_file
from lightgen.disk.json_files import parse_json, typed
from lightgen.disk.regular import LARGEST as REGULAR
from lightgen.disk.regular import regular_file
from lightgen.disk.weight_files import in_order

LARGEST = 1e9  # of a feature's mean; a covariance is bounded by its square


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
        mean, covariance = finite(self._shift + mean), finite(covariance)
        return Statistics(mean=mean, covariance=covariance, num_samples=self.num_samples, meta=dict(meta or {}))


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
    if not {"mean", "covariance"} <= tensors.keys() or "num_samples" not in meta:
        raise ValueError(f"{path} lacks mean, covariance or num_samples; write it again")
    num_samples = meta.pop("num_samples")
    return check_statistics(tensors["mean"], tensors["covariance"], num_samples, path, meta)


def check_statistics(
    mean: np.ndarray, covariance: np.ndarray, num_samples: Any, where: object, meta: dict[str, Any]
) -> Statistics:
    """The statistics, if they are some that real features can have; ValueError names `where` they came from."""
    if mean.ndim != 1 or not len(mean) or covariance.shape != (len(mean), len(mean)):
        raise ValueError(f"{where}: a mean {mean.shape} and a covariance {covariance.shape} do not belong together")
    if mean.dtype.kind != "f" or covariance.dtype.kind != "f":
        raise ValueError(f"{where}: mean and covariance must be real floats, not {mean.dtype} and {covariance.dtype}")
    if num_samples is not None and (type(num_samples) is not int or num_samples < 2):
        raise ValueError(f"{where}: {num_samples!r} samples; statistics need at least 2")
    mean, covariance = mean.astype(np.float64), covariance.astype(np.float64)
    if not (np.abs(mean).max() <= LARGEST and np.abs(covariance).max() <= LARGEST**2):
        raise ValueError(f"{where}: holds NaN, an infinity or a number beyond {LARGEST:g}")
    if not np.allclose(covariance, covariance.T, rtol=1e-6, atol=1e-6 * np.abs(covariance).max()):
        raise ValueError(f"{where}: the covariance is not symmetric")
    try:
        # A singular covariance is one, up to rounding; a negative one is none.
        np.linalg.cholesky(covariance + np.eye(len(mean)) * (1e-6 * np.abs(covariance).max() + 1e-300))
    except np.linalg.LinAlgError:
        raise ValueError(f"{where}: the covariance has negative variances") from None
    return Statistics(mean=mean, covariance=covariance, num_samples=num_samples, meta=meta)


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and the JSON description of one of this package's safetensors files, if they are those that were written.

    Files of older versions, which say no hash, are read as they are.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist; write it with `python -m benchmarks quality features`")
    try:
        with safe_open(str(regular_file(path, REGULAR)), framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            said = file.metadata() or {}
    except (SafetensorError, UnicodeError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is damaged or not a safetensors file ({error}); write it again") from error
    meta = parse_json(said.get("meta", "{}"), f"{path}: its description", "write it again")
    if "sha256" in said and said["sha256"] != _sha256(tensors, said.get("meta")):
        raise ValueError(f"{path} was changed since it was written (its SHA-256 differs); write it again")
    return tensors, typed(meta, f"{path}: its description")


def write_safetensors(path: Path, tensors: dict[str, np.ndarray], header: dict[str, Any] | None = None) -> Path:
    """Write arrays and a description that `read_safetensors` reads."""
    from safetensors.numpy import save

    meta = None if header is None else json.dumps(header)
    said = {**({} if meta is None else {"meta": meta}), "sha256": _sha256(tensors, meta)}
    with atomic_file(path) as file:
        file.write(in_order(save(tensors, metadata=said)))
    return Path(path)


def _sha256(tensors: dict[str, np.ndarray], meta: str | None) -> str:
    digest = hashlib.sha256((meta or "").encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
        digest.update(np.ascontiguousarray(tensor).data)
    return digest.hexdigest()


def _load_npz(path: Path) -> Statistics:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        with open(regular_file(path, REGULAR), "rb") as file, np.load(file, allow_pickle=False) as arrays:
            mean, covariance = arrays["mu"], arrays["sigma"]
            mean, covariance = (a.astype(np.float64) if a.dtype.kind in "iuf" else a for a in (mean, covariance))
    except Exception as error:  # damaged archives raise anything from BadZipFile to NotImplementedError
        raise ValueError(f"{path} is not an npz with arrays mu and sigma ({error})") from None
    # These files say neither how many images nor which network they come from.
    return check_statistics(mean, covariance, None, path, {"source": path.name})
