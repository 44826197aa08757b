"""A study: one question, the variants of one recipe that can answer it, and the contrasts that do.

A recipe is a plain nested mapping, section -> name -> value, written out in full: what a stage depends on is then known
(and hashed) without importing the code that runs it. `tests/ablations/test_recipes.py` holds each section against the
dataclass that it fills.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from ablations.cells import Cell, Stage, Step
    from ablations.store import Store

    Record = Callable[[Path, Cell, Store, Mapping[str, Any]], None]

Recipe = Mapping[str, Mapping[str, Any]]

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One arm of a study: typed changes to the base recipe, given as {"section.name": value}."""

    name: str
    label: str
    factors: Mapping[str, str]
    overrides: Mapping[str, Any] = field(default_factory=dict)
    scales: tuple[str, ...] = ()  # where it can be made; () = at every scale
    optional: bool = False  # made only where it is named (--only)

    @property
    def is_control(self) -> bool:
        """Whether it bounds the scale (untrained, teacher) instead of answering; one seed of it is enough."""
        return "control" in self.factors


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Variant `a` minus variant `b`; with `minus`, the difference of two such differences."""

    name: str
    label: str
    a: str
    b: str
    claim: str  # what a positive difference would support
    metric: str = "geneval/overall"
    smallest_effect: float = 0.03  # the smallest difference worth acting on, in the metric's own unit
    minus: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Split:
    """A part of the evaluation prompts that is also reported alone."""

    name: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Study:
    """Everything that one file in `ablations/studies/` says.

    `path(recipe)` gives the steps of a cell in order; `stages` says what each step runs; `record` sums a cell up.
    """

    name: str
    title: str
    question: str
    claim: str
    source: str  # where the claim stands
    variants: Sequence[Variant]
    contrasts: Sequence[Contrast]
    splits: Sequence[Split]
    interaction: Mapping[str, str]  # {"rows": factor, "columns": factor}
    scales: Mapping[str, Recipe]
    notes: Mapping[str, str] = field(default_factory=dict)  # scale -> what a reader must know about it
    stages: Mapping[str, Stage]
    path: Callable[[Recipe], Sequence[Step]]
    num_images: Callable[[Recipe], int] = lambda recipe: 0  # pictures that a cell judges
    record: Record  # writes result.json and what a report shows beside it

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        for name in (self.name, *names):
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} cannot name a folder: use a-z, 0-9, '_', '-' and '.', at most 64 of them")
        if len(set(names)) != len(names):
            raise ValueError(f"study {self.name}: two variants share a name in {', '.join(names)}")
        for contrast in self.contrasts:
            for name in (contrast.a, contrast.b, *(contrast.minus or ())):
                if name not in names:
                    raise ValueError(f"contrast {contrast.name}: no variant {name!r}; there are {', '.join(names)}")

    def variant(self, name: str) -> Variant:
        """The variant of that name."""
        for variant in self.variants:
            if variant.name == name:
                return variant
        raise ValueError(f"no variant {name!r} in {self.name}; there are {', '.join(v.name for v in self.variants)}")

    def recipe(self, scale: str, variant: Variant) -> Recipe:
        """The base recipe of `scale` with the variant's changes."""
        if scale not in self.scales:
            raise ValueError(f"no scale {scale!r} in {self.name}; there are {', '.join(self.scales)}")
        return override(self.scales[scale], variant.overrides)


def override(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """A copy of `recipe` with {"section.name": value} changed; an unknown name or another type is refused."""
    changed = {section: dict(deepcopy(dict(values))) for section, values in recipe.items()}
    for path, value in changes.items():
        section, _, name = path.partition(".")
        if section not in changed:
            raise ValueError(f"no section {section!r} for {path!r}; there are {', '.join(changed)}")
        if name not in changed[section]:
            raise ValueError(f"no entry {name!r} for {path!r}; {section} has {', '.join(changed[section])}")
        if not _same_kind(changed[section][name], value):
            kind = type(changed[section][name]).__name__
            raise ValueError(f"{path} is {value!r}, a {type(value).__name__}; it must be a {kind}")
        changed[section][name] = float(value) if isinstance(changed[section][name], float) else value
    return changed


def _same_kind(old: Any, new: Any) -> bool:
    if isinstance(old, bool) or isinstance(new, bool):
        return isinstance(old, bool) and isinstance(new, bool)
    if isinstance(old, float):
        return isinstance(new, int | float)
    return isinstance(new, type(old))
