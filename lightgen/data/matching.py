"""Draws that agree with the whole in given columns: N samples of chosen groups, as evenly over these as they allow.

Within each group the samples of highest score are taken, and a score is a random number (Gumbel's) plus a tilt times
the columns. The tilt is turned until the columns' means are those of the whole: so a draw is as random as it can be.
"""

from __future__ import annotations

import numpy as np

TOLERANCE = 0.02  # standard deviations from the whole that are good enough
WORST = 0.05  # and that are still allowed: two subsets then differ by less than 0.1
ROUNDS = 60


def even_quotas(sizes: np.ndarray, count: int, order: np.ndarray) -> np.ndarray:
    """How many of each group's `sizes` are taken, `count` in all: the same of each, or all of it where that is less;
    what does not divide goes to the first groups of `order` that have some left."""
    level = 0
    while (free := sizes > level).any():
        left = count - int(np.minimum(sizes, level).sum())
        step = min(left // int(free.sum()), int((sizes[free] - level).min()))
        if not step:
            break
        level += step
    quotas = np.minimum(sizes, level)
    spare = [group for group in order if sizes[group] > quotas[group]]
    quotas[spare[: count - int(quotas.sum())]] += 1
    return quotas


def matched_draw(
    group: np.ndarray, quotas: np.ndarray, columns: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(rows, deviations): `quotas[g]` rows of each group g, with the columns' means as near 0 as is found.

    `group` (R,), `columns` (R, C) in deviations from the whole, `noise` (R,); the deviations (C,) are what is left.
    """
    sizes = np.bincount(group, minlength=len(quotas))
    starts = (np.cumsum(sizes) - sizes)[group]
    tilt, step = np.zeros(columns.shape[1]), np.full(columns.shape[1], 0.5)
    best, before = (np.empty(0, int), np.full(columns.shape[1], np.inf)), np.zeros(columns.shape[1])
    for _ in range(ROUNDS):
        # Rounded, so that no machine's last bit decides.
        order = np.lexsort((-(noise + np.rint((columns @ tilt) * 1024) / 1024), group))
        rank = np.arange(len(order)) - starts[order]
        rows = order[rank < quotas[group[order]]]
        mean = columns[rows].mean(0)
        if np.abs(mean).max(initial=0) < np.abs(best[1]).max(initial=0) or not len(best[0]):
            best = np.sort(rows), mean
        if np.abs(mean).max(initial=0) < TOLERANCE:
            break
        step = np.where(mean * before < 0, step * 0.5, np.minimum(step * 1.5, 8.0))
        tilt, before = tilt - np.sign(mean) * np.minimum(step, 4 * np.abs(mean)), mean
    return best
