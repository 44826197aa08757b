"""One training at a time in one folder."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator
from filelock import FileLock, Timeout


@contextmanager
def alone(out: Path, accelerator: Accelerator) -> Iterator[None]:
    """Hold OUT for this run, by its main process; the kernel lets go of it when that ends, however it ends.

    ValueError where another run holds it.
    """
    if not accelerator.is_main_process:
        yield
        return
    is_new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    path, owner = out / ".lock", out / ".owner"
    try:
        with FileLock(path, timeout=0):
            owner.write_text(f"{os.getpid()} on {socket.gethostname()}", encoding="utf-8")
            try:
                yield
            finally:
                for left in (owner, path):
                    left.unlink(missing_ok=True)
                if is_new and not any(out.iterdir()):  # refused before anything was written
                    out.rmdir()
    except Timeout:
        holder = owner.read_text(encoding="utf-8") if owner.is_file() else "unknown"
        raise ValueError(
            f"{out} is being trained in by process {holder}; wait for it, stop it, or give another --out"
        ) from None
