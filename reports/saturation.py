"""Where a score stops rising with the logarithm of an amount: a line that bends to level.

score = a + b * min(log10 amount, bend), b >= 0, by least squares (a broken line). Where nothing rises the bend is the
smallest amount; between that and the next every bend would fit alike, so the next is taken.

V amounts, S seeds, P prompts.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from reports.inference import Array, Part, half_width
from reports.records.cell import Cell
from reports.records.study import Study

GRID = 401  # places of the bend that are tried, evenly in the logarithm
DRAWS = 2000  # of the prompts, with replacement within each task
# By how many ends of an interval are those of what was measured.
CUT = ("", "; one end is that of what was measured", "; both ends are those of what was measured: not known")


class Saturation(NamedTuple):
    """The amount from which on the score is level; the interval is cut at the amounts that were measured."""

    amount: float
    interval: tuple[float, float]
    measured: tuple[float, float]  # the smallest and the largest amount
    seeds: int

    def line(self) -> str:
        """In words, an end of the interval that is one of what was measured named as such."""
        low, high = (f"{end:,.0f}" for end in self.interval)
        cut = sum(end == reached for end, reached in zip(self.interval, self.measured, strict=True))
        return f"{self.amount:,.0f} [{low}, {high}], {self.seeds} seeds{CUT[cut]}"


def saturation(study: Study, variants: Sequence[str], factor: str) -> Saturation:
    """Of `variants`, whose `factor` is an amount, smallest first.

    The bend's variance has two parts, added as a contrast's are (inference.py): the scatter of the seeds' own bends,
    and that of the mean curve's bend over draws of the prompts. ValueError where an amount is no number, or fewer than
    two seeds have all variants.
    """
    amounts = np.array([_amount(study, name, factor) for name in variants])
    cells = {(cell.variant, cell.seed): cell for cell in study.complete()}
    seeds = [seed for seed in study.seeds if all((name, seed) in cells for name in variants)]
    if len(variants) < 3 or len(seeds) < 2 or (np.diff(amounts) <= 0).any():
        raise ValueError(
            f"{study.name}: {len(seeds)} seeds have all of {', '.join(variants)}; a bend needs two seeds, and three "
            "variants of rising amounts"
        )
    x, tasks = np.log10(amounts), _shares([[cells[name, seed] for name in variants] for seed in seeds])
    overall = np.mean([shares.mean(-1) for shares in tasks], axis=0)  # (S, V)
    own = bends(overall, x)
    random = np.random.default_rng(0)
    drawn = np.mean([_redrawn(shares.mean(0), random) for shares in tasks], axis=0)  # (DRAWS, V)
    degrees = sum(shares.shape[-1] - 1 for shares in tasks)
    parts = [
        Part("seeds", np.array(own.var(ddof=1) / len(seeds)), np.array(len(seeds) - 1)),
        Part("prompts", bends(drawn, x).var(ddof=1), np.array(degrees)),
    ]
    bend, half = float(bends(overall.mean(0), x)), float(half_width(parts))
    ends = (max(float(x[0]), bend - half), min(float(x[-1]), bend + half))
    low, high = (
        float(amounts[place]) if end == x[place] else 10**end for place, end in zip((0, -1), ends, strict=True)
    )
    return Saturation(10**bend, (low, high), (float(amounts[0]), float(amounts[-1])), len(seeds))


def bends(scores: Array, x: Array) -> Array:
    """The bend of each curve of scores (..., V) over x (V,), in x's unit."""
    places = np.append(x[0], np.linspace(x[1], x[-1], GRID))
    lines = np.minimum(x, places[:, None])
    lines = lines - lines.mean(-1, keepdims=True)  # (1 + GRID, V)
    scale = (lines**2).sum(-1)
    along = (scores - scores.mean(-1, keepdims=True)) @ lines.T  # (..., 1 + GRID)
    # What a rising line leaves of the squares is least where this is most; a falling one is none, as is the first.
    explained = np.divide(np.maximum(along, 0) ** 2, scale, out=np.zeros_like(along), where=scale > 0)
    return places[explained.argmax(-1)]


def _redrawn(shares: Array, random: np.random.Generator) -> Array:
    """Means (DRAWS, V) of a task's shares (V, P) over prompts drawn anew."""
    count = shares.shape[-1]
    weights = random.multinomial(count, np.full(count, 1 / count), size=DRAWS) / count
    return weights @ shares.T


def _shares(cells: Sequence[Sequence[Cell]]) -> list[Array]:
    """For each task the shares of images judged right (S, V, P), of the same prompts in every cell."""
    first = cells[0][0].prompts
    for cell in (cell for row in cells for cell in row):
        if cell.prompts.keys() != first.keys():
            raise ValueError(f"{cell.folder}: judged on other prompts than {cells[0][0].name}")
    found = []
    for task in sorted({task for task, _, _ in first.values()}):
        keys = [key for key, (own, _, _) in first.items() if own == task]
        found.append(np.array([[[cell.prompts[key][2] for key in keys] for cell in row] for row in cells]))
    return found


def _amount(study: Study, variant: str, factor: str) -> float:
    if variant not in {known.name for known in study.variants}:
        raise ValueError(f"{study.name} has no variant {variant!r}")
    given = study.variant(variant).factors.get(factor)
    try:
        amount = float(given or "")
    except ValueError:
        amount = 0.0
    if not amount > 0:
        raise ValueError(f"{study.name}: {factor} of {variant} is {given!r}, no amount")
    return amount
