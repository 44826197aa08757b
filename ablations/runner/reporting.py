"""The report of a running study: the first one beside the cells, the last one when they are done."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ablations.runner.schedule import State
from ablations.runner.study import Cell
from lightgen.disk.json_files import read_json, write_json


class EarlyReport:
    """The first report, built beside the running cells as soon as two variants have scores."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.process: subprocess.Popen[bytes] | None = None

    def start_once(self, states: Sequence[State]) -> None:
        """Start building if there is something to compare and it was not done before."""
        done = {state.cell.variant for state in states if state.status == "done"}
        if self.process is None and len(done) >= 2:
            with (self.out / "report.log").open("ab") as log:
                self.process = subprocess.Popen([sys.executable, *report_command(self.out)], stdout=log, stderr=log)

    def stop(self) -> None:
        """End a build that is under way: the last one comes now, and it must not write over it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def build_report(out: Path, cells: Sequence[Cell]) -> int:
    """Build the report unless it is of these very records; prints where it is and returns the exit code."""
    records = sorted((out / "cells").glob("*/result.json"))
    stamp = {"records": {p.parent.name: p.stat().st_mtime_ns for p in records}, "asked": sorted(c.name for c in cells)}
    built, page = out / "report.json", out / "report" / "index.html"
    if not records:
        return 0
    if not (built.is_file() and read_json(built) == stamp and page.is_file()):
        with (out / "report.log").open("ab") as log:
            code = subprocess.run([sys.executable, *report_command(out)], stdout=log, stderr=log).returncode
        if code:
            print(f"the report could not be built, see {out / 'report.log'}: {' '.join(report_command(out))}")
            return code
        write_json(built, stamp)
    print(f"report: {from_here(page)}", flush=True)
    return 0


def from_here(path: Path) -> Path:
    """The path as it is shown: from the working directory, where it lies below that."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def score_lines(out: Path, cells: Sequence[Cell]) -> list[str]:
    """GenEval overall of each variant, its mean over the seeds that are done, best first; the report says how sure."""
    found: dict[str, list[float]] = {}
    for cell in cells:
        path = out / "cells" / cell.name / "result.json"
        overall = read_json(path).get("metrics", {}).get("geneval/overall", {}) if path.is_file() else {}
        if overall.get("value") is not None:
            found.setdefault(cell.variant, []).append(overall["value"])
    width = max(map(len, found), default=0)
    means = sorted(((sum(values) / len(values), name) for name, values in found.items()), reverse=True)
    return [f"  {name:<{width}}  {mean:.3f}  ({len(found[name])} seeds)" for mean, name in means]


def report_command(out: Path) -> list[str]:
    """The arguments of Python that build the report."""
    return ["-m", "reports", "build", str(out)]
