"""Fidelity apart from diversity: precision and recall, density and coverage, Vendi score; distances in float64."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.quality.arrays import finite, require_same_dimensions, unit_length

_ROWS = 2048


class PrecisionRecall(NamedTuple):
    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    density: float
    coverage: float


def precision_recall(generated: np.ndarray, reference: np.ndarray, *, k: int = 3) -> PrecisionRecall:
    """Share of each set inside the other's k-nearest-neighbor balls (Kynkaanniemi et al. 2019)."""
    generated, reference = _centered(generated, reference, k)
    generated_radius, reference_radius = _radius(generated, k), _radius(reference, k)
    precise, recalled = 0, np.zeros(len(reference), dtype=bool)
    for rows, distance in _distance_blocks(generated, reference):
        precise += (distance <= reference_radius).any(1).sum()
        recalled |= (distance <= generated_radius[rows, None]).any(0)
    return PrecisionRecall(float(precise / len(generated)), float(recalled.mean()))


def density_coverage(generated: np.ndarray, reference: np.ndarray, *, k: int = 5) -> DensityCoverage:
    """Density (unbounded) and coverage of the reference's k-nearest-neighbor balls (Naeem et al. 2020)."""
    generated, reference = _centered(generated, reference, k)
    radius = _radius(reference, k)
    inside, covered = 0, np.zeros(len(reference), dtype=bool)
    for _, distance in _distance_blocks(generated, reference):
        hits = distance < radius
        inside += hits.sum()
        covered |= hits.any(0)
    return DensityCoverage(float(inside / (k * len(generated))), float(covered.mean()))


def vendi(values: np.ndarray) -> float:
    """Effective number of distinct items, from 1 (all alike) to N (all orthogonal) (Friedman & Dieng 2023).

    The exponential of the entropy of the cosine kernel's eigenvalues.
    """
    values = unit_length(finite(values))
    # The N x N kernel and the D x D second moment share their nonzero eigenvalues: take the smaller.
    gram = values @ values.T if len(values) <= values.shape[1] else values.T @ values
    eigenvalues = np.linalg.eigvalsh(gram / len(values)).clip(0)
    eigenvalues = eigenvalues[eigenvalues > 1e-12]
    return float(np.exp(-(eigenvalues * np.log(eigenvalues)).sum()))


def prompt_vendi(values: np.ndarray, prompts: Sequence[str], center: np.ndarray) -> np.ndarray:
    """Vendi score of each prompt's own samples (P,), prompts by first occurrence: 1 (all alike) to their number.

    `center` (D,) is subtracted first: features of one network share a large common part, which makes any two images
    nearly parallel and every score nearly 1. Give the same center for all sets that are compared, as the mean of their
    reference: around its own mean, a model that always draws the same picture would leave nothing but noise, which
    points everywhere and looks diverse.
    """
    values = finite(values) - center
    rows: dict[str, list[int]] = {}
    for row, prompt in enumerate(prompts):
        rows.setdefault(prompt, []).append(row)
    return np.array([vendi(values[own]) for own in rows.values()])


def _radius(values: np.ndarray, k: int) -> np.ndarray:
    """Distance of each item to its k-th neighbor; itself, at distance 0, is not counted."""
    return np.concatenate([np.partition(block, k, axis=1)[:, k] for _, block in _distance_blocks(values, values)])


def _distance_blocks(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows of `a` and their distances to all of `b`, a block at a time."""
    squared_a, squared_b = (a**2).sum(1), (b**2).sum(1)
    for start in range(0, len(a), _ROWS):
        rows = slice(start, start + _ROWS)
        squared = squared_a[rows, None] + squared_b - 2 * a[rows] @ b.T
        distance = np.sqrt(squared.clip(0))
        if a is b:
            # Rounding would leave a tiny distance of an item to itself.
            distance[np.arange(len(distance)), start + np.arange(len(distance))] = 0
        yield rows, distance


def _centered(generated, reference, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Float64 features around a common center: squared distances through products lose digits far from zero."""
    generated, reference = finite(generated), finite(reference)
    require_same_dimensions(generated, reference)
    if min(len(generated), len(reference)) <= k:
        raise ValueError(f"{k} neighbors need more than {k} images; there are {len(generated)} and {len(reference)}")
    center = reference.mean(0)
    return generated - center, reference - center
