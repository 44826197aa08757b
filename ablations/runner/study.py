"""A study: one question, a function from a setting and a seed to the variants that can answer it, and the contrasts."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from ablations.runner.step import Step

if TYPE_CHECKING:
    from pathlib import Path

Side = str | tuple[str, ...]

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One arm of a study: what it ends with; the steps that these need are made first."""

    name: str
    label: str
    factors: Mapping[str, str]
    ends: tuple[Step, ...] = ()
    why_not: str = ""  # why the setting does not allow it: then nothing of it is made
    scales: tuple[str, ...] = ()  # where it is made; () = at every scale
    optional: bool = False  # made only where it is named (--only)

    @property
    def is_control(self) -> bool:
        """Whether it bounds the scale (untrained, teacher) instead of answering; one seed of it is enough."""
        return "control" in self.factors


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Side `a` minus side `b`; with `minus`, the difference of two such differences; with `between`, the rise from
    level `b` to level `a` of the line through all levels.

    A side is a variant, or several: independent draws of the same arm, whose factor "draw" tells them apart and whose
    luck the interval holds as it does the seeds'.
    """

    name: str
    label: str
    a: Side
    b: Side
    claim: str  # what a positive difference would support
    metric: str = "geneval/overall"
    smallest_effect: float = 0.03  # the smallest difference worth acting on, in the metric's own unit
    minus: tuple[Side, Side] | None = None
    between: tuple[Side, ...] = ()  # the levels between `a`, the highest, and `b`, the lowest, downwards
    primary: bool = False  # the one that the study was made for; the others are corrected together
    published_effect: float | None = None  # what a paper reports, in the metric's unit
    published_source: str = ""

    @property
    def variants(self) -> tuple[str, ...]:
        """The names of all variants that it compares."""
        sides = (self.a, *self.between, self.b, *(self.minus or ()))
        return tuple(name for side in sides for name in _names(side))

    def of_made(self, made: Collection[str]) -> Contrast | None:
        """The contrast of those variants alone: of several draws those that are among them; None without a side."""

        def left(side: Side) -> Side:
            names = tuple(name for name in _names(side) if name in made)
            return side if names == _names(side) else names

        minus = (left(self.minus[0]), left(self.minus[1])) if self.minus else None
        found = replace(
            self, a=left(self.a), b=left(self.b), between=tuple(left(side) for side in self.between), minus=minus
        )
        return found if all((found.a, found.b, *found.between, *(minus or ()))) else None


def _names(side: Side) -> tuple[str, ...]:
    return (side,) if isinstance(side, str) else tuple(side)


@dataclass(frozen=True, kw_only=True)
class Split:
    """A part of the evaluation prompts that is also reported alone."""

    name: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Study:
    """Everything that one file in `ablations/studies/` says."""

    name: str
    title: str
    question: str
    claim: str
    source: str  # where the claim stands
    variants: Callable[[Any, int], Sequence[Variant]]  # of (setting, seed)
    contrasts: Sequence[Contrast]
    further: Callable[[Any], Sequence[Contrast]] = lambda setting: ()  # contrasts that only some settings have
    draws: Literal["crossed", "nested"] = "crossed"  # a draw is the same for all seeds, or each seed has its own
    measures: Callable[[Any, str], bool] = lambda setting, metric: True  # whether a setting's cells have a metric
    interaction: Mapping[str, str] = field(default_factory=dict)  # {"rows": factor, "columns": factor}
    settings: Mapping[str, Any]  # by scale, each a frozen dataclass with a `runtime`
    notes: Mapping[str, str] = field(default_factory=dict)  # scale -> what a reader must know about it
    splits: Callable[[Any], Sequence[Split]] = lambda setting: ()  # of a setting's evaluation prompts
    told: Callable[[Any], str] = lambda setting: (
        ""
    )  # what a reader must know of a setting; ValueError: it cannot be made
    steps: Mapping[str, type[Step]]  # the classes that a plan may name
    imports: Sequence[str] = ()  # what its steps import (`module`, `module:name`): may be done once for all workers
    record: Callable[[Path, Cell, Any], None]  # of (cell's folder, cell, store): writes what a report reads

    def setting(self, scale: str) -> Any:
        """The setting of that scale."""
        if scale not in self.settings:
            raise ValueError(f"no scale {scale!r} in {self.name}; there are {', '.join(self.settings)}")
        return self.settings[scale]

    def contrasts_of(self, setting: Any) -> list[Contrast]:
        """Those of every setting, and those that this one has besides, as far as their metrics are measured."""
        found = [*self.contrasts, *self.further(setting)]
        return [contrast for contrast in found if self.measures(setting, contrast.metric)]

    def note(self, scale: str, setting: Any) -> str:
        """What a reader must know of the scale and the setting. ValueError for one of which nothing can be made."""
        return " ".join(text for text in (self.notes.get(scale, ""), self.told(setting)) if text)

    def variants_of(self, scale: str, setting: Any, seed: int) -> list[Variant]:
        """The variants that belong to `scale`; names, and those that contrasts use, are checked."""
        found = list(self.variants(setting, seed))
        names = [variant.name for variant in found]
        for name in (self.name, *names):
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} cannot name a folder: use a-z, 0-9, '_', '-' and '.', at most 64 of them")
        if len(set(names)) != len(names):
            raise ValueError(f"study {self.name}: two variants share a name in {', '.join(names)}")
        contrasts = self.contrasts_of(setting)
        if sum(contrast.primary for contrast in contrasts) > 1:
            raise ValueError(f"study {self.name}: more than one contrast is primary")
        for contrast in contrasts:
            for name in contrast.variants:
                if name not in names:
                    raise ValueError(f"contrast {contrast.name}: no variant {name!r}; there are {', '.join(names)}")
        return [variant for variant in found if scale in (variant.scales or (scale,))]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One variant at one seed: all of its steps in running order, and where it belongs."""

    study: str
    scale: str
    variant: str
    seed: int
    ends: tuple[Step, ...]
    steps: tuple[Step, ...]
    key: str
    setting: Mapping[str, Any]  # as JSON, for the record

    @property
    def name(self) -> str:
        return f"{self.variant}-s{self.seed}"

    @property
    def num_judged(self) -> int:
        """Pictures that the cell judges."""
        return sum(step.num_judged for step in self.steps)

    def step(self, name: str) -> Step | None:
        """The first step of that name, if the cell has one."""
        return next((step for step in self.steps if step.name == name), None)
