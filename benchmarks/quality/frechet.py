"""Frechet distance between feature sets (FID, Heusel et al. 2017), in float64, and its limit for infinite N."""

import warnings
from dataclasses import dataclass

import numpy as np

from benchmarks.quality.arrays import finite, require_same_dimensions
from benchmarks.quality.moments import Statistics


class RankDeficientWarning(UserWarning):
    """Fewer samples than feature dimensions: the distance is finite, and mostly bias."""


@dataclass(frozen=True, kw_only=True)
class Extrapolation:
    """FID at several N, the fitted limit for infinite N, and the limit's standard error from the fit."""

    value: float
    stderr: float
    sizes: list[int]
    distances: list[float]


def fid(generated, reference) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) of two feature sets (N, D) or Statistics."""
    first, second = _statistics(generated), _statistics(reference)
    require_same_dimensions(first.mean, second.mean)
    for statistics in (first, second):
        _warn_if_rank_deficient(statistics)
    return frechet_distance(first.mean, first.covariance, second.mean, second.covariance)


def frechet_distance(mean_a, covariance_a, mean_b, covariance_b) -> float:
    """The closed form for two Gaussians; arrays in float64."""
    mean_a, covariance_a, mean_b, covariance_b = map(finite, (mean_a, covariance_a, mean_b, covariance_b))
    difference = mean_a - mean_b
    cross = trace_of_root(covariance_a, covariance_b)
    distance = float(difference @ difference + np.trace(covariance_a) + np.trace(covariance_b) - 2 * cross)
    if not np.isfinite(distance):
        raise ValueError("the Frechet distance is not finite; look for a broken extractor, image or reference")
    return distance


def trace_of_root(covariance_a: np.ndarray, covariance_b: np.ndarray) -> float:
    """tr (A B)^(1/2) of two positive semidefinite matrices.

    With A = R R^T, the product A B has the eigenvalues of the symmetric R^T B R. R is a Cholesky factor (cheap) where
    A has full rank, else its symmetric root. Tiny negative eigenvalues are rounding, and are set to zero.
    """
    root = _cholesky(covariance_a)
    if root is None and (root := _cholesky(covariance_b)) is not None:
        covariance_b = covariance_a
    if root is None:
        eigenvalues, vectors = np.linalg.eigh(covariance_a)
        root = vectors * np.sqrt(eigenvalues.clip(0))
    product = root.T @ covariance_b @ root
    return float(np.sqrt(np.linalg.eigvalsh((product + product.T) / 2).clip(0)).sum())


def fid_infinity(
    generated: np.ndarray,
    reference,
    *,
    num_sizes: int = 8,
    smallest: int | None = None,
    repeats: int = 4,
    seed: int = 0,
) -> Extrapolation:
    """Intercept of a line through FID against 1/N (Chong & Forsyth 2020) over random subsets of `generated`.

    The reference's own bias stays. Sizes are equally spaced in 1/N from `smallest` (default N/5) to N.
    """
    target = _statistics(reference)
    total = len(generated)
    smallest = smallest or max(2, total // 5)
    if total < 20 or not 2 <= smallest < total:
        raise ValueError(f"an FID cannot be extrapolated from {smallest} to {total} images; give at least 20 in all")
    sizes = sorted({round(1 / inverse) for inverse in np.linspace(1 / total, 1 / smallest, num_sizes)})
    generator = np.random.default_rng(seed)
    distances = [_subset_fid(generated, target, size, 1 if size == total else repeats, generator) for size in sizes]
    value, stderr = _intercept(1 / np.array(sizes), np.array(distances))
    return Extrapolation(value=value, stderr=stderr, sizes=sizes, distances=distances)


def _subset_fid(values, target: Statistics, size: int, repeats: int, generator: np.random.Generator) -> float:
    with warnings.catch_warnings():
        # The full set has been warned about where it is measured.
        warnings.simplefilter("ignore", RankDeficientWarning)
        subsets = [values[generator.permutation(len(values))[:size]] for _ in range(repeats)]
        return float(np.mean([fid(subset, target) for subset in subsets]))


def _intercept(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Ordinary least squares: value at x = 0 and its standard error."""
    design = np.stack([np.ones_like(x), x], axis=1)
    solution, *_ = np.linalg.lstsq(design, y, rcond=None)
    residual = y - design @ solution
    variance = residual @ residual / (len(x) - 2)
    return float(solution[0]), float(np.sqrt(variance * np.linalg.inv(design.T @ design)[0, 0]))


def _cholesky(covariance: np.ndarray) -> np.ndarray | None:
    """Lower Cholesky factor, or None where the matrix is singular to working precision."""
    try:
        root = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return None
    diagonal = np.diag(root)
    return root if diagonal.min() > 1e-7 * diagonal.max() else None


def _statistics(features) -> Statistics:
    return features if isinstance(features, Statistics) else Statistics.of(np.asarray(features))


def _warn_if_rank_deficient(statistics: Statistics) -> None:
    dimensions, count = len(statistics.mean), statistics.num_samples
    if count is not None and count <= dimensions:
        warnings.warn(
            f"N = {count} images for {dimensions} feature dimensions: this FID is mostly bias; use KID, or more images",
            RankDeficientWarning,
            stacklevel=3,
        )
