"""Intervals of differences between trained models: what prompts, training seeds and random draws each add.

Prompts and seeds are crossed: every seed's model is judged on the same prompts, so the choice of prompts is not in the
scatter of the seeds, and the luck of training is not in the scatter of the prompts. A difference has up to three parts:

    seeds     variance of the seeds' paired differences / S, with S - 1 degrees of freedom
    draws     the same of an arm's random draws (several narrow sets), where it has more than one
    prompts   per task, variance of the prompts' paired differences averaged over seeds, less what the seeds' part
              holds already (what one prompt's differences at two seeds do not share); "overall" is the mean of the
              task means. Where seeds have splits of the prompts of their own, a prompt weighs by its seeds

Each part has its own Student's t, and their half-widths are added as squares: half^2 = sum of t_i^2 v_i. Such an
interval covers at least 95 % for independent normal parts of any size (Banerjee 1960, "Approximate confidence interval
for linear functions of means of k populations when the population variances are not equal"). It is never narrower than
Student's t with S - 1 degrees of freedom on the seeds' paired differences alone, nor than the prompts' whole scatter
says, so that seeds which agree by luck hide nothing. Effective degrees of freedom (Satterthwaite) are not used: they
follow the estimated shares and cover less than 95 % (`python -m reports coverage` prints both).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Array = np.ndarray
# task -> (..., seeds, draws, prompts): shares of images judged right, or other values; NaN where a seed's split of the
# prompts leaves that prompt out, for all sides and draws alike
Side = Mapping[str, Array]

LEVEL, POWER = 0.95, 0.8
SIGNS = (1.0, -1.0, -1.0, 1.0)  # of the sides of a contrast, and of a difference of two contrasts


class Part(NamedTuple):
    """One source of variance of a mean; arrays where many studies are simulated at once."""

    name: str
    variance: Array  # of the mean
    degrees: Array
    alone: Array | None = None  # variance of the mean if there were no other part: what another part holds already too


@dataclass(frozen=True, kw_only=True)
class Inference:
    """A difference and the parts of its variance."""

    effect: float
    parts: Sequence[Part]

    @property
    def standard_error(self) -> float:
        return float(
            np.sqrt(max(np.sum([part.variance for part in self.parts]), *(_alone(part) for part in self.parts), 0))
        )

    def interval(self) -> tuple[float, float] | None:
        """At 95 %; None where nothing could be estimated, or nothing varies."""
        half = float(half_width(self.parts))
        return (self.effect - half, self.effect + half) if half > 0 else None

    def p_value(self, null: float) -> float | None:
        """Two-sided, that the true difference is `null`: 1 minus the level whose interval just reaches it."""
        from scipy.optimize import brentq

        distance = abs(self.effect - null)
        if self.standard_error == 0.0 or distance >= half_width(self.parts, 1 - 1e-9):
            return None if self.standard_error == 0.0 else 1e-9
        if distance == 0.0:
            return 1.0
        return float(brentq(lambda p: float(half_width(self.parts, 1 - p)) - distance, 1e-9, 1.0, xtol=1e-12))

    def detectable(self, smallest: float) -> float | None:
        """The true difference whose whole interval would lie above `smallest` four times in five."""
        error = self.standard_error
        if error == 0.0:
            return None
        critical, degrees = float(half_width(self.parts)) / error, float(effective_degrees(self.parts))
        return smallest + error * _noncentrality(critical, degrees)


def contrast(sides: Sequence[Side], weights: Sequence[float] = SIGNS) -> Inference:
    """The weighted sum of the sides (A - B, or (A - B) - (C - D)), of values of the same tasks, seeds and prompts."""
    effect = signed([values.mean((-2, -1)) for values in _means(sides)], weights)
    return Inference(effect=float(effect), parts=parts(sides, weights))


def parts(sides: Sequence[Side], weights: Sequence[float] = SIGNS) -> list[Part]:
    """The parts that these values can tell of; no prompts' part where no task has two prompts."""
    means = _means(sides)
    found = [*_scatter("seeds", signed([values.mean(-1) for values in means], weights)), *_draws(means, weights)]
    return [*found, *_prompts(sides, weights)]


def signed(values: Sequence[Array], weights: Sequence[float] = SIGNS) -> Array:
    """A - B, or (A - B) - (C - D), or by other weights, of the sides' values."""
    return np.sum([weight * value for weight, value in zip(weights, values)], axis=0)


def rise(levels: int) -> tuple[float, ...]:
    """The weights that give the rise of the least-squares line over equally spaced levels, the highest one first."""
    places = np.linspace(0.5, -0.5, levels)
    return tuple(float(weight) for weight in places / (places**2).sum())


def half_width(parts: Sequence[Part], level: float = LEVEL) -> Array:
    """Half of the interval: each part's Student quantile on its standard error, added as squares."""
    from scipy.special import stdtrit

    if not parts:
        return np.zeros(())
    quantiles = [stdtrit(part.degrees, (1 + level) / 2) for part in parts]
    together = sum(quantile**2 * part.variance for quantile, part in zip(quantiles, parts))
    alone = [quantile**2 * _alone(part) for quantile, part in zip(quantiles, parts)]
    return np.sqrt(np.max(np.broadcast_arrays(together, *alone), axis=0))


def _alone(part: Part) -> Array:
    return part.variance if part.alone is None else part.alone


def effective_degrees(parts: Sequence[Part]) -> Array:
    """Satterthwaite's degrees of freedom of the sum of the parts."""
    total = sum(part.variance for part in parts)
    return total**2 / np.maximum(sum(part.variance**2 / part.degrees for part in parts), 1e-300)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values adjusted together (Holm 1979), in their order."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def _means(sides: Sequence[Side]) -> list[Array]:
    """(..., seeds, draws) of each side: the mean of the task means."""
    return [np.mean([_over_prompts(values) for values in side.values()], axis=0) for side in sides]


def _over_prompts(values: Array) -> Array:
    return np.nanmean(values, axis=-1) if np.isnan(values).any() else values.mean(-1)


def _scatter(name: str, values: Array) -> list[Part]:
    """The part of the scatter along the last axis; none of a single value."""
    count = values.shape[-1]
    return [Part(name, values.var(-1, ddof=1) / count, np.asarray(count - 1.0))] if count > 1 else []


def _draws(means: Sequence[Array], weights: Sequence[float]) -> list[Part]:
    """Sides with as many draws are paired by draw, as seeds are; else each side's draws are a part of their own."""
    drawn = [weight * values.mean(-2) for weight, values in zip(weights, means) if values.shape[-1] > 1]
    if len({values.shape[-1] for values in drawn}) == 1:
        drawn = [np.sum(drawn, axis=0)]
    return [part for values in drawn for part in _scatter("draws", values)]


class _Task(NamedTuple):
    """The prompts' variance of one task's mean: all of it, and what the seeds' scatter does not hold already."""

    raw: Array
    pure: Array
    prompts: int  # at the seed that has fewest


def _prompts(sides: Sequence[Side], weights: Sequence[float]) -> list[Part]:
    """The part of the prompts, tasks averaged; a task of one prompt is given the others' mean variance of a prompt."""
    tasks = [_task(signed([side[task].mean(-2) for side in sides], weights)) for task in sides[0]]
    usable = [task for task in tasks if task.prompts > 1]
    if not usable:
        return []
    raw_one = np.mean([task.prompts * task.raw for task in usable], axis=0)
    pure_one = np.mean([task.prompts * task.pure for task in usable], axis=0)
    tasks = [task if task.prompts > 1 else _Task(raw_one, pure_one, 1) for task in tasks]
    raw = np.sum([task.raw for task in tasks], axis=0)
    spread = np.sum([task.raw**2 / max(task.prompts - 1, 1) for task in tasks], axis=0)
    degrees = np.maximum(raw**2 / np.maximum(spread, 1e-300), 1.0)
    pure = np.maximum(np.sum([task.pure for task in tasks], axis=0), 0.0)
    return [Part("prompts", pure / len(tasks) ** 2, degrees, raw / len(tasks) ** 2)]


def _task(values: Array) -> _Task:
    """Of a task's differences (..., seeds, prompts). A prompt adds to the mean what it deviates in each seed, over the
    seed's prompts and the seeds; what two seeds' deviations share is the prompt's own, the squares of each are not."""
    seeds, has = values.shape[-2], ~np.isnan(values)
    counts = has.sum(-1, keepdims=True)
    fewest = int(counts.min())
    if fewest < 2:
        return _Task(np.zeros(values.shape[:-2]), np.zeros(values.shape[:-2]), fewest)
    deviations = np.where(has, values - _over_prompts(values)[..., None], 0.0) / (counts * seeds)
    correction = fewest / (fewest - 1)
    raw = correction * (deviations.sum(-2) ** 2).sum(-1)
    single = correction * (deviations**2).sum((-2, -1))
    return _Task(raw, (raw - single) * seeds / (seeds - 1) if seeds > 1 else raw, fewest)


def _noncentrality(critical: float, degrees: float) -> float:
    """The true difference, in standard errors, that exceeds `critical` of them with the wanted power."""
    from scipy.optimize import brentq
    from scipy.special import nctdtr, ndtri

    if degrees > 200:
        return critical + float(ndtri(POWER))
    return float(brentq(lambda shift: 1 - nctdtr(degrees, shift, critical) - POWER, 0.0, 4 * critical + 10))
