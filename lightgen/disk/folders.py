"""Folders that appear whole or not at all, and the hashes that identify them."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from lightgen.disk.atomic import sync, temporary_path
from lightgen.disk.json_files import MAX_BYTES, read_json, write_json
from lightgen.disk.regular import LARGEST, regular_file
from lightgen.disk.weight_files import weight_file

WEIGHTS = ".safetensors"
HASHED = {WEIGHTS, ".json", ".model", ".txt"}  # weights, settings, and what tokenizers are made of


@contextmanager
def temporary_folder(final: str | Path) -> Iterator[Path]:
    """A fresh folder beside `final`; it takes the name `final` when the block ends, and vanishes if the block fails."""
    final = Path(final)
    folder = temporary_path(final)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
        publish_folder(folder, final)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish_folder(temporary: str | Path, final: str | Path) -> None:
    """Rename `temporary` to `final`; an older `final` is moved aside first and removed afterwards.

    Both must lie on one file system. Between the two renames `final` is absent for an instant, never half-written.
    """
    temporary, final = Path(temporary), Path(final)
    for path in sorted(temporary.rglob("*")):
        if path.is_file():
            sync(path)
    aside = temporary_path(final.with_name(f"{final.name}.replaced"))
    if final.exists():
        os.replace(final, aside)
    os.replace(temporary, final)
    sync(final.parent)
    shutil.rmtree(aside, ignore_errors=True)


def claim_folder(out: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a resumable folder before its first file, or refuse a folder begun with others."""
    path = Path(out) / "settings.json"
    settings = json.loads(json.dumps(settings))
    if path.is_file():
        if read_json(path) != settings:
            raise ValueError(f"{out} was begun with other settings; choose another folder or remove it")
    else:
        write_json(path, settings)


def file_sha256(path: str | Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes; of weights and settings only where their length is believable."""
    path = Path(path)
    checked = weight_file(path) if path.suffix == WEIGHTS else regular_file(path, _most_bytes(path))
    with checked.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_sha256(path: Path) -> str:
    """`file_sha256`, read once in a process as long as the file stays the same."""
    status = Path(path).stat()
    return _known_sha256(Path(path), status.st_ino, status.st_size, status.st_mtime_ns)


def folder_sha256(folder: str | Path) -> str:
    """One hexadecimal SHA-256 over the names and bytes of every weight, settings and tokenizer file under `folder`,
    the same for every copy of it; FileNotFoundError where there are no weights."""
    folder = Path(folder)
    # quality.json is a measurement of the weights, not a part of them.
    files = sorted(path for path in folder.rglob("*") if path.suffix in HASHED and path.name != "quality.json")
    if not any(path.suffix == WEIGHTS for path in files):
        raise FileNotFoundError(f"{folder} holds no .safetensors file; give a complete model folder")
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(folder).as_posix()} {known_sha256(path)}\n".encode())
    return digest.hexdigest()


def _most_bytes(path: Path) -> int:
    """A text is no larger than what is read of one; only data sets are."""
    return MAX_BYTES if path.suffix in HASHED else LARGEST


@lru_cache(maxsize=4096)
def _known_sha256(path: Path, inode: int, size: int, modified: int) -> str:
    """Text encoders are large."""
    return file_sha256(path)
