"""The store: one folder a finished step, named by its key, so the same work is never done twice.

ROOT/store.json                     which layout this is, and which version wrote it
ROOT/<name>-<key>/                  the step's files and step.json; it appears whole, by a rename
ROOT/.work/<name>-<key>.<attempt>/  the unfinished folder of one attempt, which no other writes to; the next one goes on
                                    from it where the step can resume
ROOT/.leases/<name>-<key>           who is making it, at which attempt
"""

from __future__ import annotations

import shutil
import time
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any

from ablations.runner import graph
from ablations.runner.lease import Lease, is_held, lease
from ablations.runner.step import Facts, Step, Stopped, Work
from lightgen.disk.atomic import sync
from lightgen.disk.json_files import read_json, read_object, write_json, write_sealed

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
        return _record(self.folder(step) / "step.json")

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
        say: Callable[[str], None] = lambda line: None,
        run: Callable[[Step, Work], Facts] = lambda step, work: step.run(work),
        how: Mapping[str, Any] = MappingProxyType({}),
    ) -> Path:
        """The folder of the step, made now by `run` unless it is there; waits while another worker makes it, and `say`s
        who. Raises Stopped where `stop` asked for it, or where another worker took over what this one began. `how` it
        is made, as threads and processes, is recorded beside it and is not in its key."""
        path = self.root / ".leases" / step.folder
        with lease(path, lambda: self.has(step), stop, lambda: max(self._attempts(step), default=0), say) as held:
            if held is None or self.has(step):
                return self.folder(step)
            out = self._begin(step, held)
            earlier = _seconds_so_far(out)
            start = time.monotonic()

            def stopped() -> bool:
                return stop() or held.lost.is_set()

            try:
                facts = run(step, Work(out=out, made=self.folder, runtime=runtime, stop=stopped, progress=progress))
            except Exception as error:
                if held.is_ours():
                    raise
                raise Stopped from error  # what we wrote to may have been cleared away by the one who is done
            finally:
                seconds = earlier + time.monotonic() - start
                if held.is_ours():
                    write_json(out / ".seconds", seconds)
            self._publish(step, held, out, {"seconds": round(seconds, 3), "how": dict(how), "facts": dict(facts)})
        return self.folder(step)

    def _attempts(self, step: Step) -> dict[int, Path]:
        """The unfinished folders of the step, by their attempts' numbers."""
        found = (self.root / ".work").glob(f"{step.folder}.*")
        return {int(path.suffix[1:]): path for path in found if path.suffix[1:].isdigit()}

    def _begin(self, step: Step, held: Lease) -> Path:
        """The attempt's own folder, with what the last one left where the step can resume."""
        earlier = self._attempts(step)
        out = self.root / ".work" / f"{step.folder}.{held.holder.attempt}"
        out.parent.mkdir(parents=True, exist_ok=True)
        if step.resumable and earlier:
            last, partial = earlier[max(earlier)], out.with_name(f".{out.name}.part")
            shutil.rmtree(partial, ignore_errors=True)
            if held.may_wake:
                shutil.copytree(last, partial, symlinks=True)
            else:
                last.rename(partial)
            partial.rename(out)
        out.mkdir(exist_ok=True)
        if not held.may_wake:
            self._clear(step, but=out)
        return out

    def _clear(self, step: Step, but: Path | None = None) -> None:
        """Remove what attempts left, all but one's."""
        for left in self._attempts(step).values():
            if left != but:
                shutil.rmtree(left, ignore_errors=True)

    def _publish(self, step: Step, held: Lease, out: Path, told: dict[str, Any]) -> None:
        (out / ".seconds").unlink(missing_ok=True)
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        described = graph.to_json([step])[step.key]
        record = {"name": step.name, "version": step.version, "key": step.key, "settings": described}
        write_sealed(out / "step.json", {**record, "bytes": size, **told})
        with held.held():
            shutil.rmtree(self.folder(step), ignore_errors=True)  # what is left if someone removed step.json by hand
            out.rename(self.folder(step))
        sync(self.root)
        self._clear(step)

    def measured(self) -> dict[str, tuple[float, float]]:
        """Mean (seconds, bytes) of the finished steps, by name."""
        found: dict[str, list[tuple[float, float]]] = {}
        for path in self.root.glob("*/step.json"):
            record = _record(path)
            found.setdefault(record["name"], []).append((record["seconds"], record["bytes"]))
        return {name: (fmean(row[0] for row in rows), fmean(row[1] for row in rows)) for name, rows in found.items()}


def _record(path: Path) -> dict[str, Any]:
    """A finished step's step.json."""
    return read_object(path, name=str, key=str, seconds=(int, float), bytes=int, facts=dict)


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
    """The installed version, or the checkout's where the package is run from one without being installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("lightgen-bench")
    except PackageNotFoundError:
        project = Path(__file__).parents[2] / "pyproject.toml"
        return tomllib.loads(project.read_text("utf-8"))["project"]["version"]


def _seconds_so_far(out: Path) -> float:
    try:
        return float((out / ".seconds").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0.0
