"""Files that are there complete or not at all."""

import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a text file under a temporary name, then rename it into place."""
    partial = partial_path(path)
    with open(partial, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def partial_path(path: Path) -> Path:
    """The temporary name beside `path`, of this process alone."""
    return path.with_name(f".{path.name}.{os.getpid()}")
