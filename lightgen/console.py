"""What the verbs of the command line share: options, signals, and lines of results and progress."""

import atexit
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from lightgen.disk.weight_files import check_sizes

STOPPED = 75  # exit code: saved and resumable
DIVERGED = 1  # exit code: the loss, or a gradient, is no number any more
EMBEDDED = "icons"  # the small parts that come with this repository, by name from any folder
_COMPONENTS = Path(__file__).resolve().parents[1] / "ablations" / "icons" / "components"

Device = Annotated[str, arg(help="auto, cpu, cuda, cuda:N or mps")]
Json = Annotated[bool, arg(help="print one JSON object instead of a line")]
KeyValues = Annotated[tuple[str, ...], arg(metavar="KEY=VALUE ...")]


def component(folder: Path, part: Literal["vae", "text"]) -> Path:
    """The folder of an image tokenizer or text encoder: the given one, or the embedded one by its name."""
    chosen = _COMPONENTS / part if str(folder) == EMBEDDED and not folder.is_dir() else folder
    check_sizes(chosen)
    return chosen


def json_pairs(values: Sequence[str]) -> dict[str, Any]:
    """`key=value` split at the first "="; a value is JSON, or else the text itself."""
    if wrong := [value for value in values if "=" not in value]:
        raise ValueError(f"{wrong[0]!r} is not NAME=VALUE")
    result: dict[str, Any] = {}
    for name, text in (value.split("=", 1) for value in values):
        try:
            result[name] = json.loads(text)
        except json.JSONDecodeError:
            result[name] = text
    return result


def stop_on_signals() -> Callable[[], bool]:
    """True once a signal asked to stop; the run then saves at the next step."""
    asked = []
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(name, lambda number, frame: asked.append(number))
    return lambda: bool(asked)


def report(line: str, facts: dict[str, Any], as_json: bool) -> None:
    """Print a verb's result: a line for people, or its numbers as one JSON object."""
    print(json.dumps(facts) if as_json else line)


def finish(result: dict[str, Any], out: Path, as_json: bool) -> None:
    """Print a training's result; one that was stopped ends the process with exit code 75, one that diverged with 1."""
    line = f"{result['status']}: {result['steps']} steps, {result['samples']} samples, {result['seconds']:.0f} s"
    report(f"{line} in {out}", {**result, "out": str(out)}, as_json)
    if result["status"] == "stopped":
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(STOPPED)
    if result["status"] == "diverged":
        what = f"diverged after {result['steps']} steps: loss or gradient is not finite"
        print(f"error: {what}; {out / 'model'} holds the last weights that were, try a lower rate", file=sys.stderr)
        sys.exit(DIVERGED)


def row_lines(total_steps: int) -> Callable[[dict[str, Any]], None]:
    """A line on stderr with a run's newest row, at most every two seconds."""
    printed = 0.0

    def show(row: dict[str, Any]) -> None:
        nonlocal printed
        if time.monotonic() - printed < 2 and row["step"] < total_steps:
            return
        printed = time.monotonic()
        left = (total_steps - row["step"]) * row["seconds"] / row["step"]
        loss = f"loss {row['loss']:.4f}, " if "loss" in row else ""
        speed = f"{row['samples_per_second']:.0f} samples/s, {left:.0f} s left"
        print(f"step {row['step']} of {total_steps}: {loss}{speed}", file=sys.stderr, flush=True)

    return show


def progress_lines(unit: str) -> Callable[[int, int], None]:
    """What is done of how much: a bar on a terminal, else a line on stderr with the time left every two seconds."""
    return _bar(unit) if sys.stderr.isatty() else _lines(unit)


def _bar(unit: str) -> Callable[[int, int], None]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True))
    task = bar.add_task(unit)
    atexit.register(bar.stop)  # a run that is left early gives the terminal back
    bar.start()

    def show(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)
        if done >= total:
            bar.stop()

    return show


def _lines(unit: str) -> Callable[[int, int], None]:
    started = printed = time.monotonic()
    first: int | None = None

    def show(done: int, total: int) -> None:
        nonlocal printed, first
        now = time.monotonic()
        first = done if first is None else first
        if now - printed < 2 and done < total:
            return
        printed = now
        left = f", {(total - done) * (now - started) / (done - first):.0f} s left" if done > first else ""
        print(f"{done} of {total} {unit}{left if done < total else ''}", file=sys.stderr, flush=True)

    return show


def parse_shard(text: str) -> tuple[int, int]:
    """(I, N) of "I/N": every N-th piece of work from the I-th."""
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise ValueError(f"--shard {text!r} must be I/N with 0 <= I < N, as 0/4")
    return int(index), int(count)
