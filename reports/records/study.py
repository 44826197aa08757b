"""`study.json`, what was asked, with the cells that answer it, each in cells/<variant>-s<seed>/ (cell.py).

schema 1     name, title, question, claim, source, scale: str     seeds: [int]
variants     [{name, label, factors {factor: level}, and optional:
               once               one seed of it is enough
               seeds              [int]: those that were asked of it, where they are not all of the study's}]
contrasts    [{name, label, a, b, metric, smallest_effect, claim, and optional:
               minus              [c, d]: the difference of the differences a - b and c - d
               between            [sides]: the levels between a, the highest, and b, the lowest, downwards: instead of
                                  a - b the rise from b to a of the least-squares line through all levels, which are
                                  taken as equally spaced (a dose and its response)
               primary            true for the one contrast that the study is about; the first where none says so
               published_effect   number, with published_source str: what is claimed elsewhere}]
and optional:
splits       [{name, label}]           interaction   {"rows": factor, "columns": factor}      note   str
protocol     the resolved setting, a mapping of any depth
setting_changes   {dotted name: value}: what was given on the command line
draws             "crossed" (default): a draw is the same for all seeds; "nested": each seed has draws of its own

A side of a contrast (a, b, c, d, a level) is a variant, or a list of variants that are independent random draws of one
arm, as narrow sets drawn again; their level of the factor "draw" tells them apart. Sides with as many draws are paired
by them, as all sides are by seed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightgen.disk.json_files import read_json
from reports.inference import SIGNS, rise
from reports.records.cell import Cell, read_cell
from reports.records.fields import NUMBER, check_schema, checked

SCHEMA = 1
DRAWS = ("crossed", "nested")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
FIELDS = {
    "schema": int, "name": str, "title": str, "question": str, "claim": str, "source": str, "scale": str,
    "seeds": list, "variants": list, "contrasts": list,
}  # fmt: skip
VARIANT_FIELDS = {"name": str, "label": str, "factors": dict}
OPTIONAL = {"splits": list, "interaction": dict, "note": str, "protocol": dict, "setting_changes": dict}
MAX_LABEL, MAX_TEXT = 300, 20_000  # characters; a plot with longer labels would take hours
CONTRAST_FIELDS = {
    "name": str, "label": str, "a": (str, list), "b": (str, list), "metric": str, "smallest_effect": NUMBER,
    "claim": str,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A row of the study: its name in file names, its label for readers, its level of each factor."""

    name: str
    label: str
    factors: Mapping[str, str]
    once: bool = False  # one seed of it is enough
    seeds: tuple[int, ...] = ()  # asked of it

    @property
    def is_control(self) -> bool:
        return "control" in self.factors


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A question with an answer: side a minus side b (minus the same difference of sides c and d)."""

    name: str
    label: str
    sides: tuple[tuple[str, ...], ...]  # a, b, and c, d where there is a `minus`; or all levels, the highest first
    metric: str
    smallest_effect: float
    claim: str
    is_trend: bool = False  # the sides are levels
    is_primary: bool = False
    published_effect: float | None = None
    published_source: str = ""

    @property
    def side_names(self) -> tuple[str, ...]:
        return tuple(", ".join(side) for side in self.sides)

    @property
    def weights(self) -> tuple[float, ...]:
        """Of the sides."""
        return rise(len(self.sides)) if self.is_trend else SIGNS[: len(self.sides)]


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
    draws: str  # DRAWS
    cells: tuple[Cell, ...]
    names_primary: bool  # whether a contrast says that it is primary

    def variant(self, name: str) -> Variant:
        return next(variant for variant in self.variants if variant.name == name)

    def complete(self, variant: str | None = None) -> list[Cell]:
        """The complete cells (of a variant), by seed."""
        return [cell for cell in self.cells if variant in (None, cell.variant) and cell.is_complete]

    @property
    def seed_counts(self) -> str:
        """How many training seeds; the fewest and the most where variants differ."""
        counts = sorted({len(variant.seeds) for variant in self.variants if not variant.once})
        return f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(len(self.seeds))

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
    _check_optional(data, str(path))
    seeds = _seeds(data["seeds"], str(path))
    variants = tuple(_variant(entry, seeds, f"{path}: variants[{i}]") for i, entry in enumerate(data["variants"]))
    names = [variant.name for variant in variants]
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: variants: a name occurs twice in {names}")
    return Study(
        folder=folder,
        seeds=seeds,
        note=data.get("note") or "",
        variants=variants,
        contrasts=_contrasts(data["contrasts"], names, f"{path}: contrasts"),
        splits=tuple((split["name"], split.get("label", split["name"])) for split in data.get("splits") or ()),
        interaction=data.get("interaction") or {},
        protocol=data.get("protocol") or {},
        setting_changes=data.get("setting_changes") or {},
        draws=_draws(data, path),
        cells=_cells(folder, data, variants),
        names_primary=any(entry.get("primary") is True for entry in data["contrasts"]),
        **{key: data[key] for key in ("name", "title", "question", "claim", "source", "scale")},
    )


def readable_study(folder: Path) -> Study:
    """`read_study` for numbers that stand without their report: a cell that was made and cannot be read is refused, as
    they would rest on the others alone. A cell that is not there was not run."""
    study = read_study(folder)
    if broken := next((cell for cell in study.cells if cell.state == "unreadable"), None):
        raise ValueError(f"{folder}: {broken.name}: {broken.reason}")
    return study


def _draws(data: dict, path: Path) -> str:
    found = str(data.get("draws") or DRAWS[0])
    if found not in DRAWS:
        raise ValueError(f"{path}: draws: {found!r} is not one of {', '.join(DRAWS)}")
    return found


def _check_optional(data: dict, where: str) -> None:
    """The optional parts have their types, and no text is longer than a page can show."""
    for name, kind in OPTIONAL.items():
        if data.get(name) is not None and not isinstance(data[name], kind):
            raise ValueError(f"{where}: {name}: expected {kind.__name__}, found {type(data[name]).__name__}")
    for place, split in enumerate(data.get("splits") or ()):
        checked({"label": "", **checked(split, {"name": str}, where)}, {"label": str}, f"{where}: splits[{place}]")
        _check_length(split, f"{where}: splits[{place}]")
    for name, factor in (data.get("interaction") or {}).items():
        if not isinstance(factor, str):
            raise ValueError(f"{where}: interaction: {name}: expected the name of a factor")
    _check_length({name: data[name] for name in data if name not in ("protocol", "setting_changes")}, where)


def _check_length(entry: Mapping[str, Any], where: str) -> None:
    for name, value in entry.items():
        most = MAX_LABEL if name in ("name", "label") else MAX_TEXT
        if isinstance(value, str) and len(value) > most:
            raise ValueError(f"{where}: {name}: {len(value):,} characters; the limit is {most:,}")


def _seeds(given: Any, where: str) -> tuple[int, ...]:
    if not isinstance(given, list) or not all(type(seed) is int for seed in given):
        raise ValueError(f"{where}: seeds: expected integers, found {given!r}")
    return tuple(given)


def _variant(entry: Any, of_study: tuple[int, ...], where: str) -> Variant:
    data = checked(entry, VARIANT_FIELDS, where)
    if not NAME.fullmatch(data["name"]):
        raise ValueError(f"{where}: name: {data['name']!r} cannot name a folder; use letters, digits, '_', '.', '-'")
    _check_length({**data, **data["factors"]}, where)
    factors = {str(k): str(v) for k, v in data["factors"].items()}
    once = bool(data.get("once", "control" in factors))
    seeds = _seeds(data["seeds"], where) if data.get("seeds") is not None else of_study
    if strange := [seed for seed in seeds if seed not in of_study]:
        raise ValueError(f"{where}: seeds: {strange[0]} is not one of the study's, {list(of_study)}")
    return Variant(name=data["name"], label=data["label"], factors=factors, once=once, seeds=seeds)


def _contrasts(entries: list, variants: list[str], where: str) -> tuple[Contrast, ...]:
    """All of them, exactly one primary: the one that says so, or the first."""
    found = [_contrast(entry, variants, f"{where}[{i}]") for i, entry in enumerate(entries)]
    names = [contrast.name for contrast in found]
    primary = [contrast.name for contrast in found if contrast.is_primary]
    if len(primary) > 1:
        raise ValueError(f"{where}: {', '.join(primary)} are primary; one may be")
    if len(set(names)) < len(names):
        raise ValueError(f"{where}: a name occurs twice in {names}")
    return tuple(found if primary or not found else [replace(found[0], is_primary=True), *found[1:]])


def _contrast(entry: Any, variants: list[str], where: str) -> Contrast:
    data = checked(entry, CONTRAST_FIELDS, where)
    minus, between, claimed = data.get("minus"), data.get("between"), data.get("published_effect")
    if minus is not None and not (isinstance(minus, list) and len(minus) == 2):
        raise ValueError(f"{where}: minus: expected null or two variants, found {minus!r}")
    if not isinstance(between or [], list) or (between and minus is not None):
        raise ValueError(f"{where}: between: expected null or a list of sides, and then no minus; found {between!r}")
    if claimed is not None and type(claimed) not in NUMBER:
        raise ValueError(f"{where}: published_effect: expected a number or null, found {claimed!r}")
    _check_length(data, where)
    return Contrast(
        sides=tuple(_side(side, variants, where) for side in (data["a"], *(between or ()), data["b"], *(minus or ()))),
        is_trend=bool(between),
        is_primary=data.get("primary") is True,
        published_effect=claimed,
        published_source=str(data.get("published_source") or ""),
        **{key: data[key] for key in CONTRAST_FIELDS if key not in ("a", "b")},
    )


def _side(given: Any, variants: list[str], where: str) -> tuple[str, ...]:
    """One variant, or the draws of one arm."""
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not names or len(set(map(str, names))) < len(names):
        raise ValueError(f"{where}: expected a variant or a list of different ones, found {given!r}")
    for name in names:
        if name not in variants:
            raise ValueError(f"{where}: {name!r} is not a variant; known: {', '.join(variants)}")
    return tuple(names)


def _cells(folder: Path, data: dict, variants: tuple[Variant, ...]) -> tuple[Cell, ...]:
    """All cells but the missing seeds of a variant that needs one and has one: a teacher has no training seed."""
    common = {"study": data["name"], "scale": data["scale"]}
    cells = [
        read_cell(folder, {**common, "variant": variant.name, "seed": seed})
        for variant in variants
        for seed in variant.seeds
    ]
    single = {variant.name for variant in variants if variant.once}
    present = {cell.variant for cell in cells if cell.state != "missing"}
    return tuple(
        cell for cell in cells if not (cell.state == "missing" and cell.variant in single and cell.variant in present)
    )
