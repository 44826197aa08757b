"""Run a study: `python -m ablations.run diversity_sweep`. The same command again resumes, and adds what is new.

What is made stands in OUT: study.json and cells/ are what the report is built from, store/ holds every finished step.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ablations.cells import Cell, cell_to_json, plan_cells
from ablations.engines import ENGINES, start_engine
from ablations.engines.local import num_cores
from ablations.estimate import Estimate
from ablations.live import Clock, display, plan_lines
from ablations.schedule import Schedule, State
from ablations.store import Store, read_json, write_json
from ablations.studies import load_study, study_names
from ablations.study import Study
from ablations.worker import is_recorded

SCHEMA = 1


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 all done, 1 some cell failed, 2 bad input, 130 stopped."""
    args = _parser().parse_args(arguments)
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, _interrupt)
    try:
        return _run(args)
    except KeyboardInterrupt:
        print("stopped; the same command resumes", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ablations.run", description=__doc__.splitlines()[0])
    parser.add_argument("study", metavar="STUDY", help=f"{', '.join(study_names())}, or a file of your own")
    parser.add_argument("--scale", default="auto", help="smoke, cpu, gpu, paper; auto (default): gpu or cpu")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="training seeds (default: 0)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: runs/STUDY-SCALE")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="default: one a core, or a GPU")
    parser.add_argument("--engine", default="local", help=f"{', '.join(ENGINES)} (default: local)")
    parser.add_argument("--plan", action="store_true", help="print what is there and what the rest takes")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="VARIANT", help="these variants alone, optional ones too"
    )
    return parser


def _run(args: argparse.Namespace) -> int:
    study = load_study(args.study)
    devices = find_devices()
    scale = args.scale if args.scale != "auto" else choose_scale(study, devices)
    if args.workers < 0 or min(args.seeds) < 0:
        raise ValueError(f"--workers and --seeds are 0 or more, not {args.workers} and {args.seeds}")
    if args.engine not in ENGINES:
        raise ValueError(f"no engine {args.engine!r}; there are {', '.join(ENGINES)}")
    cells = plan_cells(study, scale, args.seeds, args.only)
    out = (args.out or Path("runs") / f"{study.name}-{scale}").resolve()
    check_folder(out, study, scale)
    workers = args.workers or default_workers(study, scale, len(cells), devices)
    if args.plan:
        store = Store(out / "store", create=False)
        images = sum(study.num_images(cell.recipe) for cell in cells if not is_recorded(out, cell))
        print("\n".join(plan_lines(cells, store, Estimate.of(store, scale), workers, images)))
        if left_out := optional_variants(study, scale, cells):
            print(f"made only with --only: {', '.join(left_out)}")
        return 0
    with _alone(out):
        return _work(args, study, scale, cells, out, workers, devices)


def _work(
    args: argparse.Namespace,
    study: Study,
    scale: str,
    cells: Sequence[Cell],
    out: Path,
    workers: int,
    devices: Sequence[str],
) -> int:
    store = Store(out / "store")
    write_json(out / "plan.json", {"schema": SCHEMA, "study": study.name, "scale": scale} | _cells_json(cells))
    write_study(out, study, scale, cells)
    estimate = Estimate.of(store, scale)
    clock = Clock(out, store, estimate, workers)
    print(f"{study.name} at scale {scale}: {len(cells)} cells in {out}, {workers} at a time", flush=True)
    if study.notes.get(scale):
        print(study.notes[scale], flush=True)
    states = [State(cell, "done") for cell in cells]
    if not all(is_recorded(out, cell) for cell in cells):
        engine = start_engine(args.engine, workers, devices, out)
        extra = ("--study", str(Path(args.study).resolve())) if args.study.endswith(".py") else ()
        report = Report(out)
        with display(clock, f"{study.name} ({scale})") as view:
            schedule = Schedule(cells, study.stages, out, engine, view, extra)
            try:
                states = list(schedule.run(report.start_once))
            finally:
                report.stop()
    failed = [state for state in states if state.status == "failed"]
    code = build_report(out, cells)
    for state in failed:
        print(f"failed: {state.cell.name}: {state.reason}", flush=True)
    return 1 if failed or code else 0


def optional_variants(study: Study, scale: str, cells: Sequence[Cell]) -> list[str]:
    """The names of optional variants that could be made at `scale` and are not among the cells."""
    planned = {cell.variant for cell in cells}
    return [v.name for v in study.variants if v.optional and scale in (v.scales or (scale,)) and v.name not in planned]


def _cells_json(cells: Sequence[Cell]) -> dict[str, Any]:
    return {"cells": [cell_to_json(cell) for cell in cells]}


def check_folder(out: Path, study: Study, scale: str) -> None:
    """Refuse a folder that belongs to another study or scale, or that a person keeps other things in."""
    path = out / "study.json"
    if path.is_file():
        found = read_json(path)
        if (found.get("name"), found.get("scale")) != (study.name, scale):
            raise ValueError(
                f"{out} holds the study {found.get('name')} at scale {found.get('scale')}, not {study.name} at {scale};"
                " give another --out"
            )
    elif out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; give a folder as --out")
    elif out.is_dir() and any(p.name not in {"store", "plan.json", ".lock", "cells"} for p in out.iterdir()):
        raise ValueError(f"{out} is not empty and holds no study; give another --out")
    Store(out / "store", create=False)


def write_study(out: Path, study: Study, scale: str, cells: Sequence[Cell]) -> None:
    """OUT/study.json: what was asked, of the cells of this command and of those that are there already."""
    asked = {(cell.variant, cell.seed) for cell in cells} | set(_recorded(out, study))
    names = {variant for variant, _ in asked}
    single = {variant.name for variant in study.variants if variant.is_control}
    seeds = sorted({seed for variant, seed in asked if variant not in single} or {seed for _, seed in asked})
    contrasts = [c for c in study.contrasts if {c.a, c.b, *(c.minus or ())} <= names]
    write_json(
        out / "study.json",
        {
            "schema": SCHEMA,
            **{name: getattr(study, name) for name in ("name", "title", "question", "claim", "source")},
            "scale": scale,
            "seeds": seeds,
            "note": study.notes.get(scale, ""),
            "variants": [
                {"name": v.name, "label": v.label, "factors": dict(v.factors), "once": v.is_control}
                for v in study.variants
                if v.name in names
            ],
            "contrasts": [dict(vars(c)) for c in contrasts],
            "splits": [dict(vars(split)) for split in study.splits],
            "interaction": dict(study.interaction),
            "protocol": {section: dict(values) for section, values in study.scales[scale].items()},
        },
    )


def _recorded(out: Path, study: Study) -> Iterator[tuple[str, int]]:
    known = {variant.name for variant in study.variants}
    for path in (out / "cells").glob("*/result.json"):
        variant, _, seed = path.parent.name.rpartition("-s")
        if variant in known and seed.isdigit():
            yield variant, int(seed)


class Report:
    """The first report, built beside the running cells as soon as two variants have scores."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.process: subprocess.Popen[bytes] | None = None

    def start_once(self, states: Sequence[State]) -> None:
        """Start building if there is something to compare and it was not done before."""
        done = {state.cell.variant for state in states if state.status == "done"}
        if self.process is None and len(done) >= 2:
            with (self.out / "report.log").open("ab") as log:
                self.process = subprocess.Popen(_report_command(self.out), stdout=log, stderr=log)

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
            code = subprocess.run(_report_command(out), stdout=log, stderr=log).returncode
        if code:
            print(f"the report could not be built, see {out / 'report.log'}: {' '.join(_report_command(out)[1:])}")
            return code
        write_json(built, stamp)
    print(f"report: {page}", flush=True)
    return 0


def _report_command(out: Path) -> list[str]:
    return [sys.executable, "-m", "reports", "build", str(out)]


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold OUT for this process; the kernel lets go of it when the process ends, however it ends."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise ValueError(
                f"{out} is being worked on by process {lock.read().strip()}; wait for it or stop it"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def choose_scale(study: Study, devices: Sequence[str]) -> str:
    """ "gpu" where there is one and the study has the scale, else "cpu"."""
    return "gpu" if devices and "gpu" in study.scales else "cpu"


def default_workers(study: Study, scale: str, num_cells: int, devices: Sequence[str]) -> int:
    """A cell a core; with GPUs as many a GPU as the scale says fit on one, and cores enough to feed them."""
    per_device = study.scales[scale].get("run", {}).get("cells_per_gpu", 1)
    places = max(len(devices), min(len(devices) * per_device, num_cores() // 2)) if devices else num_cores()
    return max(1, min(num_cells, places))


def find_devices() -> list[str]:
    """The CUDA devices that may be used, found without importing torch (seconds)."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [device for device in visible.split(",") if device.strip() not in ("", "-1")]
    program = shutil.which("nvidia-smi")
    if program is None or not _torch_is_built_for_cuda():
        return []
    try:
        listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [str(index) for index, _ in enumerate(line for line in listed.splitlines() if line.startswith("GPU "))]


def _torch_is_built_for_cuda() -> bool:
    """What torch/version.py says of its build: a CPU build beside a GPU would take days over the gpu scale."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    return re.search(r"^cuda\b.*=\s*None", text, re.MULTILINE) is None


if __name__ == "__main__":
    sys.exit(main())
