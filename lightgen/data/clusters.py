"""k-means on whole numbers: every product and sum is exact, so the same seed gives the same clusters on any machine."""

from __future__ import annotations

import numpy as np

LEARNED_ON = 50_000  # rows, drawn evenly
ROUNDS = 25
_BLOCK = 65_536


def clusters(features: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """(N,) cluster numbers below `count` of features (N, D), whole numbers up to 127; D at most 64.

    Centers are drawn as k-means++ does, learned on a part of the rows, and kept as whole numbers. ValueError where
    there are fewer distinct rows than clusters.
    """
    rng = np.random.default_rng(seed)
    part = features if len(features) <= LEARNED_ON else features[np.sort(_drawn(rng, len(features), LEARNED_ON))]
    values = part.astype(np.float32)
    if (distinct := len(np.unique(part, axis=0))) < count:
        raise ValueError(f"{count} clusters of {distinct} different captions or images; ask for {distinct} or fewer")
    centers = _first_centers(values, count, rng)
    for _ in range(ROUNDS):
        owner = _nearest(values, centers)
        moved = _means(values, owner, centers)
        if np.array_equal(moved, centers):
            break
        centers = moved
    return _nearest(features, centers)


def _drawn(rng: np.random.Generator, total: int, count: int) -> np.ndarray:
    return np.argsort(rng.random(total), kind="stable")[:count]


def _first_centers(values: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++: each next center is a row drawn in proportion to its squared distance from those before."""
    chosen = [int(rng.random() * len(values))]
    distance = ((values - values[chosen[0]]) ** 2).sum(1).astype(np.int64)
    for _ in range(count - 1):
        ends = distance.cumsum()
        row = int(np.searchsorted(ends, int(rng.random() * ends[-1]), side="right"))
        chosen.append(row)
        distance = np.minimum(distance, ((values - values[row]) ** 2).sum(1).astype(np.int64))
    return values[chosen]


def _nearest(values: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """The number of each row's nearest center, the smaller of equals. All sums stay below 2**24: exact in float32."""
    squares = (centers**2).sum(1)
    found = np.empty(len(values), np.int64)
    for first in range(0, len(values), _BLOCK):
        block = values[first : first + _BLOCK].astype(np.float32)
        found[first : first + _BLOCK] = (squares - 2 * (block @ centers.T)).argmin(1)
    return found


def _means(values: np.ndarray, owner: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """The rounded mean of each center's rows; one without rows stays where it is."""
    counts = np.bincount(owner, minlength=len(centers))
    sums = np.stack([np.bincount(owner, column, minlength=len(centers)) for column in values.T], 1)
    means = np.rint(sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
    return np.where(counts[:, None] > 0, means, centers)
