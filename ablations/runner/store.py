"""The store: one folder a finished step, named by its key, so the same work is never done twice.

ROOT/store.json             which layout this is, and which version wrote it
ROOT/<name>-<key>/          the step's files and step.json; it appears whole, by a rename
ROOT/.work/<name>-<key>/    the unfinished folder; kept between attempts where the step can resume
ROOT/.leases/<name>-<key>   who is making it
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

from ablations.runner import graph
from ablations.runner.lease import is_held, lease
from ablations.runner.step import Facts, Step, Work
from lightgen.disk.atomic import sync
from lightgen.disk.json_files import read_json, write_json

LAYOUT = 2
_WRITTEN_BY = {1: "lightgen-bench 0.1"}  # the last version that wrote a layout, where it does not say so itself


class Store:
    """The finished steps under one folder, shared by any number of workers."""

    def __init__(self, root: Path, *, create: bool = True) -> None:
        self.root = root
        layout = root / "store.json"
        if layout.exists():
            _check_layout(layout)
        elif create:
            write_json(layout, {"layout": LAYOUT, "written_by": f"lightgen-bench {_version()}"})

    def folder(self, step: Step) -> Path:
        """Where the step's files are, or will be."""
        return self.root / step.folder

    def has(self, step: Step) -> bool:
        """Whether the step is finished."""
        return (self.folder(step) / "step.json").is_file()

    def record(self, step: Step) -> dict[str, Any]:
        """What the finished step recorded of itself: settings, seconds, bytes, facts."""
        return read_json(self.folder(step) / "step.json")

    def facts(self, step: Step) -> Facts:
        """What the finished step said of its result."""
        return self.record(step)["facts"]

    def is_being_made(self, step: Step) -> bool:
        """Whether a living worker holds the step's lease."""
        return is_held(self.root / ".leases" / step.folder)

    def make(
        self,
        step: Step,
        runtime: Any = None,
        *,
        stop: Callable[[], bool] = lambda: False,
        progress: Callable[[float], None] = lambda fraction: None,
    ) -> Path:
        """The folder of the step, made now unless it is there; waits while another worker makes it."""
        final, out = self.folder(step), self.root / ".work" / step.folder
        with lease(self.root / ".leases" / step.folder, lambda: self.has(step), stop):
            if self.has(step):
                return final
            if not step.resumable:
                shutil.rmtree(out, ignore_errors=True)
            out.mkdir(parents=True, exist_ok=True)
            earlier = _seconds_so_far(out)
            start = time.monotonic()
            try:
                facts = step.run(Work(out=out, made=self.folder, runtime=runtime, stop=stop, progress=progress))
            finally:
                seconds = earlier + time.monotonic() - start
                write_json(out / ".seconds", seconds)
            self._publish(step, out, dict(facts), seconds)
        return final

    def _publish(self, step: Step, out: Path, facts: dict[str, Any], seconds: float) -> None:
        (out / ".seconds").unlink()
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        described = graph.to_json([step])[step.key]
        record = {"name": step.name, "version": step.version, "key": step.key, "settings": described}
        write_json(out / "step.json", {**record, "seconds": round(seconds, 3), "bytes": size, "facts": facts})
        if self.has(step):  # made meanwhile by a worker that took our lease for dead: its result is as good
            shutil.rmtree(out)
            return
        shutil.rmtree(self.folder(step), ignore_errors=True)  # what is left if someone removed step.json by hand
        out.rename(self.folder(step))
        sync(self.root)

    def measured(self) -> dict[str, tuple[float, float]]:
        """Mean (seconds, bytes) of the finished steps, by name."""
        found: dict[str, list[tuple[float, float]]] = {}
        for path in self.root.glob("*/step.json"):
            record = read_json(path)
            found.setdefault(record["name"], []).append((record["seconds"], record["bytes"]))
        return {name: (fmean(row[0] for row in rows), fmean(row[1] for row in rows)) for name, rows in found.items()}


def _check_layout(path: Path) -> None:
    found = read_json(path)
    layout = found.get("layout") if isinstance(found, dict) else None
    if layout != LAYOUT:
        author = found.get("written_by") if isinstance(found, dict) else None
        author = author or _WRITTEN_BY.get(layout if isinstance(layout, int) else 0, "another version")
        raise ValueError(
            f"{path.parent} was written by {author} (store layout {layout}, this version reads {LAYOUT}):"
            " give another --out, or use that version"
        )


def _version() -> str:
    from importlib.metadata import version

    return version("lightgen-bench")


def _seconds_so_far(out: Path) -> float:
    try:
        return float((out / ".seconds").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0.0
