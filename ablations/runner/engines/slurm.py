"""The Slurm engine: an array of jobs a stage, submitted by sbatch; nothing of ours must live while they wait and run.

Truth about a job is asked of squeue, and of an ended one of scontrol; sacct is asked last, and may not be there.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ablations.runner.engines.resources import Shape, minutes
from ablations.runner.stages import Task

ASK_SECONDS = 60.0  # what a command of Slurm's may take
SIGNAL_SECONDS = 60  # before the time limit, when cells are asked to save and are queued again
MAX_ARRAY_SIZE = 1001
STARTING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
WORDS = {
    "CANCELLED": "cancelled",
    "NODE_FAIL": "its node was lost",
    "PREEMPTED": "preempted, and not queued again",
    "OUT_OF_MEMORY": "out of memory: give it more with --memory",
    "TIMEOUT": "the time limit was reached before it could save: give it more with --time",
    "DEADLINE": "its deadline passed",
    "BOOT_FAIL": "its node did not start",
}
_OPTION = re.compile(r"[a-z][a-z-]*(=[^\s'\"]+)?")


@dataclass(frozen=True)
class Job:
    """A job as squeue shows it: `id` is ARRAY_INDEX."""

    id: str
    state: str
    reason: str
    name: str

    @property
    def is_queued(self) -> bool:
        return self.state in STARTING

    @property
    def is_ending(self) -> bool:
        """Whether it is over, but for what it does to leave. Nothing tells yet whether it was cancelled, is done, or is
        to be queued again."""
        return self.state == "COMPLETING"

    @property
    def index(self) -> int:
        return int(self.id.rpartition("_")[2])


@dataclass(frozen=True)
class End:
    """How a job ended: Slurm's state, and its exit code, or minus the signal."""

    state: str
    code: int | None = None

    @property
    def is_final(self) -> bool:
        return self.state in WORDS or self.state in ("COMPLETED", "FAILED")

    @property
    def words(self) -> str:
        """What a person is told, unless the worker left a reason of its own."""
        if self.state in WORDS:
            return WORDS[self.state]
        if self.code == -9 or self.code == 137:
            return "ended by SIGKILL (out of memory?)"
        return f"ended by signal {-self.code}" if self.code and self.code < 0 else f"exit code {self.code}"


class Slurm:
    """Submits to the cluster that this machine's sbatch submits to."""

    def __init__(self, out: Path, shape: Shape, extra: Sequence[str] = ()) -> None:
        self.out, self.shape, self.extra = out, shape, tuple(extra)
        for option in shape.resources.slurm:
            if not _OPTION.fullmatch(option):
                raise ValueError(f"--slurm {option!r} is not NAME=VALUE, as partition=gpu")

    def script(self, name: str, tasks: Sequence[Task], limit: int = 0, after: Sequence[str] = ()) -> str:
        """The text that sbatch is given for the tasks: an array, at most `limit` of it at a time."""
        asked, folder = self.shape.resources, self.out / "jobs"
        each = self.shape.processes_per_node
        options = {
            "job-name": name,
            "array": f"0-{len(tasks) - 1}" + (f"%{limit}" if limit else ""),
            "output": f'"{folder}/{name}-%a.out"',
            "open-mode": "append",
            "requeue": None,
            "signal": f"B:USR1@{SIGNAL_SECONDS}",
            "nodes": asked.nodes,
            "ntasks-per-node": each,
            "cpus-per-task": max(1, asked.cpus // each),
            **({"gpus-per-node": asked.gpus_per_node} if asked.gpus_per_node else {}),
            **({"mem": asked.memory} if asked.memory else {}),
            **({"time": asked.time} if asked.time else {}),
            **({"dependency": f"afterany:{':'.join(after)}"} if after else {}),
        }
        given = [f"--{option}" for option in asked.slurm]
        lines = [f"--{key}" if value is None else f"--{key}={value}" for key, value in options.items()]
        worker = [sys.executable, "-m", "ablations.worker", str(self.out)]
        return _template().format(
            options="\n".join(f"#SBATCH {line}" for line in [*lines, *given]),
            threads=self.shape.threads,
            out=shlex.quote(str(self.out)),
            tasks="\n".join(f"  {shlex.quote(' '.join(task.words))}" for task in tasks),
            worker=shlex.join(worker),
            extra=shlex.join([*self.extra, *self.shape.words]),
        )

    def arrays(self, stage: Sequence[Task]) -> list[Sequence[Task]]:
        """The stage's tasks, as many in an array as the cluster lets one have."""
        size = max_array_size() if len(stage) > 1 else 1
        return [stage[start : start + size] for start in range(0, len(stage), size)]

    def check(self, script: str) -> None:
        """ValueError with Slurm's own reason if it would not take the script, or would never start it."""
        if shutil.which("sbatch") is None:
            raise ValueError("--engine slurm needs sbatch, which is not on this machine's PATH")
        done = _ask("sbatch", "--test-only", given=script)
        if done.returncode:
            raise ValueError(f"Slurm would not take the cells: {_reason(done.stderr)}")
        wanted, partition = self.shape.resources.time, re.search(r"in partition (\S+)", done.stderr)
        if wanted and partition:
            most = _ask("sinfo", "-h", "-p", partition[1], "-o", "%l").stdout.split()
            if most and ":" in most[0] and minutes(wanted) > minutes(most[0]):
                raise ValueError(f"--time {wanted} is more than partition {partition[1]} allows ({most[0]})")

    def submit(self, script: str) -> str:
        """The id of the array; ValueError with Slurm's reason if it was refused."""
        done = _ask("sbatch", "--parsable", given=script)
        if done.returncode:
            raise ValueError(_reason(done.stderr))
        return done.stdout.strip().partition(";")[0]

    def submit_report(self, name: str, command: Sequence[str], after: Sequence[str]) -> str:
        """A job that runs the command once all of `after` ended, however they did."""
        log = self.out / "report.log"
        partition = [f"--{option}" for option in self.shape.resources.slurm]
        lines = [f"--job-name={name}", f"--output={log}", "--open-mode=append", "--ntasks=1", *partition]
        lines += [f"--dependency=afterany:{':'.join(after)}"] if after else []
        options = "\n".join(f"#SBATCH {line}" for line in lines)
        return self.submit(f"#!/bin/bash\n{options}\nexec {shlex.join([sys.executable, *command])}\n")


def max_array_size() -> int:
    """The most tasks that an array of this cluster may have; Slurm's default where it does not answer."""
    found = re.search(r"\bMaxArraySize\s*=\s*(\d+)", _ask("scontrol", "show", "config").stdout)
    return max(1, int(found[1])) if found else MAX_ARRAY_SIZE


def find_jobs() -> list[Job] | None:
    """This user's jobs that wait or run; None if Slurm does not answer, or is not here."""
    done = _ask("squeue", "--me", "-r", "-h", "-o", "%i|%T|%r|%j")
    if done.returncode:
        return None
    return [Job(*line.split("|", 3)) for line in done.stdout.splitlines() if line.count("|") >= 3]


def end_of(job: str) -> End | None:
    """How an ended job ended; None if nobody knows any more."""
    shown = _ask("scontrol", "show", "job", job, "-o").stdout
    if state := re.search(r"\bJobState=(\S+)", shown):
        code = re.search(r"\bExitCode=(\d+):(\d+)", shown)
        return _end(state[1], code[0].partition("=")[2] if code else "0:0")
    if shutil.which("sacct"):
        told = _ask("sacct", "-X", "-n", "-P", "-j", job, "-o", "State,ExitCode").stdout.split("\n")[0].split("|")
        if len(told) == 2:
            return _end(told[0].split()[0], told[1])
    return None


def scancel(jobs: Sequence[str]) -> None:
    """Cancel the jobs; ValueError with Slurm's reason if it would not."""
    done = _ask("scancel", *jobs)
    if done.returncode:
        raise ValueError(_reason(done.stderr))


def _end(state: str, code: str) -> End:
    value, _, number = code.partition(":")
    return End(state, -int(number) if int(number or 0) else int(value))


def _reason(text: str) -> str:
    """Slurm's last line, without its prefixes."""
    lines = [line for line in text.strip().splitlines() if line.strip()] or ["no reason was given"]
    return re.sub(r"^(sbatch|scancel|squeue)?:? ?(error: )?(allocation failure: )?", "", lines[-1]).strip()


def _ask(*command: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """A command of Slurm's; one that is not there, or does not answer, is as one that failed."""
    try:
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=ASK_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def _template() -> str:
    return (Path(__file__).parent / "sbatch.txt").read_text(encoding="utf-8")
