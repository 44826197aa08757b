"""Cells in the hands of a cluster's scheduler: submitted all at once, adopted by whoever looks, watched as long as one
likes.

OUT/cells/CELL/job.json says which jobs a cell has; it is written before they are submitted, so that none is ever
submitted twice. Whether a job lives is asked of the scheduler, and whether a cell is done of its record.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ablations.runner.attempt import DONE, FAILED, PERMANENT, RESUMABLE, is_recorded
from ablations.runner.engines.slurm import End, Job, Slurm, end_of, find_jobs
from ablations.runner.schedule import MAX_RESUMES, Display, State, failure, reason_of
from ablations.runner.stages import Task, stages
from ablations.runner.step import Step, in_order
from ablations.runner.store import Store
from ablations.runner.study import Cell
from lightgen.disk.atomic import write_text
from lightgen.disk.json_files import read_json, write_json

LOOK_SECONDS = 5.0
RETRY_SECONDS = 30.0  # after a refused submission
MAX_REFUSALS = 5  # in a row, while nothing else of the study is left to wait for
ENDING_SECONDS = 90.0  # how long a cancelled job may take to save and leave, before nobody waits for it any more
SETTLE_SECONDS = 60.0  # how long a record may take to be seen from another host
LOST = ("NODE_FAIL", "PREEMPTED", "BOOT_FAIL")  # no fault of the cell


@dataclass(frozen=True)
class Entry:
    """A task as it was submitted: its array's name and id, its place there; the id is empty until it is known."""

    name: str
    index: int
    until: str = ""
    job: str = ""


class Queue:
    """Cells on a cluster; nothing ends when this object, or its process, does."""

    def __init__(self, cells: Sequence[Cell], out: Path, slurm: Slurm, display: Display, limit: int = 0) -> None:
        self.states = [State(cell, "done" if is_recorded(out, cell) else "waiting") for cell in cells]
        self.out, self.slurm, self.display, self.limit = out, slurm, display, limit
        self.store = Store(out / "store")
        self.refusals, self.retry_at, self.silent, self.is_begun = 0, 0.0, False, False
        self.gone: dict[str, float] = {}  # cell -> since when the scheduler shows its job no more

    def run(self, on_done: Callable[[Sequence[State]], None] = lambda states: None) -> Sequence[State]:
        """Submit what is missing and watch until each cell is done or failed; returns their states."""
        self.submit()
        while any(state.is_open for state in self.states):
            self.look(on_done)
            if self._is_due():
                self.submit()
            self.display.show(self.states)
            time.sleep(LOOK_SECONDS)
        self.display.show(self.states)
        return self.states

    def submit(self) -> list[str]:
        """Submit every cell that has neither a record nor a job; returns the ids of all live arrays. A refusal is said
        in one line and changes nothing for the cells that have a job."""
        jobs = self._jobs() if self.is_begun else self._settled()
        if jobs is None and not self.is_begun:
            raise ValueError("Slurm does not answer (squeue failed); nothing was submitted")
        if jobs is None:
            self.retry_at = time.monotonic() + RETRY_SECONDS
            return []
        live, todo = self._sort(jobs)
        before = self._makers(live, [state.cell for state in todo])
        planned = stages([state.cell for state in todo], self._is_there(live))
        if planned and not self.is_begun:
            self.slurm.check(self.slurm.script("check", self.slurm.arrays(planned[0])[0], self.limit))
        self.is_begun = True
        arrays = {entry.job.partition("_")[0] for tasks in live.values() for entry, _ in tasks}
        try:
            for stage in planned:
                behind, before = before, []
                for part in self.slurm.arrays(stage):
                    # The limit is of all cells: the arrays of a stage that is too long for one follow each other.
                    before.append(self._submit(part, before[-1:] if self.limit and before else behind))
                    arrays.add(before[-1])
                    self._mark(part, todo)
            self.refusals = 0
        except ValueError as error:
            self._refused(str(error), [state for state in todo if state.status == "waiting"])
        return sorted(arrays)

    def look(self, on_done: Callable[[Sequence[State]], None] = lambda states: None) -> None:
        """Bring the states up to date."""
        jobs = self._jobs()
        for state in self.states:
            if not state.is_open:
                continue
            if is_recorded(self.out, state.cell):
                state.status, state.reason = "done", ""
                on_done(self.states)
            elif jobs is not None and state.status != "waiting":
                self._follow(state, live_jobs(self.out, state.cell.name, jobs))

    # --- submission -----------------------------------------------------------------------------------------------

    def _names(self) -> list[str]:
        return [path.parent.name for path in (self.out / "cells").glob("*/job.json")]

    def _settled(self) -> list[Job] | None:
        """The jobs, once none of the cells' is just ending. Such a job is not adopted, since it may have been
        cancelled, nor doubled, since Slurm may queue it again."""
        deadline, said = time.monotonic() + ENDING_SECONDS, 0
        while (jobs := self._jobs()) is not None and (ending := self._ending(jobs)) and time.monotonic() < deadline:
            if len(ending) > said:
                self.display.say(f"{len(ending)} cells have a job that is just ending; waiting for it")
            said = len(ending)
            time.sleep(LOOK_SECONDS)
        return jobs

    def _ending(self, jobs: Sequence[Job]) -> set[str]:
        """The cells that have a job which is over, but for what it does to leave."""
        names = [state.cell.name for state in self.states if state.status == "waiting"]
        return {name for name in names if any(job.is_ending for _, job in live_jobs(self.out, name, jobs))}

    def _sort(self, jobs: Sequence[Job]) -> tuple[dict[str, list[tuple[Entry, Job]]], list[State]]:
        """The cells' live tasks, and which cells to submit; those that have a job are queued from here on."""
        names = set(self._names()) - self._ending(jobs)
        live = {name: found for name in names if (found := live_jobs(self.out, name, jobs))}
        todo = []
        for state in [state for state in self.states if state.status == "waiting"]:
            if is_recorded(self.out, state.cell):
                state.status = "done"
            elif any(not entry.until for entry, _ in _of(live, state)):
                state.status = "queued"
            elif state.cell.name in names or not entries_of(self.out, state.cell.name):
                todo.append(state)
        return live, todo

    def _is_there(self, live: Mapping[str, Sequence[tuple[Entry, Job]]]) -> Callable[[Step], bool]:
        """Whether a step is in the store, or some live job makes it."""
        making = self._making(live)
        return lambda step: step.key in making or self.store.has(step)

    def _making(self, live: Mapping[str, Sequence[tuple[Entry, Job]]]) -> dict[str, str]:
        """{key of a step: a live job on whose way it is}."""
        found: dict[str, str] = {}
        for state in self.states:
            for entry, job in _of(live, state):
                ends = [step for step in state.cell.steps if entry.until in ("", step.folder)]
                found |= {step.key: job.id for step in in_order(ends)}
        return found

    def _makers(self, live: Mapping[str, Sequence[tuple[Entry, Job]]], cells: Sequence[Cell]) -> list[str]:
        """The live jobs that make slow steps which the cells need and nobody has yet."""
        making = self._making(live)
        slow = {step for cell in cells for step in cell.steps if step.is_slow and not self.store.has(step)}
        return sorted({making[step.key] for step in slow if step.key in making})

    def _submit(self, stage: Sequence[Task], after: Sequence[str]) -> str:
        folder = self.out / "jobs"
        count = len(list(folder.glob("*.sh"))) if folder.is_dir() else 0
        mark = hashlib.sha256(str(self.out).encode()).hexdigest()[:8]
        name = f"ablations-{mark}-{count + 1}"
        script = self.slurm.script(name, stage, self.limit, after)
        write_text(folder / f"{name}.sh", script)
        entries = [(task.cell, Entry(name, index, task.until)) for index, task in enumerate(stage)]
        for cell, entry in entries:
            _note(self.out, cell, entry)
        array = self.slurm.submit(script)
        for cell, entry in entries:
            _note(self.out, cell, replace(entry, job=f"{array}_{entry.index}"))
        return array

    def _mark(self, stage: Sequence[Task], todo: Sequence[State]) -> None:
        submitted = {task.cell for task in stage if not task.until}
        for state in todo:
            if state.cell.name in submitted:
                state.status, state.reason = "queued", ""
                self.gone.pop(state.cell.name, None)

    def _refused(self, reason: str, states: Sequence[State]) -> None:
        self.refusals += 1
        self.retry_at = time.monotonic() + RETRY_SECONDS
        more = f" and {len(states) - 1} more" if len(states) > 1 else ""
        self.display.say(f"Slurm refused {states[0].cell.name}{more}: {reason}; what has a job goes on")
        others = any(state.status in ("queued", "running") for state in self.states)
        for state in states:
            state.reason = f"Slurm refused it: {reason}"
            if self.refusals >= MAX_REFUSALS and not others:
                state.status = "failed"

    def _is_due(self) -> bool:
        return time.monotonic() >= self.retry_at and any(state.status == "waiting" for state in self.states)

    # --- watching -------------------------------------------------------------------------------------------------

    def _jobs(self) -> list[Job] | None:
        jobs = find_jobs()
        if (jobs is None) != self.silent:
            self.silent = jobs is None
            self.display.say("Slurm does not answer; the cells go on" if self.silent else "Slurm answers again")
        return jobs

    def _follow(self, state: State, live: Sequence[tuple[Entry, Job]]) -> None:
        """The state by its live jobs; where its last one is gone, by how that ended."""
        final = [job for entry, job in live if not entry.until]
        if final:
            self.gone.pop(state.cell.name, None)
            running = [job for _, job in live if not job.is_queued]
            state.status = "running" if running else "queued"
            state.reason = "" if running or final[0].reason == "None" else final[0].reason
            return
        since = self.gone.setdefault(state.cell.name, time.monotonic())
        entry = last_entry(self.out, state.cell.name)
        end = end_of(entry.job) if entry is not None and entry.job else None
        is_late = time.monotonic() - since > SETTLE_SECONDS
        if is_recorded(self.out, state.cell) or (end is not None and end.code == DONE and not is_late):
            return  # not failed: what is done is seen by the next look
        if end is not None and not end.is_final:
            return  # queued again between two questions
        self._end(state, end)

    def _end(self, state: State, end: End | None) -> None:
        if end is None and state.status == "queued":  # a task that never began leaves no trace but a gap in its array
            state.status, state.reason = "failed", "cancelled while it was queued"
        elif end is None:
            state.status, state.reason = "lost", "Slurm knows its job no longer, and it left no record"
        elif (end.code == RESUMABLE or end.state in LOST) and end.state != "CANCELLED" and state.resumes < MAX_RESUMES:
            state.resumes += 1
            state.status = "waiting"
            self.display.say(f"{state.cell.name} was stopped from outside and is resumed")
            return
        else:
            own = end.state == "FAILED" and end.code in (FAILED, PERMANENT)
            state.status = "failed"
            state.reason = reason_of(self.out, state.cell, end.code or 0) if own else end.words
        command = ["-m", "ablations.worker", str(self.out), state.cell.name, *self.slurm.extra]
        self.display.say(failure(self.out, state, command))


def live_jobs(out: Path, cell: str, jobs: Sequence[Job]) -> list[tuple[Entry, Job]]:
    """The cell's tasks that wait or run, each with its job."""
    by_place = {(job.name, job.index): job for job in jobs if job.id.rpartition("_")[2].isdigit()}
    found = [(entry, by_place.get((entry.name, entry.index))) for entry in entries_of(out, cell)]
    return [(replace(entry, job=job.id), job) for entry, job in found if job is not None]


def entries_of(out: Path, cell: str) -> list[Entry]:
    """What was submitted of the cell, by its job.json."""
    path = out / "cells" / cell / "job.json"
    noted = read_json(path) if path.is_file() else {}
    return [Entry(**entry) for entry in noted.get("jobs", ())]


def last_entry(out: Path, cell: str) -> Entry | None:
    """The cell's own job, without those of steps that it shares."""
    return next((entry for entry in reversed(entries_of(out, cell)) if not entry.until), None)


def _note(out: Path, cell: str, entry: Entry) -> None:
    """Write down the entry, in place of an earlier one for the same part of the cell."""
    path = out / "cells" / cell / "job.json"
    noted = read_json(path) if path.is_file() else {}
    earlier = entries_of(out, cell)
    is_known = any((old.name, old.index) == (entry.name, entry.index) for old in earlier)
    attempt = noted.get("attempt", 0) + (not entry.until and not is_known)
    kept = [asdict(old) for old in earlier if old.until != entry.until]
    write_json(path, {"engine": "slurm", "attempt": attempt, "jobs": [*kept, asdict(entry)]})


def _of(live: Mapping[str, Sequence[tuple[Entry, Job]]], state: State) -> Sequence[tuple[Entry, Job]]:
    return live.get(state.cell.name, ())
