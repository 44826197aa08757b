"""Kernel distances between feature sets: KID (Binkowski et al. 2018) and CMMD (Jayasumana et al. 2024), in float64."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_ROWS = 2048  # rows of a kernel matrix held at a time
_NONE = np.zeros(0, dtype=int)


class KernelDistance(NamedTuple):
    """A value and its standard error."""

    value: float
    stderr: float


class _Sums(NamedTuple):
    """Row sums of the three kernel matrices, diagonals of the two square ones left out."""

    within_a: np.ndarray
    within_b: np.ndarray
    across_a: np.ndarray
    across_b: np.ndarray
    diagonal_a: np.ndarray
    diagonal_b: np.ndarray


def kid(
    a: np.ndarray, b: np.ndarray, *, clusters_a: Sequence | None = None, clusters_b: Sequence | None = None
) -> KernelDistance:
    """Unbiased squared MMD of all samples under the cubic kernel (x.y/D + 1)^3, with its jackknife standard error.

    It may be negative: two samples of one distribution give 0 on average. Images that share a prompt are not
    independent: `clusters_a` and `clusters_b` name each image's prompt, and whole prompts are left out then, from both
    sides at once where these hold the same prompts. A bootstrap would compare an image drawn twice with itself.
    """
    a, b = _checked(a, b)
    sums = _kernel_sums(a, b, _polynomial(a.shape[1]))
    m, n = len(a), len(b)
    total_a, total_b, total_across = sums.within_a.sum(), sums.within_b.sum(), sums.across_a.sum()
    value = _unbiased(total_a, total_b, total_across, m, n)
    if clusters_a is None and clusters_b is None:
        if min(m, n) < 3:
            return KernelDistance(float(value), float("nan"))
        # Each leave-one-out value follows from the row sums alone.
        without_a = _unbiased(total_a - 2 * sums.within_a, total_b, total_across - sums.across_a, m - 1, n)
        without_b = _unbiased(total_a, total_b - 2 * sums.within_b, total_across - sums.across_b, m, n - 1)
        variance = (m - 1) * np.var(without_a) + (n - 1) * np.var(without_b)
        return KernelDistance(float(value), float(np.sqrt(variance)))
    groups_a, groups_b = _groups(clusters_a, m), _groups(clusters_b, n)
    if clusters_a is not None and clusters_b is not None and groups_a.keys() == groups_b.keys():
        left_out = [[(groups_a[name], groups_b[name]) for name in groups_a]]
    else:
        left_out = [[(rows, _NONE) for rows in groups_a.values()], [(_NONE, rows) for rows in groups_b.values()]]
    return KernelDistance(float(value), _jackknife(a, b, sums, left_out))


def _groups(clusters: Sequence | None, count: int) -> dict[object, np.ndarray]:
    """Rows of each cluster; every row is its own where none are given."""
    names = list(range(count)) if clusters is None else list(clusters)
    if len(names) != count:
        raise ValueError(f"{len(names)} prompts were given for {count} images; give one an image")
    rows: dict[object, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    return {name: np.array(found) for name, found in rows.items()}


def _jackknife(a: np.ndarray, b: np.ndarray, sums: _Sums, left_out: list[list[tuple[np.ndarray, np.ndarray]]]) -> float:
    """Standard error of KID from leaving out clusters; the lists' variances add up. NaN where too few are left."""
    kernel = _polynomial(a.shape[1])
    m, n = len(a), len(b)
    total_a, total_b, total_across = sums.within_a.sum(), sums.within_b.sum(), sums.across_a.sum()
    variance = 0.0
    for clusters in left_out:
        values = []
        for i, j in clusters:
            if m - len(i) < 2 or n - len(j) < 2:
                return float("nan")
            # Sums over pairs of which at least one is left out: pairs with both in the cluster are counted twice.
            within_a = 2 * sums.within_a[i].sum() - _off_diagonal(a[i], kernel)
            within_b = 2 * sums.within_b[j].sum() - _off_diagonal(b[j], kernel)
            across = sums.across_a[i].sum() + sums.across_b[j].sum() - kernel(a[i], b[j]).sum()
            totals = total_a - within_a, total_b - within_b, total_across - across
            values.append(_unbiased(*totals, m - len(i), n - len(j)))
        variance += (len(values) - 1) * float(np.var(values))
    return float(np.sqrt(variance))


def _off_diagonal(values: np.ndarray, kernel) -> float:
    block = kernel(values, values)
    return float(block.sum() - np.trace(block))


def cmmd(a: np.ndarray, b: np.ndarray, *, sigma: float = 10.0, scale: float = 1000.0, biased: bool = True) -> float:
    """Squared MMD of unit-length features under a Gaussian kernel, times 1000.

    `biased` (diagonals kept) is what the published numbers are; the unbiased form suits small N.
    """
    a, b = (_unit_length(values) for values in _checked(a, b))

    def kernel(x, y):
        squared = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T
        return np.exp(-squared / (2 * sigma**2))

    sums = _kernel_sums(a, b, kernel)
    m, n = len(a), len(b)
    totals = sums.within_a.sum(), sums.within_b.sum(), sums.across_a.sum()
    if not biased:
        return float(scale * _unbiased(*totals, m, n))
    within = (totals[0] + sums.diagonal_a.sum()) / m**2 + (totals[1] + sums.diagonal_b.sum()) / n**2
    return float(scale * (within - 2 * totals[2] / (m * n)))


def _unbiased(total_a, total_b, total_across, m: int, n: int):
    return total_a / (m * (m - 1)) + total_b / (n * (n - 1)) - 2 * total_across / (m * n)


def _polynomial(dimensions: int):
    return lambda x, y: (x @ y.T / dimensions + 1) ** 3


def _kernel_sums(a: np.ndarray, b: np.ndarray, kernel) -> _Sums:
    """Sums in blocks of rows, so memory grows with N and not with its square."""
    within_a, diagonal_a = _row_sums(a, kernel)
    within_b, diagonal_b = _row_sums(b, kernel)
    across_a, across_b = [], np.zeros(len(b))
    for start in range(0, len(a), _ROWS):
        block = kernel(a[start : start + _ROWS], b)
        across_a.append(block.sum(1))
        across_b += block.sum(0)
    return _Sums(within_a, within_b, np.concatenate(across_a), across_b, diagonal_a, diagonal_b)


def _row_sums(values: np.ndarray, kernel) -> tuple[np.ndarray, np.ndarray]:
    sums, diagonals = [], []
    for start in range(0, len(values), _ROWS):
        block = kernel(values[start : start + _ROWS], values)
        diagonal = block[np.arange(len(block)), start + np.arange(len(block))]
        sums.append(block.sum(1) - diagonal)
        diagonals.append(diagonal)
    return np.concatenate(sums), np.concatenate(diagonals)


def _unit_length(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=1, keepdims=True).clip(1e-12)


def _checked(a, b) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if min(len(a), len(b)) < 2:
        raise ValueError(f"a kernel distance needs at least 2 images a side; there are {len(a)} and {len(b)}")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"features of {a.shape[1]} and {b.shape[1]} dimensions come from different extractors")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("the features hold NaN or infinite values; look for a broken extractor or image")
    return a, b
