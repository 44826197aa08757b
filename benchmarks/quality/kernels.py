"""Kernel distances between feature sets: KID (Binkowski et al. 2018) and CMMD (Jayasumana et al. 2024), in float64."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.quality.arrays import finite, require_same_dimensions, unit_length

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
    """Unbiased squared MMD under the cubic kernel (x.y/D + 1)^3, with its jackknife standard error.

    It may be negative: two samples of one distribution give 0 on average. Images that share a prompt are not
    independent: `clusters_a` and `clusters_b` name each image's prompt. Pairs with the same prompt are then left out of
    all three means, within a side and across: left in one of them alone, a perfect model would be off by the share of
    such pairs. The jackknife leaves out whole prompts, from both sides at once where they have prompts in common. A
    bootstrap would compare an image drawn twice with itself.
    """
    a, b = _checked(a, b)
    groups_a, groups_b = _groups(clusters_a, len(a), "a"), _groups(clusters_b, len(b), "b")
    sums = _cluster_sums(a, b, groups_a, groups_b)
    whole = sums.whole()
    value = _mean_of_pairs(whole)
    if not np.isfinite(value):
        raise ValueError("KID compares images of different prompts: give images of 2 prompts or more on each side")
    is_shared = not groups_a.keys().isdisjoint(groups_b)
    parts = [np.ones(len(sums.names), bool)]
    if not is_shared:
        parts = [sums.counts_a > 0, sums.counts_b > 0]
    left_out = _mean_of_pairs(sums.without_each(whole))
    variances = [(part.sum() - 1) * np.var(left_out[part]) for part in parts]
    return KernelDistance(float(value), float(np.sqrt(sum(variances))))


class _Pairs(NamedTuple):
    """Kernel sums over pairs of images of different prompts, and the numbers of such pairs: a with a, b, a with b."""

    within_a: Any
    within_b: Any
    across: Any
    num_a: Any
    num_b: Any
    num_across: Any


class _ClusterSums(NamedTuple):
    """Of each cluster (C,): its images on both sides, and the kernel sums over pairs of one image in it, one outside.

    Pairs across are counted from both sides: `across_a` has a's images in the cluster, `across_b` b's.
    """

    names: list
    counts_a: np.ndarray
    counts_b: np.ndarray
    within_a: np.ndarray
    within_b: np.ndarray
    across_a: np.ndarray
    across_b: np.ndarray

    def whole(self) -> _Pairs:
        m, n = self.counts_a.sum(), self.counts_b.sum()
        return _Pairs(
            self.within_a.sum(), self.within_b.sum(), self.across_a.sum(),
            m**2 - (self.counts_a**2).sum(), n**2 - (self.counts_b**2).sum(),
            m * n - (self.counts_a * self.counts_b).sum(),
        )  # fmt: skip

    def without_each(self, whole: _Pairs) -> _Pairs:
        """The same without each cluster in turn (C,)."""
        m, n = self.counts_a.sum() - self.counts_a, self.counts_b.sum() - self.counts_b
        squares = [(counts**2).sum() - counts**2 for counts in (self.counts_a, self.counts_b)]
        both = (self.counts_a * self.counts_b).sum() - self.counts_a * self.counts_b
        return _Pairs(
            whole.within_a - 2 * self.within_a, whole.within_b - 2 * self.within_b,
            whole.across - self.across_a - self.across_b,
            m**2 - squares[0], n**2 - squares[1], m * n - both,
        )  # fmt: skip


def _mean_of_pairs(pairs: _Pairs) -> Any:
    """KID of these sums; NaN where there are no pairs."""
    with np.errstate(divide="ignore", invalid="ignore"):
        within = pairs.within_a / np.float64(pairs.num_a) + pairs.within_b / np.float64(pairs.num_b)
        value = within - 2 * pairs.across / np.float64(pairs.num_across)
    return np.where((pairs.num_a > 0) & (pairs.num_b > 0) & (pairs.num_across > 0), value, np.nan)


def _groups(clusters: Sequence | None, count: int, side: str) -> dict[object, np.ndarray]:
    """Rows of each cluster; every row is its own where none are given."""
    names = [(side, row) for row in range(count)] if clusters is None else list(clusters)
    if len(names) != count:
        raise ValueError(f"{len(names)} prompts were given for {count} images; give one an image")
    rows: dict[object, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    return {name: np.array(found) for name, found in rows.items()}


def _cluster_sums(a: np.ndarray, b: np.ndarray, groups_a: dict, groups_b: dict) -> _ClusterSums:
    kernel = _polynomial(a.shape[1])
    sums = _kernel_sums(a, b, kernel)
    names = list(dict.fromkeys([*groups_a, *groups_b]))
    rows = []
    for name in names:
        i, j = groups_a.get(name, _NONE), groups_b.get(name, _NONE)
        shared = kernel(a[i], b[j]).sum()
        within_a = sums.within_a[i].sum() - _off_diagonal(a[i], kernel)
        within_b = sums.within_b[j].sum() - _off_diagonal(b[j], kernel)
        across = sums.across_a[i].sum() - shared, sums.across_b[j].sum() - shared
        rows.append((len(i), len(j), within_a, within_b, *across))
    return _ClusterSums(names, *(np.array(column) for column in zip(*rows)))


def _off_diagonal(values: np.ndarray, kernel) -> float:
    if len(values) < 2:
        return 0.0
    block = kernel(values, values)
    return float(block.sum() - np.trace(block))


def cmmd(a: np.ndarray, b: np.ndarray, *, sigma: float = 10.0, scale: float = 1000.0, biased: bool = True) -> float:
    """Squared MMD of unit-length features under a Gaussian kernel, times 1000.

    `biased` (diagonals kept) is what the published numbers are; the unbiased form suits small N.
    """
    a, b = (unit_length(values) for values in _checked(a, b))

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


def _checked(a, b) -> tuple[np.ndarray, np.ndarray]:
    a, b = finite(a), finite(b)
    if min(len(a), len(b)) < 2:
        raise ValueError(f"a kernel distance needs at least 2 images a side; there are {len(a)} and {len(b)}")
    require_same_dimensions(a, b)
    return a, b
