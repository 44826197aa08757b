"""`python -m benchmarks gpu`: each part in a process of its own, its record on disk as soon as there is a number.

A part that fails, or that time does not suffice for, is named and left out: an error of the device ends its process and
spoils no other part.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.config import MINUTES, PARTS, GpuConfig
from lightgen.device import choose_device
from lightgen.disk.json_files import read_json, write_json


def measure(config: GpuConfig) -> int:
    """Measure and print; the exit code is 1 where a part failed."""
    device = str(choose_device(config.device))
    end = time.monotonic() + 60 * config.minutes
    states: dict[str, str] = {}
    for name in (name for name in PARTS if name in config.parts):
        least, most = PARTS[name]
        most *= max(1.0, config.minutes / MINUTES)  # who has more time has a slower device, or wants more rows
        left = end - time.monotonic()
        path = config.out / f"{name}.json"
        path.unlink(missing_ok=True)
        states[name] = "no time left" if left < least else _run(name, path, device, config, min(most, left))
        print(f"{name}: {states[name]}", flush=True)
        write_json(config.out / "summary.json", {"device": device, "sizes": config.sizes, "parts": states})
    return 1 if any(state.startswith("failed") for state in states.values()) else 0


def _run(name: str, path: Path, device: str, config: GpuConfig, seconds: float) -> str:
    """Run one part; "done", or what became of it."""
    words = [name, str(path.resolve()), device, config.sizes, f"{seconds:.1f}"]
    with subprocess.Popen([sys.executable, "-m", "benchmarks.gpu.part", *words]) as process:
        try:
            code = process.wait(seconds + 15)  # a part ends by itself; what hangs is ended
        except subprocess.TimeoutExpired:
            process.kill()
            rows = f"rows until then in {path.name}" if path.is_file() else "before its first row"
            return f"failed: ended after {seconds + 15:.0f} s; {rows}"
    if code == 0:
        return "done"
    return f"failed: {_reason(path) or f'exit code {code}'}"


def _reason(path: Path) -> str:
    record: dict[str, Any] = read_json(path) if path.is_file() else {}
    return str(record.get("failed", ""))
