"""Folders that appear whole or not at all, and the hashes that identify them."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def temporary_folder(final: str | Path) -> Iterator[Path]:
    """A fresh folder beside `final`; it takes the name `final` when the block ends, and vanishes if the block fails."""
    final = Path(final)
    final.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
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
            _sync(path)
    # mkdtemp makes folders private; a published one follows the user's umask like any other.
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o777 & ~umask)
    aside = final.with_name(f".{final.name}.replaced.{os.getpid()}")
    if final.exists():
        os.replace(final, aside)
    os.replace(temporary, final)
    _sync(final.parent)
    shutil.rmtree(aside, ignore_errors=True)


def file_sha256(path: str | Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_sha256(folder: str | Path) -> str:
    """One hexadecimal SHA-256 over the names and bytes of every weight and JSON file under `folder`."""
    folder = Path(folder)
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".safetensors", ".json", ".model"))
    if not any(path.suffix == ".safetensors" for path in files):
        raise FileNotFoundError(f"{folder} holds no .safetensors file; give a complete model folder")
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(folder).as_posix()} {file_sha256(path)}\n".encode())
    return digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
