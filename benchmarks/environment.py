"""Where something ran: for a record, beside a time, and for numbers that are compared to the last bit."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("diffusers", "transformers", "open-clip-torch", "accelerate", "numpy", "pillow")


def environment() -> dict[str, Any]:
    """Code, interpreter, libraries and device, as a record names them."""
    return {
        **_git(),
        "python": platform.python_version(),
        "torch": _version("torch"),
        "device": _device(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def timing_environment(device: Any) -> dict[str, Any]:
    """What a time on this torch device depends on besides the program."""
    import torch

    is_cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if is_cuda else (_processors() or [platform.machine()])[0],
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load": [round(value, 2) for value in os.getloadavg()],
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def arithmetic_environment() -> dict[str, Any]:
    """What must agree for two runs to agree to the last bit."""
    import torch

    return {
        "torch": torch.__version__.split("+")[0],
        **{name: _version(name) for name in ("transformers", "diffusers", "numpy")},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": (_processors() or [platform.processor()])[0],
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": 1,
    }


def _git() -> dict[str, Any]:
    """Commit of the working tree that this package is run from, and whether it has changes; null outside of one."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return {"git": None, "dirty": None}

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True).stdout.strip()

    return {"git": git("rev-parse", "--short=12", "HEAD") or None, "dirty": bool(git("status", "--porcelain"))}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _device() -> str:
    """The GPU's name if torch is loaded and has one, else the processor's."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    names = _processors()
    return f"{names[0]}, {len(names)} cores" if names else platform.processor() or platform.machine()


def _processors() -> list[str]:
    """The model name of each core, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
