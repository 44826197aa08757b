"""Simulated coverage of the intervals in inference.py: studies are drawn whose true difference is known."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from reports.inference import Array, Part, Side, effective_degrees, half_width, parts, signed
from reports.tables.table import Entry, Table

BASES = {"binary": (0.8, 0.6, 0.5, 0.65, 0.35, 0.2), "binary, rare": (0.05,) * 6, "Gaussian": (0.5,) * 6}
SHARES = (0.1, 0.5, 0.9)
KINDS = {"contrast": (2, 1), "interaction": (4, 1), "contrast, 3 draws of b": (2, 3)}  # sides, draws of each second one
COPIES = 4  # images of a prompt
PROMPT_SPREAD = 0.1  # of a prompt's effect on one side
EFFECT = 0.05
BATCH = 500  # studies drawn at a time


@dataclass(frozen=True, kw_only=True)
class Design:
    """A study to be drawn many times."""

    outcome: str = "binary"  # of BASES
    kind: str = "contrast"  # of KINDS
    seeds: int = 3
    prompts: int = 8  # a task
    share: float = 0.5  # of the variance of the difference that the seeds carry

    @property
    def seed_spread(self) -> float:
        """Standard deviation of a seed's effect on one side, and of a draw's."""
        images = np.mean([base * (1 - base) for base in BASES[self.outcome]]) / COPIES
        others = (PROMPT_SPREAD**2 + images / self.seeds) / (self.prompts * len(BASES[self.outcome]))
        return float(np.sqrt(self.seeds * others * self.share / (1 - self.share)))


def designs(prompts: Sequence[int] = (8, 30, 100)) -> Iterator[Design]:
    """Every combination of outcome, kind, seeds, prompts a task and share of the seeds."""
    for outcome, kind, seeds, count, share in product(BASES, KINDS, (2, 3, 5), prompts, SHARES):
        yield Design(outcome=outcome, kind=kind, seeds=seeds, prompts=count, share=share)


def coverage(design: Design, *, trials: int, seed: int = 0) -> tuple[float, float]:
    """The shares of drawn studies whose interval holds the true difference: by the rule, by Satterthwaite's degrees."""
    generator = np.random.default_rng([seed, *f"{design}".encode()])
    sizes = [min(BATCH, trials - start) for start in range(0, trials, BATCH)]
    hits = np.sum([_hits(design, size, generator) for size in sizes], axis=0)
    return float(hits[0] / trials), float(hits[1] / trials)


def table(*, trials: int, seed: int = 0) -> Table:
    """The coverage of every design, a column a share of the seeds."""
    rows: dict[tuple[str, ...], list[Entry]] = {}
    data = []
    for design in designs():
        rule, other = coverage(design, trials=trials, seed=seed)
        row = rows.setdefault((design.outcome, design.kind, str(design.seeds), str(design.prompts)), [])
        row.append(Entry(f"{100 * rule:.1f}", f"({100 * other:.1f})"))
        data.append({**vars(design), "coverage": rule, "satterthwaite": other})
    return Table(
        name="coverage",
        title="Coverage of 95 % intervals, in percent",
        note=f"{trials} drawn studies of six tasks a number, {COPIES} images a prompt. In brackets: with "
        "Satterthwaite's degrees of freedom on the whole error, no narrower than Student's t on the seeds alone",
        header=["outcome", "of", "seeds", "prompts a task", *(f"seeds carry {100 * share:.0f} %" for share in SHARES)],
        rows=[[*map(Entry, key), *entries] for key, entries in rows.items()],
        data=data,
        text_columns=2,
    )


def _hits(design: Design, trials: int, generator: np.random.Generator) -> tuple[int, int]:
    sides = [_side(design, place, trials, generator) for place in range(KINDS[design.kind][0])]
    truth = signed([_expected(design, place) for place in range(len(sides))])
    effect = signed([np.mean([values.mean((-3, -2, -1)) for values in side.values()], axis=0) for side in sides])
    found, error = parts(sides), abs(effect - truth)
    return int((error <= half_width(found)).sum()), int((error <= _satterthwaite(found)).sum())


def _side(design: Design, place: int, trials: int, generator: np.random.Generator) -> Side:
    """{task: (trials, seeds, draws, prompts)}."""
    draws = _draws(design, place)
    luck = generator.normal(0, design.seed_spread, (trials, design.seeds, 1, 1))
    if draws > 1:
        luck = luck + generator.normal(0, design.seed_spread, (trials, 1, draws, 1))
    return {str(i): _values(design, base + luck, generator) for i, base in enumerate(_centers(design, place))}


def _values(design: Design, chance: Array, generator: np.random.Generator) -> Array:
    chance = chance + generator.normal(0, PROMPT_SPREAD, (len(chance), 1, 1, design.prompts))
    if design.outcome == "Gaussian":
        return generator.normal(chance, np.sqrt(0.25 / COPIES))
    return generator.binomial(COPIES, chance.clip(0, 1)) / COPIES


def _centers(design: Design, place: int) -> Array:
    return np.array(BASES[design.outcome]) + (EFFECT if place == 0 else 0.0)


def _draws(design: Design, place: int) -> int:
    return KINDS[design.kind][1] if place % 2 else 1


def _expected(design: Design, place: int) -> Array:
    """The mean of a side: of a normal number that is cut off at 0 and 1 where outcomes are binary."""
    from scipy.special import ndtr

    center = _centers(design, place)
    if design.outcome == "Gaussian":
        return center.mean()
    spread = np.sqrt(design.seed_spread**2 * (2 if _draws(design, place) > 1 else 1) + PROMPT_SPREAD**2)
    low, high = (0 - center) / spread, (1 - center) / spread
    inside = center * (ndtr(high) - ndtr(low)) + spread * (_density(low) - _density(high))
    return (inside + ndtr(-high)).mean()


def _density(value: Array) -> Array:
    return np.exp(-(value**2) / 2) / np.sqrt(2 * np.pi)


def _satterthwaite(found: Sequence[Part]) -> Array:
    """The rival: one t with effective degrees of freedom on the whole error, no narrower than t on the seeds alone."""
    from scipy.special import stdtrit

    whole = stdtrit(effective_degrees(found), 0.975) * np.sqrt(sum(part.variance for part in found))
    return np.maximum(whole, half_width([part for part in found if part.name == "seeds"]))
