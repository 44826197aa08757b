"""Files that appear complete or not at all: temporary name, fsync, rename.

A temporary name says which host and process writes it, `.NAME.HOST-PID-THREAD.part`: what a killed process left is
removed by the next one that writes in the same folder.
"""

import hashlib
import os
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

_TEMPORARY = re.compile(r"\..+\.([0-9a-f]{6})-(\d+)-\w+\.part")
_swept: set[tuple[int, str]] = set()  # (process, folder)
_sweeping = threading.Lock()


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file to write; it takes the name `path` when the block ends well, and is removed when it does not."""
    path = Path(path)
    temporary = temporary_path(path)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(
            error.errno, f"cannot write {path}: {error.strerror or error}; what was finished before is kept"
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def temporary_path(path: Path) -> Path:
    """The temporary name beside `path` of this thread alone; its folder is made, and swept of what the dead left."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}-{threading.get_ident():x}.part")


def sweep(folder: Path) -> None:
    """Remove the temporary files and folders of this host's dead processes, once a folder and process."""
    with _sweeping:
        if (key := (os.getpid(), str(folder.absolute()))) in _swept:
            return
        _swept.add(key)
        for name in os.listdir(folder):
            found = _TEMPORARY.fullmatch(name)
            if found and found[1] == _host() and not _is_another_alive(int(found[2])):
                _remove(folder / name)


def _is_another_alive(pid: int) -> bool:
    """Whether it runs; a file of this process's own number, seen before its first one here, is of an earlier one."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@lru_cache(maxsize=1)
def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]


def sync(path: Path) -> None:
    """Make a file's bytes, or the renames in a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_file(path) as file:
        file.write(text.encode())
