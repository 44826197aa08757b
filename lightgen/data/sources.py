"""Where captioned pictures come from: a folder, a table, parquet files or tars, told apart by what is there."""

from __future__ import annotations

from pathlib import Path

from lightgen.data.image_folders import TABLES, ImageFolder
from lightgen.data.image_tables import ImageTables, SavedTables, holds_images
from lightgen.data.image_tars import ImageTars
from lightgen.data.originals import Source


def open_source(path: Path) -> Source:
    """The originals in a file or folder. FileNotFoundError or ValueError where it holds nothing that can be read."""
    path = Path(path)
    if path.is_dir():
        return _of_folder(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there; give a folder of pictures, a table of them, parquet files or tars"
        )
    if path.suffix == ".tar":
        return ImageTars(path.parent, [path])
    if path.suffix == ".parquet" and holds_images(path):
        return ImageTables(path.parent, [path])
    if path.suffix in (".jsonl", ".csv", ".parquet"):
        return ImageFolder(path.parent, path)
    raise ValueError(f"{path}: give a folder, or a .tar, .parquet, .jsonl or .csv file")


def _of_folder(path: Path) -> Source:
    if any((path / name).is_file() for name in ("dataset_dict.json", "dataset_info.json", "state.json")):
        return SavedTables(path)
    if tars := sorted(path.rglob("*.tar")):
        return ImageTars(path, tars)
    tables = [file for file in sorted(path.rglob("*.parquet")) if file.name not in TABLES or holds_images(file)]
    return ImageTables(path, tables) if tables else ImageFolder(path)
