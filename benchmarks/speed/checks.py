"""What all checks of files cost: their share of the processor time of a study's cells, worker by worker.

The cells are run as `python -m ablations.run` runs them. The whole is everything that the workers do, and the imports
of the process that they are forks of.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.speed.config import ChecksCost
from benchmarks.speed.report import Report

ROOT = Path(__file__).parents[2]
WORKERS, FOLDER = ("ablations.worker", "ablations.runner.engines.warm"), "LIGHTGEN_CHECKED"
# Python imports a module of this name at its start. A worker leaves by os._exit.
_AT_START = f"""
import os, sys
if {set(WORKERS)!r} & set(sys.orig_argv):
    from pathlib import Path
    from benchmarks.speed.checked import Checked
    checked, leave = Checked(), os._exit
    checked.install()
    os.register_at_fork(before=checked.pause, after_in_child=checked.start)
    def write_and_leave(code):
        checked.write(Path(os.environ[{FOLDER!r}]))
        leave(code)
    os._exit = write_and_leave
"""


def run_benchmark(config: ChecksCost) -> dict[str, Any]:
    """Measure and print."""
    report = Report("checks", config)
    for scale in config.scales:
        report.add_row(*_measured(scale, config))
    return report.finish()


def _measured(scale: str, config: ChecksCost) -> tuple[str, dict[str, Any]]:
    changes = config.changes if scale != "smoke" else ()
    runs = [_run(scale, config, changes) for _ in range(config.repetitions)]
    shares = [sum(one["checks"].values()) / one["seconds"] for one in runs]
    largest = Counter(runs[-1]["checks"]).most_common(8)
    row = {
        "scale": scale,
        "study": config.study,
        "variants": list(config.variants),
        "changes": list(changes),
        "workers": runs[-1]["workers"],
        "seconds": [round(one["seconds"], 3) for one in runs],
        "share": {"median": median(shares), "least": min(shares), "most": max(shares), "all": shares},
        "largest": {name: {"seconds": round(value, 4), "calls": runs[-1]["calls"][name]} for name, value in largest},
    }
    spread = f"{median(shares):.2%} [{min(shares):.2%}, {max(shares):.2%}]"
    return f"{scale}: {spread} of {median(row['seconds']):.1f} s of processor, {len(runs)} runs", row


def _run(scale: str, config: ChecksCost, changes: tuple[str, ...]) -> dict[str, Any]:
    """Processor seconds of all workers of one run, and of their checks."""
    with tempfile.TemporaryDirectory() as scratch:
        start, notes = Path(scratch) / "start", Path(scratch) / "notes"
        start.mkdir()
        notes.mkdir()
        (start / "sitecustomize.py").write_text(_AT_START)
        path = os.pathsep.join([str(start), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        command = [sys.executable, "-m", "ablations.run", config.study, "--scale", scale, "--workers", "1"]
        command += ["--out", str(Path(scratch) / "run"), "--only", *config.variants]
        command += ["--set", *changes] if changes else []
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path, FOLDER: str(notes)}, capture_output=True)
        if done.returncode:
            raise ValueError(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.decode()[-500:]}")
        found = [json.loads(file.read_text()) for file in sorted(notes.iterdir())]
    if not found:
        raise ValueError(f"{' '.join(command)}: no worker was measured")
    checks, calls = Counter[str](), Counter[str]()
    for one in found:
        checks.update(one["checks"])
        calls.update(one["calls"])
    seconds = sum(one["seconds"] for one in found) + max(one["before"] for one in found)
    return {"workers": len(found), "seconds": seconds, "checks": checks, "calls": calls}
