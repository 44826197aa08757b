"""Cells: a study expanded into variant x seed, each a chain of steps whose keys hash everything they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ablations.study import Recipe, Study


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a stage is given: an output folder, its inputs' folders, its part of the recipe, and ways to talk back."""

    out: Path
    inputs: Mapping[str, Path]
    recipe: Recipe  # only the sections that the stage declares
    seed: int
    stop: Callable[[], bool]  # true once the cell should save and leave
    progress: Callable[[float], None]  # fraction done


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One kind of step: its function returns facts (a JSON mapping) that are kept beside its files."""

    function: Callable[[Work], Mapping[str, Any]]
    version: int  # raised when the code changes what it writes
    sections: tuple[str, ...] = ()  # parts of the recipe it reads: "model" or "data.world"
    components: tuple[str, ...] = ()  # weight folders it reads, by their name in the recipe's "components"
    neutral: Mapping[str, Any] = field(default_factory=dict)  # values that a key leaves out: choices added later
    seeded: bool = False  # whether another seed gives another result
    resumable: bool = False  # whether its unfinished folder is worth keeping
    awaited: bool = False  # whether a cell should wait for another that is making this very step


@dataclass(frozen=True)
class Step:
    """A place in a chain: the stage's name and, for each of its input roles, the stage that fills it."""

    stage: str
    inputs: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class PlannedStep:
    """A step with its key: the same key always means the same result."""

    stage: str
    version: int
    key: str
    inputs: Mapping[str, str]
    recipe: Recipe  # only the sections that the stage declares
    seed: int

    @property
    def folder(self) -> str:
        return f"{self.stage}-{self.key[:16]}"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One variant at one seed."""

    variant: str
    seed: int
    recipe: Recipe
    steps: tuple[PlannedStep, ...]

    @property
    def name(self) -> str:
        return f"{self.variant}-s{self.seed}"

    @property
    def key(self) -> str:
        return _digest([step.key for step in self.steps])

    def step(self, stage: str) -> PlannedStep | None:
        """The step of that stage, if the cell has one."""
        return next((step for step in self.steps if step.stage == stage), None)


def plan_cells(study: Study, scale: str, seeds: Sequence[int], only: Sequence[str] = ()) -> list[Cell]:
    """All cells in running order: seed by seed, and within one the bases before the variants built on them.

    Without names in `only`, every variant that is not optional.
    """
    variants = [study.variant(name) for name in only] or [v for v in study.variants if not v.optional]
    variants = [variant for variant in variants if scale in (variant.scales or (scale,))]
    cells: list[Cell] = []
    for seed in dict.fromkeys(seeds):
        planned = [_plan(study, scale, v, seed) for v in variants if not (v.is_control and cells)]
        cells += sorted(planned, key=lambda cell: _is_built_on(cell, planned, study.stages))
    return cells


def _plan(study: Study, scale: str, variant: Any, seed: int) -> Cell:
    recipe = study.recipe(scale, variant)
    steps: dict[str, PlannedStep] = {}
    for step in study.path(recipe):
        stage = study.stages[step.stage]
        part = _part(recipe, stage)
        weights = {name: component_identity(component_folder(part["components"][name])) for name in stage.components}
        own_seed = seed if stage.seeded else 0
        upstream = {role: steps[name].key for role, name in step.inputs.items()}
        settings = _without_neutral({name: part[name] for name in part if name != "components"}, stage.neutral)
        key = _digest([step.stage, stage.version, settings, weights, own_seed, upstream])
        steps[step.stage] = PlannedStep(
            stage=step.stage, version=stage.version, key=key, inputs=dict(step.inputs), recipe=part, seed=own_seed
        )
    return Cell(variant=variant.name, seed=seed, recipe=recipe, steps=tuple(steps.values()))


def _is_built_on(cell: Cell, others: Sequence[Cell], stages: Mapping[str, Stage]) -> bool:
    """Whether a shorter cell makes a step that this one would wait for."""
    awaited = {step.key for step in cell.steps if stages[step.stage].awaited}
    shorter = [other for other in others if len(other.steps) < len(cell.steps)]
    return any(step.key in awaited for other in shorter for step in other.steps)


def _part(recipe: Recipe, stage: Stage) -> dict[str, dict[str, Any]]:
    """What the stage declares of the recipe, and nothing else: so it cannot read what its key does not hold."""
    part: dict[str, dict[str, Any]] = {}
    for path in (*stage.sections, *(f"components.{name}" for name in stage.components)):
        section, _, name = path.partition(".")
        part.setdefault(section, {}).update({name: recipe[section][name]} if name else recipe[section])
    return part


def _without_neutral(part: Mapping[str, Mapping[str, Any]], neutral: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings that a key holds: a choice that was added later and is not made changes no key made before it."""
    chosen = {
        section: {
            name: value
            for name, value in values.items()
            if (path := f"{section}.{name}") not in neutral or value != neutral[path]
        }
        for section, values in part.items()
    }
    return {section: values for section, values in chosen.items() if values}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=list).encode()).hexdigest()


def component_folder(name: str) -> Path:
    """The weights' folder: a bare name is one that comes with the icon world, anything else a path of the user's."""
    return Path(name) if "/" in name else Path(__file__).parent / "icons" / "components" / name


@cache
def component_identity(folder: Path) -> str:
    """sha256 over a weight folder's files, names and bytes; the same for every copy of the folder."""
    files = sorted(p for p in folder.rglob("*") if p.suffix in {".safetensors", ".json", ".txt", ".model"})
    files = [path for path in files if path.name != "quality.json"]  # a measurement of the weights, not part of them
    if not any(path.suffix == ".safetensors" for path in files):
        raise FileNotFoundError(
            f"{folder} holds no .safetensors weights; the icon world's own come with the repository"
            " (python -m ablations.icons.build all makes them again)"
        )
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(f"{path.relative_to(folder)}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def cell_to_json(cell: Cell) -> dict[str, Any]:
    """The cell as `plan.json` holds it."""
    return {"name": cell.name, **asdict(cell)}


def cell_from_json(data: Mapping[str, Any]) -> Cell:
    """The inverse of `cell_to_json`."""
    steps = tuple(PlannedStep(**step) for step in data["steps"])
    return Cell(variant=data["variant"], seed=data["seed"], recipe=data["recipe"], steps=steps)
