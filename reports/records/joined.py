"""Runs of one study as one: other seeds, or other variants, made at another time or on another machine."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightgen.disk.json_files import read_json
from reports.records.cell import Cell
from reports.records.study import Study
from reports.words import flat

# What may differ: which cells there are, and what is no part of a result.
OF_CELLS = {"seeds", "variants", "contrasts", "seal", "setting_changes", "protocol"}


def joined(studies: Sequence[Study]) -> tuple[dict[str, Any], list[Cell]]:
    """What study.json of all of them says, and their cells.

    Contrasts are those of any of them; a cell that one lacks may be another's. ValueError where they are not of one
    study by one setting, or hold a cell twice with other results.
    """
    heads = [read_json(study.folder / "study.json") for study in studies]
    for study, head in zip(studies[1:], heads[1:], strict=True):
        _check(study, head, studies[0], heads[0])
    single = {variant.name for study in studies for variant in study.variants if variant.once}
    cells: dict[str, Cell] = {}
    for cell in (cell for study in studies for cell in study.complete()):
        if cell.variant in single and any(found.variant == cell.variant for found in cells.values()):
            continue  # one seed of it is enough, and more are the same pictures again
        first = cells.setdefault(cell.name, cell)
        if first.metrics != cell.metrics:
            raise ValueError(
                f"{first.folder} and {cell.folder}: the same cell with other results; remove the one that is not meant"
            )
    variants = _by_name([entry for head in heads for entry in head["variants"]])
    seeds = sorted({seed for head in heads for seed in head["seeds"]})
    for name, entry in variants.items():
        own = sorted(cell.seed for cell in cells.values() if cell.variant == name)
        entry.pop("seeds", None)
        if not entry.get("once") and own != seeds:
            entry["seeds"] = own
    contrasts = _by_name([entry for head in heads for entry in head["contrasts"]])
    body = {"seeds": seeds, "variants": list(variants.values()), "contrasts": list(contrasts.values())}
    order = list(variants)
    return heads[0] | body, sorted(cells.values(), key=lambda cell: (order.index(cell.variant), cell.seed))


def _by_name(entries: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The first of each name."""
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        found.setdefault(entry["name"], dict(entry))
    return found


def _check(study: Study, head: Mapping[str, Any], first: Study, first_head: Mapping[str, Any]) -> None:
    """Refuse what is not the same study by the same setting."""
    told = f"{study.folder} and {first.folder} are not runs of one study"
    others = sorted(name for name in {*head, *first_head} - OF_CELLS if head.get(name) != first_head.get(name))
    if others:
        raise ValueError(f"{told}: {', '.join(others)} differ")
    if changed := _changed(head, first_head):
        raise ValueError(f"{told}: {changed[0]} differs")
    for kind in ("variants", "contrasts"):
        before = _by_name(first_head[kind])
        for name, entry in _by_name(head[kind]).items():
            if name in before and _meaning(entry) != _meaning(before[name]):
                raise ValueError(f"{told}: {name} of {kind} differs")


def _changed(*heads: Mapping[str, Any]) -> list[str]:
    """The names at which two resolved settings differ, but for `runtime`, in which nothing is part of a result.

    A name that one of them lacks came later, with a default that changes nothing (ablations/runner/step.py): it differs
    where it was set by hand.
    """
    first, second = (flat(head.get("protocol") or {}) for head in heads)
    by_hand = {name for head in heads for name in head.get("setting_changes") or {}}
    names = {name for name in {*first, *second} if first.get(name) != second.get(name)}
    common = {*first} & {*second}
    return sorted(name for name in names if not name.startswith("runtime.") and (name in common or name in by_hand))


def _meaning(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in ("seeds", "label", "claim")}
