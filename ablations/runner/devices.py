"""The devices of this machine, found without torch, and how many cells run beside each other on them."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablations.runner.engines.local import num_cores


def choose_scale(settings: Mapping[str, Any], devices: Sequence[str]) -> str:
    """ "gpu" where there is one and the study has the scale, else "cpu"."""
    return "gpu" if devices and "gpu" in settings else "cpu"


def default_workers(runtime: Any, num_cells: int, devices: Sequence[str]) -> int:
    """A process a core; with GPUs as many cells a GPU as the setting says fit on one, and cores enough to feed them, or
    as many cells as there are GPUs for their processes."""
    if runtime.processes > 1:
        return max(1, min(num_cells, (len(devices) or num_cores()) // runtime.processes))
    shared = min(len(devices) * runtime.cells_per_gpu, num_cores() // 2)
    return max(1, min(num_cells, max(len(devices), shared) if devices else num_cores()))


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
