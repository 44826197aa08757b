"""Files that are there complete or not at all; what a killed process left is removed by the next that writes there."""

import hashlib
import os
import re
import shutil
import socket
from functools import cache
from pathlib import Path

_TEMPORARY = re.compile(r"\..+\.([0-9a-f]{6})-(\d+)\.part")


def write_text(path: Path, text: str) -> None:
    """Write a text file under a temporary name, then rename it into place."""
    partial = partial_path(path)
    with open(partial, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def partial_path(path: Path) -> Path:
    """The temporary name beside `path`, of this process alone; those of dead processes beside it are removed."""
    _sweep(path.parent.absolute(), os.getpid())
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}.part")


@cache
def _sweep(folder: Path, process: int) -> None:
    """Once a folder and process, before its first file there: one of this process's number is of an earlier one."""
    for path in folder.glob(".*.part"):
        found = _TEMPORARY.fullmatch(path.name)
        if found and found[1] == _host() and (int(found[2]) == process or not _is_alive(int(found[2]))):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


@cache
def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]
