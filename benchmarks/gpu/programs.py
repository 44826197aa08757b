"""Parts that are other commands: the tests that need a device, and a study for as long as is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as tree
from pathlib import Path

from benchmarks.gpu.job import Job

ROOT = Path(__file__).parents[2]


def tests(job: Job) -> None:
    """`pytest -m gpu`; the record counts them and names those that failed."""
    report = job.path.with_suffix(".xml")
    words = ["-m", "pytest", "-m", "gpu", str(ROOT / "tests/gpu"), "-p", "no:cacheprovider", f"--junitxml={report}"]
    code = _run([sys.executable, *words], job, LIGHTGEN_DEVICE=str(job.device))
    if not report.is_file():
        raise RuntimeError(f"pytest ended with {code} before it reported")
    if code is None:
        job.record["stopped"] = "for time; tests that had not run are not counted"
    suite = next(tree.parse(report).iter("testsuite"))
    counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    failed = [case.get("name") for case in suite.iter("testcase") if {"failure", "error"} & {e.tag for e in case}]
    passed = counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"]
    job.add(f"{passed} passed, {len(failed)} failed, {counts['skipped']} skipped", {**counts, "failed": failed})
    if failed:
        raise RuntimeError(f"{len(failed)} tests failed: {', '.join(map(str, failed))}")


def study(job: Job) -> None:
    """`diversity_sweep`, stopped when the time is up; the same command goes on from there."""
    scale = "smoke" if job.sizes == "tiny" else "gpu"
    out = job.path.parent / "study"
    device = f'runtime.device="{job.device}"'
    words = ["-m", "ablations.run", "diversity_sweep", "--scale", scale, "--out", str(out), "--set", device]
    code = _run([sys.executable, *words], job)
    cells = sorted(path.parent.name for path in out.glob("cells/*/result.json"))
    state = "complete" if code == 0 else "stopped for time" if code is None else f"exit code {code}"
    job.add(f"{state}: {len(cells)} cells are recorded", {"state": state, "cells": cells, "folder": out.name})
    if code:
        raise RuntimeError(f"the study ended with {code}; its folder is {out.name}")


def _run(words: list[str], job: Job, **variables: str) -> int | None:
    """The exit code; None where the time is up, after a request to stop."""
    with subprocess.Popen(words, cwd=ROOT, env={**os.environ, **variables}) as process:
        try:
            return process.wait(max(1.0, job.left - 5))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # pytest then writes what it has; a study saves
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
            return None
