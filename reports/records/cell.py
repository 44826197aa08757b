"""A cell of a study, one trained and judged model: its record and the files that the record names.

    result.json                      the record (record.py)
    results.jsonl                    GenEval verdicts, one image a line
    prompts.json                     {metadata string: {"split": name}}, which split a prompt belongs to
    training.jsonl preference.jsonl  curves, one logged step a line
    quality.json                     FID by number of images with its limit, and power spectra (below)
    samples.json  samples/*.png      the pictures to show, the same prompts in the same order in every cell

`quality.json` (every part optional):

    fid_by_n      [[images, FID], ...]      fid_infinity  {value, stderr}: the line through them over 1/N, at 0
    spectrum      frequencies (cycles per pixel), generated, reference: as many powers as frequencies

A packed study (`python -m reports pack`) has its .jsonl files and prompts.json compressed, ".gz" behind their names.
"""

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lightgen.disk.json_files import content_sha256, read_json, read_rows
from reports.records.fields import NUMBER, are_numbers, checked
from reports.records.recomputed import disagreements
from reports.records.record import Metric, Record, read_record

ROW_FIELDS = {"filename": str, "tag": str, "prompt": str, "correct": bool, "reason": str, "metadata": str}
SAMPLE_FIELDS = {"file": str, "prompt": str, "correct": (bool, type(None)), "reason": str}  # null: nobody judged
SPECTRUM = ("frequencies", "generated", "reference")


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

    @cached_property
    def prompts(self) -> dict[str, tuple[str, str, float]]:
        """{metadata: (task, split, share of its images judged right)}."""
        found: dict[str, list[dict]] = {}
        for row in self.rows:
            found.setdefault(row["metadata"], []).append(row)
        return {
            prompt: (rows[0]["tag"], rows[0]["split"], sum(row["correct"] for row in rows) / len(rows))
            for prompt, rows in found.items()
        }

    @property
    def metrics(self) -> dict[str, Metric]:
        """Those of a complete cell, by name."""
        return dict(self.record.metrics) if self.record and self.is_complete else {}


def read_cell(root: Path, expected: dict[str, Any]) -> Cell:
    """The cell of the study folder `root` that is `expected` (study, scale, variant, seed); broken ones say so."""
    variant, seed = expected["variant"], expected["seed"]
    cell: dict[str, Any] = {"variant": variant, "seed": seed, "folder": root / "cells" / f"{variant}-s{seed}"}
    path = cell["folder"] / "result.json"
    if not os.path.lexists(path):
        return Cell(**cell, state="missing", reason="no result.json yet")
    try:
        record = read_record(path)
        for name, value in expected.items():
            if (found := getattr(record, name)) != value:
                raise ValueError(f"{path}: {name}: {found!r} does not belong here; expected {value!r}")
        if record.status != "complete":
            return Cell(**cell, state=record.status, reason=record.reason or "no reason recorded", record=record)
        check_files(cell["folder"], record)
        items = _items(cell["folder"], record)
        if wrong := disagreements(items.get("rows", []), record.metrics if items.get("rows") else {}):
            raise ValueError(f"{path}: metrics: {wrong[0]}")
        if any(row.get("partial") for row in items.get("rows", [])):
            return Cell(
                **cell, state="partial", reason="its images were not complete when they were scored", record=record
            )
        return Cell(**cell, state="complete", record=record, **items)
    except (ValueError, OSError) as error:
        return Cell(**cell, state="unreadable", reason=str(error).replace(f"{root}/", ""))


def inside(folder: Path, name: str) -> Path:
    """`folder / name`, refused where it leads out of the folder: records may come from others."""
    # Not resolve(), which raises at a link to itself.
    if not Path(os.path.realpath(folder / name)).is_relative_to(os.path.realpath(folder)):
        raise ValueError(f"{folder}: {name!r} leads out of the cell's folder")
    return folder / name


def check_files(folder: Path, record: Record) -> None:
    """Refuse files that are not those of which the record says the SHA-256; older records say none."""
    for name, digest in record.files.items():
        path = inside(folder, name)
        packed = path.with_name(f"{path.name}.gz")
        if content_sha256(packed if packed.is_file() and not path.is_file() else path) != digest:
            raise ValueError(f"{path}: changed since the record was written (another SHA-256)")


def _items(folder: Path, record: Record) -> dict[str, Any]:
    """The per-item files of a complete cell, checked against the record's counts."""
    items: dict[str, Any] = {}
    if path := _item(folder, record, "geneval", "results.jsonl"):
        splits = _splits(folder, record)
        items["rows"] = [{**row, "split": splits.get(row["metadata"], "")} for row in _rows(path, record)]
    for name in ("training", "preference"):
        if path := _item(folder, record, name, f"{name}.jsonl"):
            items[name] = [curve_row(row, f"{path}:{i}") for i, row in enumerate(read_rows(path), 1)]
    if path := _item(folder, record, "samples", "samples.json"):
        items["samples"] = _samples(path)
    if path := _item(folder, record, "quality", "quality.json"):
        items["quality"] = _quality(path)
    return items


def _item(folder: Path, record: Record, name: str, default: str) -> Path | None:
    """The item's file: the one the record names, else the usual one where it exists; compressed where it is packed."""
    path = inside(folder, str(record.items.get(name) or default))
    packed = path.with_name(f"{path.name}.gz")
    if packed.is_file() and not path.is_file():
        return packed
    return path if name in record.items or path.is_file() else None


def _rows(path: Path, record: Record) -> list[dict]:
    rows = [checked(row, ROW_FIELDS, f"{path}:{i}") for i, row in enumerate(read_rows(path), 1)]
    expected = record.metrics.get("geneval/overall")
    if expected is not None and expected.n != len(rows):
        raise ValueError(f"{path}: has {len(rows)} verdicts, the record's geneval/overall has n = {expected.n}")
    there = {"images": len(rows), "prompts": len({_prompt_of(row["filename"]) for row in rows})}
    for name, count in there.items():
        if (said := record.rests_on.get(name, count)) != count:
            raise ValueError(f"{path}: verdicts of {count} {name}, the record's rests_on has {said}")
    return rows


def _prompt_of(filename: str) -> str:
    """The folder of a prompt's images, as GenEval lays them out."""
    return filename.split("/")[0]


def curve_row(row: dict[str, Any], where: str) -> dict[str, Any]:
    """A logged step: numbers by name, the step among them."""
    for name, value in checked(row, {"step": int}, where).items():
        if type(value) not in NUMBER:
            raise ValueError(f"{where}: {name}: expected a number, found {type(value).__name__}")
    return row


def _splits(folder: Path, record: Record) -> dict[str, str]:
    path = _item(folder, record, "prompts", "prompts.json")
    entries = checked(read_json(path), {}, str(path)) if path else {}
    return {metadata: checked(entry, {"split": str}, f"{path}")["split"] for metadata, entry in entries.items()}


def _samples(path: Path) -> list[dict]:
    samples = read_json(path)
    if not isinstance(samples, list):
        raise ValueError(f"{path}: expected a list, found {type(samples).__name__}")
    return [checked(sample, SAMPLE_FIELDS, f"{path}: [{i}]") for i, sample in enumerate(samples)]


def _quality(path: Path) -> dict:
    """quality.json, every part of it optional but whole."""
    data = checked(read_json(path), {}, str(path))
    pairs = data.get("fid_by_n") or []
    if not isinstance(pairs, list):
        raise ValueError(f"{path}: fid_by_n: expected a list, found {type(pairs).__name__}")
    for place, pair in enumerate(pairs):
        if not (are_numbers(pair) and len(pair) == 2 and pair[0] > 0):
            raise ValueError(f"{path}: fid_by_n[{place}]: expected [images, FID], found {pair}")
    if limit := data.get("fid_infinity"):
        checked(limit, {"value": NUMBER, "stderr": (*NUMBER, type(None))}, f"{path}: fid_infinity")
    if spectrum := data.get("spectrum"):
        checked(spectrum, dict.fromkeys(SPECTRUM, list), f"{path}: spectrum")
        lists = [spectrum[name] for name in SPECTRUM]
        if len({len(values) for values in lists}) != 1 or not all(map(are_numbers, lists)):
            raise ValueError(f"{path}: spectrum: expected as many numbers in each of {', '.join(SPECTRUM)}")
    return data
