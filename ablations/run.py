"""Run a study: `python -m ablations.run diversity_sweep`. The same command again resumes, and adds what is new.

What is made stands in OUT: study.json and cells/ are what the report is built from, store/ holds every finished step.
"""

from __future__ import annotations

import hashlib
import json
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import OmitArgPrefixes, Positional, arg

from ablations.runner.attempt import is_recorded
from ablations.runner.costs import Costs
from ablations.runner.devices import choose_scale, default_workers, find_devices
from ablations.runner.engines import ENGINES, start_engine
from ablations.runner.engines.ray_job import submit_command
from ablations.runner.engines.resources import Resources, Shape
from ablations.runner.engines.slurm import Slurm
from ablations.runner.folder import alone, check_folder, write_study
from ablations.runner.live import Clock, Lines, display, plan_lines
from ablations.runner.plan import optional_variants, plan_cells, write_plan
from ablations.runner.queue import Queue
from ablations.runner.reporting import EarlyReport, build_report, from_here, report_command, score_lines
from ablations.runner.schedule import Schedule, State
from ablations.runner.stages import stages
from ablations.runner.store import Store
from ablations.runner.study import Cell, Study
from ablations.studies import load_study, study_names
from lightgen.console import json_pairs
from lightgen.disk.config import override

STOPPED = 130  # exit code


@dataclass(frozen=True, kw_only=True)
class Command:
    """Carry out a study, or go on with it."""

    study: Annotated[Positional[str], arg(metavar="STUDY")]  # diversity_sweep, dpo_sweep, ..., all, or a file of yours
    scale: str = "auto"  # smoke, cpu, gpu, paper; auto: gpu or cpu
    seeds: Annotated[tuple[int, ...], arg(metavar="N ...")] = (0,)  # training seeds
    out: Path | None = None  # folder of the run (default: runs/STUDY-SCALE)
    set: Annotated[tuple[str, ...], arg(metavar="NAME=VALUE ...")] = ()  # changes of the setting, as model.width=128
    only: Annotated[tuple[str, ...], arg(metavar="VARIANT ...")] = ()  # these alone, optional ones too; all: every one
    workers: int = 0  # cells at a time (default: one a core, or a GPU; on a cluster as many as it runs)
    engine: str = "local"  # local, ray or slurm
    resources: OmitArgPrefixes[Resources] = field(default_factory=Resources)
    detach: bool = False  # submit and leave; `python -m ablations status OUT` watches
    plan: bool = False  # print what is there, what the rest takes, and what would be submitted


@dataclass(frozen=True, kw_only=True)
class _Run:
    """A command with all that follows from it."""

    command: Command
    study: Study
    scale: str
    changes: dict[str, Any]
    setting: Any
    cells: Sequence[Cell]
    out: Path
    workers: int
    shape: Shape
    devices: Sequence[str] = field(default_factory=list)

    @classmethod
    def of(cls, command: Command) -> _Run:
        study, is_local = load_study(command.study), command.engine == "local"
        devices = find_devices() if is_local else []
        scale = _scale(command, study, devices)
        if command.workers < 0 or min(command.seeds) < 0:
            raise ValueError(f"--workers and --seeds are 0 or more, not {command.workers} and {command.seeds}")
        if command.engine not in ENGINES:
            raise ValueError(f"no engine {command.engine!r}; there are {', '.join(ENGINES)}")
        if command.detach and is_local:
            raise ValueError("--detach is for --engine slurm and ray: local cells end with this command")
        changes = json_pairs(command.set)
        setting = override(study.setting(scale), changes)
        if setting.runtime.processes == 1:  # the GPUs of a cell are one process each
            setting = override(setting, {"runtime.processes": max(1, command.resources.gpus)})
        study.note(scale, setting)  # data that cannot be studied are told before anything is planned
        cells = plan_cells(study, scale, setting, command.seeds, command.only)
        shape = Shape.of(command.resources, setting.runtime, command.engine)
        most = default_workers(setting.runtime, len(cells), devices) if is_local else len(cells)
        return cls(
            command=command, study=study, scale=scale, changes=changes, setting=setting, cells=cells, devices=devices,
            out=(command.out or default_folder(study, scale, changes)).resolve(), shape=shape,
            workers=command.workers or most,
        )  # fmt: skip

    @property
    def is_done(self) -> bool:
        return all(is_recorded(self.out, cell) for cell in self.cells)

    @property
    def extra(self) -> tuple[str, ...]:
        """What a worker must be told of the study beside its name."""
        given = self.command.study
        return ("--study", str(Path(given).resolve())) if given.endswith(".py") else ()

    @property
    def slurm(self) -> Slurm:
        return Slurm(self.out, self.shape, self.extra)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 all done, 1 some cell failed, 2 bad input, 130 stopped."""
    words = sys.argv[1:] if arguments is None else arguments
    command = tyro.cli(Command, prog="python -m ablations.run", args=words)
    return run_all(command) if command.study == "all" else run(command, words)


def run_all(command: Command) -> int:
    """Every study of the package in a folder of its own, OUT/STUDY, all over one store: what they share is made once.

    The worst of their exit codes; a stop ends the whole.
    """
    if command.detach and command.engine == "ray":
        print("error: a job of a Ray cluster is one study; give their names one by one", file=sys.stderr)
        return 2
    out, codes = command.out or Path("runs") / f"all-{command.scale}", [0]
    for name in study_names():
        if not command.plan:
            _share_store(out, name)
        codes.append(run(replace(command, study=name, out=out / name)))
        if codes[-1] == STOPPED:
            break
    return max(codes)


def _share_store(out: Path, name: str) -> None:
    """OUT/STUDY/store as a link to OUT/store; a store that stands there already stays."""
    link = out / name / "store"
    link.parent.mkdir(parents=True, exist_ok=True)
    (out / "store").mkdir(exist_ok=True)
    if not link.exists():
        link.symlink_to(Path("..") / "store", target_is_directory=True)


def run(command: Command, words: Sequence[str] = ()) -> int:
    """Carry out the command, which was given by these words; bad input is one line on standard error."""
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, _interrupt)
    try:
        asked = _Run.of(command)
        check_folder(asked.out, asked.study, asked.scale, asked.setting)
        if command.plan:
            return _print_plan(asked)
        if command.detach and command.engine == "ray" and not asked.is_done:
            return _hand_over(asked, words)
        with alone(asked.out):
            return _carry_out(asked)
    except KeyboardInterrupt:
        goes_on = command.engine == "slurm" and not command.plan
        told = (
            "left; the cells go on, the same command watches again" if goes_on else "stopped; the same command resumes"
        )
        with suppress(OSError):  # the terminal may be gone
            print(f"{told}; the same command resumes" if told == "stopped" else told, file=sys.stderr)
        return STOPPED
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def default_folder(study: Study, scale: str, changes: dict[str, Any]) -> Path:
    """runs/STUDY-SCALE, with a mark of the changes that a result depends on."""
    told = {name: value for name, value in changes.items() if not name.startswith("runtime.")}
    mark = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]
    return Path("runs") / f"{study.name}-{scale}{f'-{mark}' if told else ''}"


def _scale(command: Command, study: Study, devices: Sequence[str]) -> str:
    if command.scale != "auto":
        return command.scale
    if command.engine != "local" and not command.resources.gpus_per_node:
        raise ValueError(
            f"--scale auto looks for GPUs, and this machine's are not those of --engine {command.engine}: "
            "give --gpus-per-node, or --scale"
        )
    return choose_scale(study.settings, devices or ["0"] * command.resources.gpus_per_node)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _print_plan(asked: _Run) -> int:
    store = Store(asked.out / "store", create=False)
    if note := asked.study.note(asked.scale, asked.setting):
        print(note)
    images = sum(cell.num_judged for cell in asked.cells if not is_recorded(asked.out, cell))
    print("\n".join(plan_lines(asked.cells, store, Costs.of(store, asked.scale), asked.workers, images)))
    if left_out := optional_variants(asked.study, asked.scale, asked.setting, asked.cells):
        print(f"made only with --only: {', '.join(left_out)}")
    if asked.command.engine == "slurm":
        todo = [cell for cell in asked.cells if not is_recorded(asked.out, cell)]
        for number, stage in enumerate(stages(todo, store.has), start=1):
            after = [f"STAGE_{number - 1}"] if number > 1 else []
            for part in asked.slurm.arrays(stage):
                script = asked.slurm.script(f"STAGE_{number}", part, asked.command.workers, after)
                print(f"\n# stage {number}\n{script}")
    return 0


def _carry_out(asked: _Run) -> int:
    study, scale, cells, out = asked.study, asked.scale, asked.cells, asked.out
    write_plan(out / "plan.json", study, scale, cells)
    variants = study.variants_of(scale, asked.setting, 0)
    write_study(out, study, variants, scale, asked.setting, cells, asked.changes)
    where = f"{len(cells)} cells in {from_here(out)}, {asked.workers} at a time"
    print(f"{study.name} at scale {scale}: {where}", flush=True)
    if note := study.note(scale, asked.setting):
        print(note, flush=True)
    if asked.is_done and any(name.startswith("runtime.") for name in asked.changes):
        print("all cells are recorded; runtime settings change no result, so nothing is made again", flush=True)
    if asked.command.detach and not asked.is_done:
        return _submit(asked)
    states = [State(cell, "done") for cell in cells] if asked.is_done else _make_cells(asked)
    failed = [state for state in states if state.status in ("failed", "lost")]
    if lines := score_lines(out, cells):
        print("\n".join(["GenEval overall:", *lines]), flush=True)
    code = build_report(out, cells)
    for state in failed:
        print(f"failed: {state.cell.name}: {state.reason}", flush=True)
    return 1 if failed or code else 0


def _make_cells(asked: _Run) -> Sequence[State]:
    out, store, command = asked.out, Store(asked.out / "store"), asked.command
    clock = Clock(out, store, Costs.of(store, asked.scale), asked.workers)
    report = EarlyReport(out)
    with display(clock, f"{asked.study.name} ({asked.scale})") as view:
        try:
            if command.engine == "slurm":
                return Queue(asked.cells, out, asked.slurm, view, command.workers).run(report.start_once)
            is_work = any(not store.has(step) for cell in asked.cells for step in cell.steps)
            imports = asked.study.imports if is_work else ()  # records alone need none of it
            engine = start_engine(command.engine, asked.workers, asked.devices, asked.shape, imports)
            return Schedule(asked.cells, out, engine, view, asked.extra).run(report.start_once)
        finally:
            report.stop()


def _submit(asked: _Run) -> int:
    """Submit the cells, and the report after them; 1 if some were refused."""
    out, store = asked.out, Store(asked.out / "store")
    view = Lines(Clock(out, store, Costs.of(store, asked.scale), asked.workers))
    queue = Queue(asked.cells, out, asked.slurm, view, asked.command.workers)
    arrays = queue.submit()
    refused = [state for state in queue.states if state.status == "waiting"]
    if arrays:
        report = asked.slurm.submit_report(f"report-{asked.study.name}", report_command(out), arrays)
        print(f"submitted: jobs {', '.join(arrays)}, and job {report} for the report; you may leave")
    print(_how_to_watch(out))
    if refused:
        print(f"{len(refused)} cells were not submitted; the same command submits them", flush=True)
    return 1 if refused else 0


def _hand_over(asked: _Run, words: Sequence[str]) -> int:
    """Have Ray's own job server give the same command on the cluster."""
    own = {"--detach": (), asked.command.study: (asked.extra or (asked.command.study,))[-1:]}
    given = [word for old in words for word in own.get(old, (old,))]
    job = submit_command(asked.out, ["-m", "ablations.run", *given, "--out", str(asked.out)])
    print(f"submitted: Ray's job {job}; you may leave (its own words: ray job logs {job})\n{_how_to_watch(asked.out)}")
    return 0


def _how_to_watch(out: Path) -> str:
    verbs = "python -m ablations"
    return f"watch: {verbs} status {out}\n       {verbs} logs {out} CELL\nend:   {verbs} cancel {out}"


if __name__ == "__main__":
    sys.exit(main())
