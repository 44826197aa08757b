"""A study planned: variants x seeds as cells, and plan.json, from which any worker can make one of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ablations.runner import graph
from ablations.runner.step import Step, in_order
from ablations.runner.study import Cell, Study, Variant
from lightgen.disk.json_files import read_object, typed, write_sealed

SCHEMA = 2
EVERY = "all"  # instead of variants' names: optional ones too


def plan_cells(study: Study, scale: str, setting: Any, seeds: Sequence[int], only: Sequence[str] = ()) -> list[Cell]:
    """All cells in running order: seed by seed, and within one the bases before the variants built on them.

    Without names in `only`, every variant that is not optional; of "all", every one. Controls are made at the first
    seed alone.
    """
    described = plain(setting)
    cells: list[Cell] = []
    for seed in dict.fromkeys(seeds):
        variants = _chosen(study, study.variants_of(scale, setting, seed), only)
        planned = [
            _cell(study.name, scale, variant.name, seed, variant.ends, described)
            for variant in variants
            if not (variant.is_control and cells)
        ]
        cells += sorted(planned, key=lambda cell: _is_built_on(cell, planned))
    return cells


def optional_variants(study: Study, scale: str, setting: Any, cells: Sequence[Cell]) -> list[str]:
    """The names of optional variants that could be made at `scale` and are not among the cells."""
    planned = {cell.variant for cell in cells}
    found = study.variants_of(scale, setting, 0)
    return [
        variant.name for variant in found if variant.optional and not variant.why_not and variant.name not in planned
    ]


def plain(setting: Any) -> dict[str, Any]:
    """The setting as JSON."""
    return json.loads(json.dumps(asdict(setting), default=str))


def write_plan(path: Path, study: Study, scale: str, cells: Sequence[Cell]) -> None:
    """plan.json: every step once, and of each cell what it ends with. Cells of an earlier plan of the study stay: their
    jobs may be waiting in a queue."""
    entries = [{"variant": cell.variant, "seed": cell.seed, "ends": [step.key for step in cell.ends]} for cell in cells]
    steps = graph.to_json(step for cell in cells for step in cell.ends)
    earlier = _checked(path) if path.is_file() else {}
    if earlier.get("schema") == SCHEMA and (earlier["study"], earlier["scale"]) == (study.name, scale):
        names = {(entry["variant"], entry["seed"]) for entry in entries}
        entries += [entry for entry in earlier["cells"] if (entry["variant"], entry["seed"]) not in names]
        steps = earlier["steps"] | steps
    write_sealed(
        path,
        {
            "schema": SCHEMA,
            "study": study.name,
            "scale": scale,
            "setting": cells[0].setting if cells else {},
            "steps": steps,
            "cells": entries,
        },
    )


def read_plan(out: Path) -> dict[str, Any]:
    """OUT/plan.json."""
    path = out / "plan.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; `python -m ablations.run STUDY --out {out}` writes it")
    plan = _checked(path)
    if plan.get("schema") != SCHEMA:
        raise ValueError(f"{path} is no plan of this version; give the command that wrote it again")
    return plan


def _checked(path: Path) -> dict[str, Any]:
    """A plan whose fields have their types; of another schema, as it is."""
    plan = read_object(path)
    if plan.get("schema") == SCHEMA:
        typed(plan, str(path), study=str, scale=str, setting=dict, steps=dict, cells=list)
        for place, entry in enumerate(plan["cells"]):
            typed(entry, f"{path}: cells[{place}]", variant=str, seed=int, ends=list)
            if lost := [key for key in entry["ends"] if not isinstance(key, str) or key not in plan["steps"]]:
                raise ValueError(f"{path}: cells[{place}]: ends: {lost[0]!r} is no step of the plan")
    return plan


def find_cell(plan: Mapping[str, Any], name: str, study: Study) -> Cell:
    """The cell of that name, its steps built from the study's table of classes alone."""
    names = {f"{entry['variant']}-s{entry['seed']}": entry for entry in plan["cells"]}
    if name not in names:
        raise ValueError(f"no cell {name!r} in the plan; there are {', '.join(names)}")
    entry = names[name]
    wanted = _leading_to(plan["steps"], entry["ends"])
    steps = graph.from_json({key: plan["steps"][key] for key in wanted}, study.steps)
    ends = tuple(steps[key] for key in entry["ends"])
    return _cell(study.name, plan["scale"], entry["variant"], entry["seed"], ends, plan["setting"])


def _leading_to(steps: Mapping[str, Any], ends: Sequence[str]) -> list[str]:
    """The keys of what leads to `ends`, in the plan's order: a cell is built without the others' weights and data."""
    wanted, todo = set[str](), list(ends)
    while todo:
        key = todo.pop()
        if key not in wanted:
            wanted.add(key)
            todo += _references(steps.get(key, {}))
    return [key for key in steps if key in wanted]


def _references(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [value["made by"]] if "made by" in value else [k for item in value.values() for k in _references(item)]
    return [k for item in value for k in _references(item)] if isinstance(value, list) else []


def _chosen(study: Study, variants: Sequence[Variant], only: Sequence[str]) -> list[Variant]:
    if not only or list(only) == [EVERY]:
        wanted = [variant for variant in variants if only or not variant.optional]
        if wanted and all(variant.why_not for variant in wanted):
            raise ValueError(f"{study.name} cannot be made of this setting: {wanted[0].why_not}")
        return [variant for variant in wanted if not variant.why_not]
    named = {variant.name: variant for variant in variants}
    for name in only:
        if name not in named:
            raise ValueError(f"no variant {name!r} in {study.name}; there are {', '.join(named)}")
        if named[name].why_not:
            raise ValueError(f"the variant {name} cannot be made: {named[name].why_not}")
    return [named[name] for name in only]


def _cell(study: str, scale: str, variant: str, seed: int, ends: tuple[Step, ...], setting: Mapping[str, Any]) -> Cell:
    steps = tuple(in_order(ends))
    key = hashlib.sha256(json.dumps([step.key for step in steps]).encode()).hexdigest()
    return Cell(study=study, scale=scale, variant=variant, seed=seed, ends=ends, steps=steps, key=key, setting=setting)


def _is_built_on(cell: Cell, others: Sequence[Cell]) -> bool:
    """Whether a shorter cell makes a step that this one would wait for."""
    slow = {step.key for step in cell.steps if step.is_slow}
    shorter = [other for other in others if len(other.steps) < len(cell.steps)]
    return any(step.key in slow for other in shorter for step in other.steps)
