"""How diverse a subset is: distinct captions, clusters, Vendi scores; and whether these measures agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

VENDI_IMAGES = 1000  # Vendi scores depend on how many they are of: never more than this, and N is recorded


def measures(caption: np.ndarray, cluster: np.ndarray, features: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Measures of N samples: `caption` and `cluster` (N,) numbers, `features` (N, D) around the whole cache's mean.

    Share of distinct captions; effective clusters (the exponential of the entropy) and, as `coverage`, how many are
    there at all; Vendi score of `vendi_n` samples.
    """
    shares = np.bincount(cluster) / len(cluster)
    shares = shares[shares > 0]
    drawn = np.argsort(np.random.default_rng(seed).random(len(caption)), kind="stable")[:VENDI_IMAGES]
    return {
        "distinct_captions": float(len(np.unique(caption))),
        "effective_clusters": float(np.exp(-(shares * np.log(shares)).sum())),
        "clusters": float(len(shares)),
        "vendi": vendi(features[drawn]),
        "vendi_n": float(len(drawn)),
    }


def vendi(values: np.ndarray) -> float:
    """Effective number of distinct rows, from 1 (all alike) to N (all orthogonal) (Friedman & Dieng 2023)."""
    values = values.astype(np.float64)
    values = values / np.linalg.norm(values, axis=1, keepdims=True).clip(1e-12)
    gram = values @ values.T if len(values) <= values.shape[1] else values.T @ values
    eigenvalues = np.linalg.eigvalsh(gram / len(values))
    eigenvalues = eigenvalues[eigenvalues > 1e-12]
    return float(np.exp(-(eigenvalues * np.log(eigenvalues)).sum()))


def conditional_vendi(values: np.ndarray, caption: np.ndarray) -> tuple[float, int] | None:
    """(mean Vendi score of two images of one caption, captions): from 1 (alike) to 2; None where no caption has two.

    `values` (n, D) are image features around the whole's mean, `caption` (n,) numbers.
    """
    order = np.argsort(caption, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(caption[order]) != 0])
    sizes = np.diff(np.r_[starts, len(order)])
    scores = [vendi(values[order[start : start + 2]]) for start, size in zip(starts, sizes) if size > 1]
    return (float(np.mean(scores)), len(scores)) if scores else None


def rank_agreement(probes: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, float]:
    """Spearman's correlation of each two measures over the probes; 0 where a measure is the same for all."""
    from scipy.stats import rankdata

    ranks = {name: rankdata([probe[name] for probe in probes]) for name in names}
    return {
        f"{one}, {other}": _correlation(ranks[one], ranks[other])
        for place, one in enumerate(names)
        for other in names[place + 1 :]
    }


def balance(columns: Mapping[str, np.ndarray], whole: np.ndarray, rows: np.ndarray) -> list[dict[str, Any]]:
    """A row a column: the mean and deviation of the `whole` (bool), the subset's mean, the difference in deviations."""
    table = []
    for name, values in columns.items():
        mean, deviation = float(values[whole].mean()), float(values[whole].std())
        ours = float(values[rows].mean())
        difference = (ours - mean) / deviation if deviation else 0.0
        table.append({"column": name, "pool": mean, "deviation": deviation, "subset": ours, "difference": difference})
    return table


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one, other)[0, 1]) if one.std() and other.std() else 0.0
