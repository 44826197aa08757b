"""A study small enough to keep: its records and the files they name, lines compressed, without the store."""

import gzip
import shutil
from pathlib import Path

from reports.page.report import build_report
from reports.records.study import read_study

NAMES = ("result.json", "prompts.json", "samples.json", "quality.json")


def pack(folder: Path, out: Path) -> Path:
    """Write `out`: study.json, cells/ and a report built from them; returns the report's page.

    The same study gives the same bytes. ValueError where `out` holds anything already, or a cell is not complete.
    """
    study = read_study(folder)
    if lacking := study.incomplete():
        raise ValueError(f"{folder}: {len(lacking)} cells are not complete, the first {lacking[0].name}")
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out}: is not empty; give another folder, or remove what is there")
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / "study.json", out / "study.json")
    for cell in study.cells:
        target = out / "cells" / cell.name
        target.mkdir(parents=True)
        for name in NAMES:
            if (cell.folder / name).is_file():
                shutil.copyfile(cell.folder / name, target / name)
        for path in sorted(cell.folder.glob("*.jsonl*")):
            packed = target / f"{path.name.removesuffix('.gz')}.gz"
            data = path.read_bytes()
            # No time and no name in the header: the same lines give the same bytes.
            packed.write_bytes(data if path.suffix == ".gz" else gzip.compress(data, mtime=0))
        if (cell.folder / "samples").is_dir():
            shutil.copytree(cell.folder / "samples", target / "samples")
    return build_report(out)
