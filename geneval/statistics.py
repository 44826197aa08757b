"""Intervals and contrasts of GenEval rows: prompts are resampled within their task, training seeds are a second level.

Rows are those of results.jsonl: mappings with `tag`, `metadata` (the prompt's identity) and `correct`. The images of
one prompt share it, so the prompt is the unit that is resampled; "overall" is the unweighted mean of the task means.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np

Rows = Sequence[Mapping[str, Any]]
Where = Callable[[Mapping[str, Any]], bool]
Array = np.ndarray

NORMAL_95 = 1.959964  # half-width of a normal 95 % interval, in standard errors
_LEVEL = 0.95
_MAX_DEGREES = 1000.0  # beyond this a t distribution is a normal one


def summarize(rows: Rows, *, resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """`{"overall": estimate, "tasks": {tag: estimate}}`; an estimate: value, ci, n (images), clusters (prompts)."""
    return summarize_runs([rows], resamples=resamples, seed=seed)


def summarize_runs(runs: Sequence[Rows], *, resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """`summarize` of the mean over several training seeds; every run must have the same prompts."""
    tables = _tables(runs)
    tags = list(tables[0])
    draws = {tag: _draws(tables, tag, resamples, seed) for tag in tags}
    tasks = {tag: _estimate([draws[tag]], _size(tables, [tag])) for tag in tags}
    return {"overall": _estimate(list(draws.values()), _size(tables, tags)), "tasks": tasks}


def compare(rows_a: Rows, rows_b: Rows, *, resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """`{"overall": contrast, "tasks": {tag: contrast}}` of A minus B on the same prompts."""
    tags = list(dict.fromkeys(row["tag"] for row in rows_a))
    each = {t: contrast([rows_a], [rows_b], t, resamples=resamples, seed=seed) for t in tags}
    return {"overall": contrast([rows_a], [rows_b], resamples=resamples, seed=seed), "tasks": each}


def contrast(
    runs_a: Sequence[Rows],
    runs_b: Sequence[Rows],
    metric: str = "overall",
    where: Where | None = None,
    *,
    minus: tuple[Sequence[Rows], Sequence[Rows]] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Mean of runs A minus mean of runs B, in `metric` ("overall" or a task), over the rows where `where` holds.

    A run is one training seed's rows. The same prompts are resampled in all runs; with as many runs on both sides run i
    of A is paired with run i of B (the same seed). `minus` = (runs C, runs D) subtracts C - D: an interaction.
    Returns value, ci (95 %), p (two-sided), standard_error, detectable (the difference that such a design finds with
    80 % power), n, clusters, seeds.
    """
    sides = [list(runs_a), list(runs_b), *(map(list, minus) if minus else ())]
    if not all(sides):
        raise ValueError("a contrast needs at least one run on each side")
    signs = (1.0, -1.0, -1.0, 1.0)[: len(sides)]
    tables = _tables([_where(rows, metric, where) for side in sides for rows in side])
    tags = list(tables[0])
    sizes = [len(side) for side in sides]
    estimate = _combined([_draws(tables, tag, resamples, seed) for tag in tags], signs, sizes)
    p = _p_value(tables, signs, sizes, estimate, resamples, seed)
    return {
        "value": estimate.value,
        "ci": estimate.interval(),
        "p": p,
        "standard_error": estimate.standard_error,
        "detectable": minimum_detectable_effect(estimate.standard_error, degrees=estimate.degrees),
        **_size(tables, tags),
        "seeds": sizes,
    }


def minimum_detectable_effect(standard_error: float, *, power: float = 0.8, degrees: float = _MAX_DEGREES) -> float:
    """The true difference that a two-sided 5 % test finds with probability `power`."""
    return (_t_quantile(degrees) + NormalDist().inv_cdf(power)) * standard_error


# --- rows to counts -------------------------------------------------------------------------------------------------

# tag -> prompt -> [number correct, number of images]
_Table = dict[str, dict[str, list[int]]]


def _where(rows: Rows, metric: str, where: Where | None) -> Rows:
    kept = [r for r in rows if (metric == "overall" or r["tag"] == metric) and (where is None or where(r))]
    if not kept:
        tags = ", ".join(dict.fromkeys(row["tag"] for row in rows))
        raise ValueError(
            f"no rows for metric {metric!r}: valid are overall, {tags} (after the filter, if one is given)"
        )
    return kept


def _tables(runs: Sequence[Rows]) -> list[_Table]:
    """One table a run, tasks as they come in the first; prompts sorted, so that no order of rows changes a draw."""
    if not runs or not all(runs):
        raise ValueError("no rows to summarize")
    tables = [_table(rows) for rows in runs]
    first = {tag: sorted(prompts) for tag, prompts in tables[0].items()}
    for number, table in enumerate(tables[1:], 2):
        differing = _prompts(table) ^ _prompts(tables[0])
        if differing:
            raise ValueError(
                f"run {number} has other prompts than run 1: {len(differing)} differ, as {min(differing)!r}"
            )
    return [{tag: {p: table[tag][p] for p in prompts} for tag, prompts in first.items()} for table in tables]


def _table(rows: Rows) -> _Table:
    table: _Table = {}
    for row in rows:
        counts = table.setdefault(row["tag"], {}).setdefault(row["metadata"], [0, 0])
        counts[0] += bool(row["correct"])
        counts[1] += 1
    return table


def _prompts(table: _Table) -> set[tuple[str, str]]:
    return {(tag, prompt) for tag, prompts in table.items() for prompt in prompts}


def _size(tables: Sequence[_Table], tags: Sequence[str]) -> dict[str, int]:
    counts = [list(table[tag].values()) for table in tables for tag in tags]
    return {"n": sum(c[1] for task in counts for c in task), "clusters": sum(len(tables[0][tag]) for tag in tags)}


# --- resampling -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Draws:
    """One task: each run's mean, and the same under resampled prompts (deviations, corrected for few prompts)."""

    means: Array  # (runs,)
    deviations: Array  # (runs, resamples)
    num_prompts: int


@dataclass(frozen=True)
class _Estimate:
    value: float
    deviations: Array  # (resamples,) of prompts, averaged over seeds
    seed_variance: float
    degrees: float

    @property
    def standard_error(self) -> float:
        return float(np.sqrt(self.deviations.var() + self.seed_variance))

    def interval(self) -> list[float]:
        """Percentiles of the resampled values, stretched by what the seeds add and by their small number."""
        variance = float(self.deviations.var())
        if variance == 0.0:
            half = _t_quantile(self.degrees) * self.standard_error
            return [self.value - half, self.value + half]
        stretch = _t_quantile(self.degrees) / _t_quantile(_MAX_DEGREES) * self.standard_error / np.sqrt(variance)
        tail = 100 * (1 - _LEVEL) / 2
        low, high = np.percentile(self.deviations, [tail, 100 - tail])
        return [float(self.value + low * stretch), float(self.value + high * stretch)]


def _draws(tables: Sequence[_Table], tag: str, resamples: int, seed: int) -> _Draws:
    counts = np.array([list(table[tag].values()) for table in tables], dtype=np.float64)  # (runs, prompts, 2)
    num_prompts = counts.shape[1]
    # One stream a task, so that a task's interval does not depend on which other tasks there are.
    stream = np.random.default_rng([seed, num_prompts, *tag.encode()])
    drawn = stream.integers(0, num_prompts, (resamples, num_prompts)) + num_prompts * np.arange(resamples)[:, None]
    weights = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
    sums = np.moveaxis(counts, 2, 0) @ weights.T.astype(np.float64)  # (2, runs, resamples)
    means = counts[..., 0].sum(1) / counts[..., 1].sum(1)
    correction = np.sqrt(num_prompts / max(num_prompts - 1, 1))
    return _Draws(means, (sums[0] / sums[1] - means[:, None]) * correction, num_prompts)


def _combined(draws: Sequence[_Draws], signs: Sequence[float], sizes: Sequence[int]) -> _Estimate:
    """The signed sum over sides of the mean over their runs, tasks averaged."""
    means = np.mean([d.means for d in draws], axis=0)
    deviations = np.mean([d.deviations for d in draws], axis=0)
    sides = np.split(np.arange(len(means)), np.cumsum(sizes)[:-1])
    value = sum(s * means[side].mean() for s, side in zip(signs, sides))
    total = sum(s * deviations[side].mean(0) for s, side in zip(signs, sides))
    num_prompts = sum(d.num_prompts for d in draws)
    return _with_seeds(float(value), np.asarray(total), _seed_values(means, signs, sides), num_prompts)


def _seed_values(means: Array, signs: Sequence[float], sides: Sequence[Array]) -> list[Array]:
    """The values whose scatter is the seeds': paired differences where the sides have as many runs."""
    if len({len(side) for side in sides}) == 1:
        return [np.sum([s * means[side] for s, side in zip(signs, sides)], axis=0)]
    return [means[side] for side in sides]


def _with_seeds(value: float, total: Array, groups: Sequence[Array], num_prompts: int) -> _Estimate:
    """Add the scatter between runs; it includes their images' noise once more, which errs on the careful side."""
    parts = [(float(total.var()), max(num_prompts - 1, 1))]
    parts += [(float(v.var(ddof=1)) / len(v), len(v) - 1) for v in groups if len(v) > 1]
    variance = sum(v for v, _ in parts)
    spread = sum(v**2 / degrees for v, degrees in parts)
    degrees = min(variance**2 / spread, _MAX_DEGREES) if spread else _MAX_DEGREES
    return _Estimate(value, total, sum(v for v, _ in parts[1:]), degrees)


def _estimate(draws: Sequence[_Draws], size: dict[str, int]) -> dict[str, Any]:
    estimate = _combined(draws, (1.0,), (len(draws[0].means),))
    low, high = estimate.interval()
    if estimate.standard_error == 0.0 and estimate.value in (0.0, 1.0):
        # Every prompt alike leaves nothing to resample: the exact binomial bound, prompts as trials. Each task has its
        # own, and the mean over tasks is no surer than they are: few prompts in one are not made up for by another's.
        bound = float(np.mean([1 - ((1 - _LEVEL) / 2) ** (1 / d.num_prompts) for d in draws]))
        low, high = (0.0, bound) if estimate.value == 0.0 else (1 - bound, 1.0)
    return {"value": estimate.value, "ci": [max(low, 0.0), min(high, 1.0)], **size}


def _p_value(
    tables: Sequence[_Table],
    signs: Sequence[float],
    sizes: Sequence[int],
    estimate: _Estimate,
    resamples: int,
    seed: int,
) -> float:
    """One run a side: the prompts' signs are flipped (a randomization test). Seeds: a t test on the whole error."""
    if max(sizes) > 1:
        error = estimate.standard_error
        if error == 0.0:
            return 1.0 if estimate.value == 0.0 else 0.0
        return _t_tail(abs(estimate.value) / error, estimate.degrees)
    differences = np.concatenate([_differences(tables, tag, signs) / len(tables[0]) for tag in tables[0]])
    flips = np.random.default_rng([seed, len(differences)]).integers(0, 2, (resamples, len(differences))) * 2.0 - 1.0
    # Sums of the same terms in another order differ in the last digits.
    is_as_large = np.abs(flips @ differences) >= abs(differences.sum()) - 1e-12
    return float((1 + is_as_large.sum()) / (resamples + 1))


def _differences(tables: Sequence[_Table], tag: str, signs: Sequence[float]) -> Array:
    """Each prompt's part of the difference of this task's means."""
    counts = np.array([list(table[tag].values()) for table in tables], dtype=np.float64)
    shares = counts[..., 0] / counts[..., 1].sum(1, keepdims=True)
    return np.asarray(signs) @ shares


# --- Student's t ----------------------------------------------------------------------------------------------------


def _t_tail(t: float, degrees: float) -> float:
    """Two-sided tail probability."""
    angles, cumulative = _t_table(degrees)
    return float(1 - np.interp(np.arctan(t / np.sqrt(degrees)), angles, cumulative))


def _t_quantile(degrees: float) -> float:
    """The half-width of the central 95 %, in standard errors."""
    angles, cumulative = _t_table(degrees)
    return float(np.tan(np.interp(_LEVEL, cumulative, angles)) * np.sqrt(degrees))


@lru_cache(maxsize=64)
def _t_table(degrees: float) -> tuple[Array, Array]:
    """P(|T| < sqrt(degrees) tan(angle)): under that substitution the density is cos(angle)**(degrees - 1)."""
    angles = np.linspace(0.0, np.pi / 2, 20_001)
    density = np.cos(angles) ** (max(degrees, 1.0) - 1)
    cumulative = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return angles, cumulative / cumulative[-1]
