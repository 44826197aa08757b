"""A study small enough to keep: its records and the files they name, the long ones compressed, without the store."""

import gzip
import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightgen.disk.atomic import write_text
from lightgen.disk.folders import temporary_folder
from lightgen.disk.json_files import read_json, read_rows, write_sealed
from reports.front import SPEED, read_speed
from reports.page.report import build_report
from reports.records.cell import Cell
from reports.records.joined import joined
from reports.records.study import read_study

COMPRESSED = ("*.jsonl*", "prompts.json*")
KEPT_FIGURES = {
    f"figures/{name}.png" for name in ("primary", "contrasts", "geneval", "splits", "front")
}  # of a slim study, as pictures


def pack(folders: Path | Sequence[Path], out: Path, *, slim: bool = False) -> Path:
    """Write `out`: study.json, cells/ and a report built from them; returns the report's page.

    Several folders are runs of one study, packed or not, as of other seeds on other machines; they become one. The same
    study gives the same bytes. Pictures are kept of the seed that the report shows. A `slim` one has none, no boxes of
    detections, and of its report the Markdown page with five figures; every number and verdict is that of the whole.
    ValueError where `out` holds anything already, a cell is not complete, or the folders are not of one study by one
    setting.
    """
    studies = [read_study(folder) for folder in ([folders] if isinstance(folders, Path) else folders)]
    made = {cell.name for study in studies for cell in study.complete()}
    for study in studies:
        # What one run did not come to and another made is there.
        if lacking := [cell for cell in study.incomplete() if cell.state != "missing" or cell.name not in made]:
            raise ValueError(f"{study.folder}: {len(lacking)} cells are not complete, the first {lacking[0].name}")
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out}: is not empty; give another folder, or remove what is there")
    head, cells = joined(studies)
    pictured = [cell for cell in cells if cell.samples]
    shown = {
        next(cell.name for cell in pictured if cell.variant == name) for name in {cell.variant for cell in pictured}
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(out) as whole:  # one that is there in part would be refused by the next command
        if len(studies) == 1:
            shutil.copyfile(studies[0].folder / "study.json", whole / "study.json")
        else:
            write_sealed(whole / "study.json", head)
        # Times are of one run on one machine: another's are not joined to them.
        if timed := next((study.folder for study in studies if read_speed(study.folder)), None):
            shutil.copyfile(timed / SPEED, whole / SPEED)
        for cell in cells:
            target = whole / "cells" / cell.name
            target.mkdir(parents=True)
            if slim:
                _write_slim(cell, target)
            else:
                _write_whole(cell, target, shown=cell.name in shown)
        page = build_report(whole)
        page = _slim_report(page.parent) if slim else page
        name = page.relative_to(whole)
    return out / name


def _write_whole(cell: Cell, target: Path, *, shown: bool) -> None:
    """The cell; its pictures where the report shows them, which it does of a variant's first seed."""
    for path in (path for names in COMPRESSED for path in sorted(cell.folder.glob(names))):
        _write_packed(target / path.name, _compressed(path))
    for name in ("quality.json", *(("samples.json",) if shown else ())):
        if (cell.folder / name).is_file():
            shutil.copyfile(cell.folder / name, target / name)
    if shown and (cell.folder / "samples").is_dir():
        shutil.copytree(cell.folder / "samples", target / "samples")
    if shown or not cell.samples:
        shutil.copyfile(cell.folder / "result.json", target / "result.json")
    else:
        write_sealed(target / "result.json", _without_pictures(read_json(cell.folder / "result.json")))


def _without_pictures(record: dict[str, Any]) -> dict[str, Any]:
    """The record, where neither pictures nor their hashes are kept."""
    record["items"] = {name: file for name, file in record["items"].items() if name != "samples"}
    if "files" in record:
        record["files"] = {name: sha for name, sha in record["files"].items() if not name.startswith("samples")}
    return record


def _compressed(path: Path) -> bytes:
    """What a file holds, compressed without time and name in the header: the same lines give the same bytes."""
    data = path.read_bytes()
    return data if path.suffix == ".gz" else gzip.compress(data, mtime=0)


def _write_packed(path: Path, data: bytes) -> None:
    path.with_name(f"{path.name.removesuffix('.gz')}.gz").write_bytes(data)


def _write_slim(cell: Cell, target: Path) -> None:
    """The record without what it then does not have: pictures, boxes, and the hashes of files that hold them."""
    record = _without_pictures(read_json(cell.folder / "result.json"))
    if (cell.folder / "quality.json").is_file():
        shutil.copyfile(cell.folder / "quality.json", target / "quality.json")
    for path in sorted(cell.folder.glob("prompts.json*")):
        _write_packed(target / path.name, _compressed(path))
    packed: dict[str, str] = {}
    for path in sorted(cell.folder.glob("*.jsonl*")):
        lines = (json.dumps(_without_boxes(row), ensure_ascii=False) for row in read_rows(path))
        data = "".join(f"{line}\n" for line in lines).encode()
        _write_packed(target / path.name, gzip.compress(data, mtime=0))
        packed[path.name.removesuffix(".gz")] = hashlib.sha256(data).hexdigest()
    if "files" in record:
        record["files"] = {name: packed.get(name, sha) for name, sha in record["files"].items()}
    write_sealed(target / "result.json", record)


def _without_boxes(row: Mapping[str, object]) -> dict[str, object]:
    return {name: "" if name == "details" else value for name, value in row.items()}


def _slim_report(report: Path) -> Path:
    """Only report.md and the figures that are kept, which it then names alone."""
    page = report / "report.md"
    for path in sorted(report.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path != page and path.relative_to(report).as_posix() not in KEPT_FIGURES:
            path.unlink()
    write_text(page, slim_text(page.read_text(encoding="utf-8")))
    return page


def slim_text(text: str) -> str:
    """A report.md without the lines that show a figure which a slim study does not keep."""
    figures = ((line, re.search(r"\]\((figures/[^)]+)\)", line)) for line in text.splitlines(keepends=True))
    return "".join(line for line, found in figures if found is None or found[1] in KEPT_FIGURES)
