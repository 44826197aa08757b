"""`study.json`, what was asked, with the cells that answer it, each in cells/<variant>-s<seed>/ (cell.py).

schema 1     name, title, question, claim, source, scale: str     seeds: [int]
variants     [{name, label, factors {factor: level}, once (optional): one seed of it is enough}]
contrasts    [{name, label, a, b, metric, smallest_effect, claim, minus (optional): [c, d]}]
and optional:
splits       [{name, label}]           interaction   {"rows": factor, "columns": factor}      note   str
protocol     the resolved setting, a mapping of any depth
setting_changes   {dotted name: value}: what was given on the command line
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightgen.disk.json_files import read_json
from reports.records.cell import Cell, read_cell
from reports.records.fields import NUMBER, check_schema, checked

SCHEMA = 1
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
FIELDS = {
    "schema": int, "name": str, "title": str, "question": str, "claim": str, "source": str, "scale": str,
    "seeds": list, "variants": list, "contrasts": list,
}  # fmt: skip
VARIANT_FIELDS = {"name": str, "label": str, "factors": dict}
CONTRAST_FIELDS = {
    "name": str, "label": str, "a": str, "b": str, "metric": str, "smallest_effect": NUMBER, "claim": str,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A row of the study: its name in file names, its label for readers, its level of each factor."""

    name: str
    label: str
    factors: Mapping[str, str]
    once: bool = False  # one seed of it is enough

    @property
    def is_control(self) -> bool:
        return "control" in self.factors


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A question with an answer: `a` minus `b` (minus the same difference of the pair `minus`, if given)."""

    name: str
    label: str
    a: str
    b: str
    metric: str
    smallest_effect: float
    claim: str
    minus: tuple[str, str] | None = None

    @property
    def variants(self) -> tuple[str, ...]:
        return (self.a, self.b, *(self.minus or ()))


@dataclass(frozen=True, kw_only=True)
class Study:
    """`study.json` and all cells it asks for, in its order."""

    folder: Path
    name: str
    title: str
    question: str
    claim: str
    source: str
    scale: str
    seeds: tuple[int, ...]
    note: str
    variants: tuple[Variant, ...]
    contrasts: tuple[Contrast, ...]
    splits: tuple[tuple[str, str], ...]  # (name, label)
    interaction: Mapping[str, str]  # {"rows": factor, "columns": factor} or empty
    protocol: Mapping[str, Any]
    setting_changes: Mapping[str, Any]
    cells: tuple[Cell, ...]

    def variant(self, name: str) -> Variant:
        return next(variant for variant in self.variants if variant.name == name)

    def complete(self, variant: str | None = None) -> list[Cell]:
        """The complete cells (of a variant), by seed."""
        return [cell for cell in self.cells if variant in (None, cell.variant) and cell.is_complete]

    def incomplete(self) -> list[Cell]:
        return [cell for cell in self.cells if not cell.is_complete]

    def problems(self) -> list[str]:
        """What keeps the study from being finished, a line each."""
        found = [f"{cell.state}: {cell.name}: {cell.reason}" for cell in self.incomplete()]
        silent = [cell.name for cell in self.complete() if not cell.rows]
        return found + [f"no verdicts: {name}: its record names no GenEval results" for name in silent]

    def variants_in_order(self) -> list[Variant]:
        """The variants under test, then the controls."""
        return sorted(self.variants, key=lambda variant: variant.is_control)


def read_study(folder: Path) -> Study:
    """The study in `folder` with its cells. A broken cell is kept as "unreadable"; a broken study.json raises."""
    folder = Path(folder)
    path = folder / "study.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not found; give the folder that `python -m ablations.run` wrote to")
    data = checked(read_json(path), FIELDS, str(path))
    check_schema(data, SCHEMA, str(path))
    variants = tuple(_variant(entry, f"{path}: variants[{i}]") for i, entry in enumerate(data["variants"]))
    names = [variant.name for variant in variants]
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: variants: a name occurs twice in {names}")
    if not all(type(seed) is int for seed in data["seeds"]):
        raise ValueError(f"{path}: seeds: expected integers, found {data['seeds']}")
    return Study(
        folder=folder,
        seeds=tuple(data["seeds"]),
        note=data.get("note") or "",
        variants=variants,
        contrasts=tuple(_contrast(e, names, f"{path}: contrasts[{i}]") for i, e in enumerate(data["contrasts"])),
        splits=tuple((split["name"], split.get("label", split["name"])) for split in data.get("splits") or ()),
        interaction=data.get("interaction") or {},
        protocol=data.get("protocol") or {},
        setting_changes=data.get("setting_changes") or {},
        cells=_cells(folder, data, variants),
        **{key: data[key] for key in ("name", "title", "question", "claim", "source", "scale")},
    )


def _variant(entry: Any, where: str) -> Variant:
    data = checked(entry, VARIANT_FIELDS, where)
    if not NAME.fullmatch(data["name"]):
        raise ValueError(f"{where}: name: {data['name']!r} cannot name a folder; use letters, digits, '_', '.', '-'")
    factors = {str(k): str(v) for k, v in data["factors"].items()}
    once = bool(data.get("once", "control" in factors))
    return Variant(name=data["name"], label=data["label"], factors=factors, once=once)


def _contrast(entry: Any, variants: list[str], where: str) -> Contrast:
    data = checked(entry, CONTRAST_FIELDS, where)
    minus = data.get("minus")
    if minus is not None and not (isinstance(minus, list) and len(minus) == 2):
        raise ValueError(f"{where}: minus: expected null or two variants, found {minus!r}")
    contrast = Contrast(**{key: data[key] for key in CONTRAST_FIELDS}, minus=tuple(minus) if minus else None)
    for name in contrast.variants:
        if name not in variants:
            raise ValueError(f"{where}: {name!r} is not a variant; known: {', '.join(variants)}")
    return contrast


def _cells(folder: Path, data: dict, variants: tuple[Variant, ...]) -> tuple[Cell, ...]:
    """All cells but the missing seeds of a variant that needs one and has one: a teacher has no training seed."""
    common = {"study": data["name"], "scale": data["scale"]}
    cells = [
        read_cell(folder, {**common, "variant": variant.name, "seed": seed})
        for variant in variants
        for seed in data["seeds"]
    ]
    single = {variant.name for variant in variants if variant.once}
    present = {cell.variant for cell in cells if cell.state != "missing"}
    return tuple(
        cell for cell in cells if not (cell.state == "missing" and cell.variant in single and cell.variant in present)
    )
