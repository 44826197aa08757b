"""Intervals of differences between trained models: what prompts, training seeds and random draws each add.

Prompts and seeds are crossed: every seed's model is judged on the same prompts, so the choice of prompts is not in the
scatter of the seeds, and the luck of training is not in the scatter of the prompts. A difference has up to three parts:

    seeds     variance of the seeds' paired differences / S, with S - 1 degrees of freedom
    draws     the same of an arm's random draws (several narrow sets), where it has more than one
    prompts   per task, variance of the prompts' paired differences averaged over seeds, less what the seeds' part
              holds already (the residual mean square / S); "overall" is the mean of the task means

Each part has its own Student's t, and their half-widths are added as squares: half^2 = sum of t_i^2 v_i. Such an
interval covers at least 95 % for independent normal parts of any size (Banerjee 1960, "Approximate confidence interval
for linear functions of means of k populations when the population variances are not equal"), and is never narrower
than Student's t with S - 1 degrees of freedom on the seeds' paired differences alone. Effective degrees of freedom
(Satterthwaite) are not used for it: they follow the estimated shares, and cover less than 95 % with two or three seeds
(`python -m reports coverage` prints both).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Array = np.ndarray
Side = Mapping[str, Array]  # task -> (..., seeds, draws, prompts): shares of images judged right, or other values

LEVEL, POWER = 0.95, 0.8
SIGNS = (1.0, -1.0, -1.0, 1.0)  # of the sides of a contrast, and of a difference of two contrasts


class Part(NamedTuple):
    """One source of variance of a mean; arrays where many studies are simulated at once."""

    name: str
    variance: Array  # of the mean
    degrees: Array


@dataclass(frozen=True, kw_only=True)
class Inference:
    """A difference and the parts of its variance."""

    effect: float
    parts: Sequence[Part]

    @property
    def standard_error(self) -> float:
        return float(np.sqrt(sum(part.variance for part in self.parts)))

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


def contrast(sides: Sequence[Side]) -> Inference:
    """Side A minus side B, or (A - B) - (C - D), of values of the same tasks, seeds and prompts."""
    return Inference(effect=float(signed([values.mean((-2, -1)) for values in _means(sides)])), parts=parts(sides))


def parts(sides: Sequence[Side]) -> list[Part]:
    """The parts that these values can tell of; no prompts' part where no task has two prompts."""
    means = _means(sides)
    found = [*_scatter("seeds", signed([values.mean(-1) for values in means])), *_draws(means)]
    return [*found, *_prompts(sides)]


def signed(values: Sequence[Array]) -> Array:
    """A - B, or (A - B) - (C - D), of the sides' values."""
    return np.sum([sign * value for sign, value in zip(SIGNS, values)], axis=0)


def half_width(parts: Sequence[Part], level: float = LEVEL) -> Array:
    """Half of the interval: each part's Student quantile on its standard error, added as squares."""
    from scipy.special import stdtrit

    squares = [stdtrit(part.degrees, (1 + level) / 2) ** 2 * part.variance for part in parts]
    return np.sqrt(np.sum(np.broadcast_arrays(*squares), axis=0)) if squares else np.zeros(())


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
    return [np.mean([values.mean(-1) for values in side.values()], axis=0) for side in sides]


def _scatter(name: str, values: Array) -> list[Part]:
    """The part of the scatter along the last axis; none of a single value."""
    count = values.shape[-1]
    return [Part(name, values.var(-1, ddof=1) / count, np.asarray(count - 1.0))] if count > 1 else []


def _draws(means: Sequence[Array]) -> list[Part]:
    """Sides with as many draws are paired by draw, as seeds are; else each side's draws are a part of their own."""
    drawn = [sign * values.mean(-2) for sign, values in zip(SIGNS, means) if values.shape[-1] > 1]
    if len({values.shape[-1] for values in drawn}) == 1:
        drawn = [np.sum(drawn, axis=0)]
    return [part for values in drawn for part in _scatter("draws", values)]


def _prompts(sides: Sequence[Side]) -> list[Part]:
    """The part of the prompts, tasks averaged; a task of one prompt is given the others' mean variance."""
    tasks = [signed([side[task].mean(-2) for side in sides]) for task in sides[0]]  # (..., seeds, prompts) each
    usable = [values for values in tasks if values.shape[-1] > 1]
    if not usable:
        return []
    squares = {id(values): _mean_squares(values) for values in usable}
    typical = tuple(np.mean([squares[id(values)][i] for values in usable], axis=0) for i in (0, 1))
    raw, pure, spread = 0.0, 0.0, 0.0
    for values in tasks:
        between, residual = squares.get(id(values), typical)
        weight = 1 / (values.shape[-1] * len(tasks) ** 2)
        raw = raw + weight * between
        pure = pure + weight * (between - residual)
        spread = spread + (weight * between) ** 2 / max(values.shape[-1] - 1, 1)
    degrees = np.maximum(np.asarray(raw) ** 2 / np.maximum(spread, 1e-300), 1.0)
    return [Part("prompts", np.maximum(pure, 0.0), degrees)]


def _mean_squares(values: Array) -> tuple[Array, Array]:
    """Of one task: the variance of the prompts' means, and how much of it is residual (in the seeds' part already)."""
    seeds, prompts = values.shape[-2:]
    between = values.mean(-2).var(-1, ddof=1)
    if seeds == 1:
        return between, np.zeros_like(between)
    residual = values - values.mean(-1, keepdims=True) - values.mean(-2, keepdims=True)
    residual = residual + values.mean((-2, -1), keepdims=True)
    return between, (residual**2).sum((-2, -1)) / ((seeds - 1) * (prompts - 1) * seeds)


def _noncentrality(critical: float, degrees: float) -> float:
    """The true difference, in standard errors, that exceeds `critical` of them with the wanted power."""
    from scipy.optimize import brentq
    from scipy.special import nctdtr, ndtri

    if degrees > 200:
        return critical + float(ndtri(POWER))
    return float(brentq(lambda shift: 1 - nctdtr(degrees, shift, critical) - POWER, 0.0, 4 * critical + 10))
