"""The strict reader, and the documentation, of what a report is built from: a study folder.

    DIR/study.json                       what was asked: variants, contrasts, splits, protocol
    DIR/cells/<variant>-s<seed>/         one trained and judged model
        result.json                      the record (below)
        results.jsonl                    GenEval verdicts, one image a line
        prompts.json                     {metadata string: {"split": name}}, which split a prompt belongs to
        training.jsonl preference.jsonl  curves, one logged step a line
        quality.json                     FID by number of images with its limit, and power spectra (below)
        samples.json  samples/*.png      the pictures to show, the same prompts in the same order in every cell

`result.json`, schema 1 (every field is required unless marked optional; other fields are ignored):

    schema    1                      study, variant, scale   str         seed   int
    config    resolved settings      inputs   {name: "sha256:..."}       items  {"geneval": "results.jsonl", ...}
    env       git, dirty, python, torch, device, packages {name: version}
    cost      train_seconds, train_samples, flops, images
    metrics   {name: {value: number or null, ci: [low, high] or null, n: int, clusters: int (optional),
                      higher_is_better: bool, version: str}}
    status    "complete", "partial", "failed", "diverged" or "stopped"
    reason    str (optional): why it is not complete

Metric names: "geneval/overall", "geneval/<task>", "geneval@<split>/overall", "geneval@<split>/<task>", and the
image-quality metrics, which carry their extractor, N and reference, such as "fid[icon-clip,n=1000,ref=5c1e07aa]". A
metric's version names everything that would change its value.

`quality.json` (every part optional):

    fid_by_n      [[images, FID], ...]      fid_infinity  {value, stderr}: the line through them over 1/N, at 0
    spectrum      frequencies (cycles per pixel), generated, reference: as many powers as frequencies

A packed study (`python -m reports pack`) has its .jsonl files compressed, with ".gz" behind their names.

NaN and infinity are refused everywhere: no number is better than a wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reports.jsonfiles import RecordError, lines, read_json, read_lines

SCHEMA = 1
STATUSES = ("complete", "partial", "failed", "diverged", "stopped")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")

NUMBER = (int, float)
RECORD_FIELDS = {
    "schema": int, "study": str, "variant": str, "seed": int, "scale": str, "config": dict, "inputs": dict, "env": dict,
    "cost": dict, "metrics": dict, "items": dict, "status": str,
}  # fmt: skip
METRIC_FIELDS = {
    "value": (*NUMBER, type(None)), "ci": (list, type(None)), "n": int, "higher_is_better": bool, "version": str,
}  # fmt: skip
STUDY_FIELDS = {
    "schema": int, "name": str, "title": str, "question": str, "claim": str, "source": str, "scale": str,
    "seeds": list, "variants": list, "contrasts": list,
}  # fmt: skip
VARIANT_FIELDS = {"name": str, "label": str, "factors": dict}
CONTRAST_FIELDS = {
    "name": str, "label": str, "a": str, "b": str, "metric": str, "smallest_effect": NUMBER, "claim": str,
}  # fmt: skip
ROW_FIELDS = {"filename": str, "tag": str, "prompt": str, "correct": bool, "reason": str, "metadata": str}
SAMPLE_FIELDS = {"file": str, "prompt": str, "correct": bool, "reason": str}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number with all that is needed to read it."""

    value: float | None
    ci: tuple[float, float] | None  # 95 %
    n: int  # images (or whatever the name counts)
    clusters: int | None  # prompts, where several images share one
    higher_is_better: bool
    version: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """`result.json`, checked."""

    study: str
    variant: str
    seed: int
    scale: str
    config: Mapping[str, Any]
    inputs: Mapping[str, Any]
    env: Mapping[str, Any]
    cost: Mapping[str, Any]
    metrics: Mapping[str, Metric]
    items: Mapping[str, str]
    status: str
    reason: str


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
class Cell:
    """One variant at one seed. `state` is the record's status, or "missing" or "unreadable" with the reason.

    Scores and items are only there when the state is "complete", so that nothing else can be shown as a score.
    """

    variant: str
    seed: int
    folder: Path
    state: str
    reason: str = ""
    record: Record | None = None
    rows: list[dict] = field(default_factory=list)  # GenEval verdicts; each row carries its "split"
    training: list[dict] = field(default_factory=list)
    preference: list[dict] = field(default_factory=list)
    samples: list[dict] = field(default_factory=list)
    quality: dict = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.variant}-s{self.seed}"

    @property
    def is_complete(self) -> bool:
        return self.state == "complete"


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
    cells: tuple[Cell, ...] = ()

    def variant(self, name: str) -> Variant:
        return next(variant for variant in self.variants if variant.name == name)

    def complete(self, variant: str) -> list[Cell]:
        """The variant's complete cells, by seed."""
        return [cell for cell in self.cells if cell.variant == variant and cell.is_complete]

    def incomplete(self) -> list[Cell]:
        return [cell for cell in self.cells if not cell.is_complete]


def read_study(folder: Path) -> Study:
    """The study in `folder` with its cells. A broken cell is kept as "unreadable"; a broken study.json raises."""
    folder = Path(folder)
    path = folder / "study.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not found; give the folder that `python -m ablations.run` wrote to")
    data = _check(read_json(path), STUDY_FIELDS, str(path))
    _check_schema(data, path)
    variants = tuple(_variant(entry, f"{path}: variants[{i}]") for i, entry in enumerate(data["variants"]))
    names = [variant.name for variant in variants]
    contrasts = tuple(_contrast(entry, names, f"{path}: contrasts[{i}]") for i, entry in enumerate(data["contrasts"]))
    if len(set(names)) < len(names):
        raise RecordError(f"{path}: variants: a name occurs twice in {names}")
    if not all(type(seed) is int for seed in data["seeds"]):
        raise RecordError(f"{path}: seeds: expected integers, found {data['seeds']}")
    study = Study(
        folder=folder,
        seeds=tuple(data["seeds"]),
        note=data.get("note") or "",
        variants=variants,
        contrasts=contrasts,
        splits=tuple((split["name"], split.get("label", split["name"])) for split in data.get("splits") or ()),
        interaction=data.get("interaction") or {},
        protocol=data.get("protocol") or {},
        **{key: data[key] for key in ("name", "title", "question", "claim", "source", "scale")},
    )
    cells = tuple(_read_cell(study, variant.name, seed) for variant in variants for seed in study.seeds)
    return Study(**{**vars(study), "cells": _without_idle_seeds(cells, variants)})


def read_record(path: Path) -> Record:
    """`result.json` at `path`; RecordError names the file and the field of the first thing that is wrong."""
    data = _check(read_json(path), RECORD_FIELDS, str(path))
    _check_schema(data, path)
    if data["status"] not in STATUSES:
        raise RecordError(f"{path}: status: {data['status']!r} is not one of {', '.join(STATUSES)}")
    metrics = {name: _metric(entry, f"{path}: metrics: {name}") for name, entry in data["metrics"].items()}
    keys = ("study", "variant", "seed", "scale", "config", "inputs", "env", "cost", "items", "status")
    return Record(metrics=metrics, reason=data.get("reason") or "", **{key: data[key] for key in keys})


def _check(data: Any, fields: Mapping[str, Any], where: str) -> dict:
    """`data` if it is an object that has every field in its type."""
    if not isinstance(data, dict):
        raise RecordError(f"{where}: expected an object, found {type(data).__name__}")
    for name, kind in fields.items():
        if name not in data:
            raise RecordError(f"{where}: {name}: missing")
        kinds = kind if isinstance(kind, tuple) else (kind,)
        # bool is an int to Python, never to a reader of a record.
        if not isinstance(data[name], kinds) or (isinstance(data[name], bool) and bool not in kinds):
            expected = " or ".join("null" if k is type(None) else k.__name__ for k in kinds)
            raise RecordError(f"{where}: {name}: expected {expected}, found {type(data[name]).__name__}")
    return data


def _check_schema(data: dict, path: Path) -> None:
    if data["schema"] != SCHEMA:
        raise RecordError(f"{path}: schema: {data['schema']} is not known; this version reads schema {SCHEMA}")


def _metric(entry: Any, where: str) -> Metric:
    data = _check(entry, METRIC_FIELDS, where)
    ci = data["ci"]
    if ci is not None and not (len(ci) == 2 and all(type(x) in NUMBER for x in ci) and ci[0] <= ci[1]):
        raise RecordError(f"{where}: ci: expected [low, high] or null, found {ci}")
    return Metric(
        value=data["value"],
        ci=None if ci is None else (float(ci[0]), float(ci[1])),
        n=data["n"],
        clusters=data.get("clusters"),
        higher_is_better=data["higher_is_better"],
        version=data["version"],
    )


def _variant(entry: Any, where: str) -> Variant:
    data = _check(entry, VARIANT_FIELDS, where)
    if not NAME.fullmatch(data["name"]):
        raise RecordError(f"{where}: name: {data['name']!r} cannot name a folder; use letters, digits, '_', '.', '-'")
    factors = {str(k): str(v) for k, v in data["factors"].items()}
    once = bool(data.get("once", "control" in factors))
    return Variant(name=data["name"], label=data["label"], factors=factors, once=once)


def _contrast(entry: Any, variants: list[str], where: str) -> Contrast:
    data = _check(entry, CONTRAST_FIELDS, where)
    minus = data.get("minus")
    if minus is not None and not (isinstance(minus, list) and len(minus) == 2):
        raise RecordError(f"{where}: minus: expected null or two variants, found {minus!r}")
    contrast = Contrast(**{key: data[key] for key in CONTRAST_FIELDS}, minus=tuple(minus) if minus else None)
    for name in contrast.variants:
        if name not in variants:
            raise RecordError(f"{where}: {name!r} is not a variant; known: {', '.join(variants)}")
    return contrast


def _read_cell(study: Study, variant: str, seed: int) -> Cell:
    folder = study.folder / "cells" / f"{variant}-s{seed}"
    cell: dict[str, Any] = {"variant": variant, "seed": seed, "folder": folder}
    path = folder / "result.json"
    if not path.is_file():
        return Cell(**cell, state="missing", reason="no result.json yet")
    try:
        record = read_record(path)
        for name, expected in (("study", study.name), ("variant", variant), ("seed", seed), ("scale", study.scale)):
            if (found := getattr(record, name)) != expected:
                raise RecordError(f"{path}: {name}: {found!r} does not belong here; expected {expected!r}")
        if record.status != "complete":
            return Cell(**cell, state=record.status, reason=record.reason or "no reason recorded", record=record)
        return Cell(**cell, state="complete", record=record, **_read_items(folder, record))
    except RecordError as error:
        return Cell(**cell, state="unreadable", reason=str(error).replace(f"{study.folder}/", ""))


def _read_items(folder: Path, record: Record) -> dict[str, Any]:
    """The per-item files of a complete cell, checked against the record's counts."""
    items: dict[str, Any] = {}
    rows = _item(folder, record, "geneval", "results.jsonl")
    if rows is not None:
        splits = _splits(folder, record)
        items["rows"] = [{**row, "split": splits.get(row["metadata"], "")} for row in _rows(rows, record)]
    for name, default in (("training", "training.jsonl"), ("preference", "preference.jsonl")):
        if (path := _item(folder, record, name, default)) is not None:
            items[name] = read_lines(path)
    if (path := _item(folder, record, "samples", "samples.json")) is not None:
        samples = read_json(path)
        if not isinstance(samples, list):
            raise RecordError(f"{path}: expected a list, found {type(samples).__name__}")
        items["samples"] = [_check(sample, SAMPLE_FIELDS, f"{path}: [{i}]") for i, sample in enumerate(samples)]
    if (path := _item(folder, record, "quality", "quality.json")) is not None:
        return {**items, "quality": _quality(path)}
    return items


def _quality(path: Path) -> dict:
    """quality.json, every part of it optional but whole."""
    data = _check(read_json(path), {}, str(path))
    for place, pair in enumerate(data.get("fid_by_n") or ()):
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(x) in NUMBER for x in pair) and pair[0] > 0):
            raise RecordError(f"{path}: fid_by_n[{place}]: expected [images, FID], found {pair}")
    if limit := data.get("fid_infinity"):
        _check(limit, {"value": NUMBER, "stderr": NUMBER}, f"{path}: fid_infinity")
    if spectrum := data.get("spectrum"):
        fields = ("frequencies", "generated", "reference")
        _check(spectrum, dict.fromkeys(fields, list), f"{path}: spectrum")
        lists = [spectrum[name] for name in fields]
        if len({len(values) for values in lists}) != 1 or not all(type(x) in NUMBER for v in lists for x in v):
            raise RecordError(f"{path}: spectrum: expected as many numbers in each of {', '.join(fields)}")
    return data


def _item(folder: Path, record: Record, name: str, default: str) -> Path | None:
    """The item's file: the one the record names, else the usual one where it exists; compressed where it is packed."""
    path = inside(folder, str(record.items.get(name) or default))
    packed = path.with_name(f"{path.name}.gz")
    if packed.is_file() and not path.is_file():
        return packed
    return path if name in record.items or path.is_file() else None


def inside(folder: Path, name: str) -> Path:
    """`folder / name`, refused where it leads out of the folder: records may come from others."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise RecordError(f"{folder}: {name!r} leads out of the cell's folder")
    return folder / name


def _rows(path: Path, record: Record) -> list[dict]:
    rows = [_check(row, ROW_FIELDS, f"{path}:{i}") for i, row in enumerate(lines(path), 1)]
    expected = record.metrics.get("geneval/overall")
    if expected is not None and expected.n != len(rows):
        raise RecordError(f"{path}: has {len(rows)} verdicts, the record's geneval/overall has n = {expected.n}")
    return rows


def _splits(folder: Path, record: Record) -> dict[str, str]:
    path = _item(folder, record, "prompts", "prompts.json")
    if path is None:
        return {}
    entries = _check(read_json(path), {}, str(path))
    return {metadata: _check(entry, {"split": str}, f"{path}")["split"] for metadata, entry in entries.items()}


def _without_idle_seeds(cells: tuple[Cell, ...], variants: tuple[Variant, ...]) -> tuple[Cell, ...]:
    """Cells without the missing seeds of a variant that needs one and has one: a teacher has no training seed."""
    single = {variant.name for variant in variants if variant.once}
    present = {cell.variant for cell in cells if cell.state != "missing"}
    return tuple(
        cell for cell in cells if not (cell.state == "missing" and cell.variant in single and cell.variant in present)
    )
