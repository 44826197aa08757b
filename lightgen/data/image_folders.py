"""Pictures in a folder, nested or not: captions in NAME.txt beside each, or in metadata.jsonl, .csv or .parquet."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from lightgen.data.originals import MAX_BYTES, Original, Part, files_fingerprint, in_parts
from lightgen.disk.json_files import read_rows, read_text
from lightgen.disk.regular import regular_file

IMAGES = {".png", ".jpg", ".jpeg", ".webp"}
OTHERS = {".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jxl", ".tif", ".tiff"}  # named among what is left out
TABLES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
FILE_FIELDS = ("file_name", "filename", "file", "path", "image")  # which names a table's picture


class ImageFolder:
    """The pictures under a folder, by name; with tables, the pictures that these name, in their order, then the rest.

    ValueError for a folder without captions, and for a picture that has two.
    """

    kind = "image folder"

    def __init__(self, root: Path, table: Path | None = None):
        self.root = root
        files = sorted(_files(root))
        images = {path.relative_to(root).as_posix() for path in files if path.suffix.lower() in IMAGES | OTHERS}
        tables = [table] if table else [path for path in files if path.name in TABLES]
        self.rows = _rows_of(root, tables)
        texts = [path for path in files if path.suffix.lower() == ".txt"]
        self.sidecars = {path.relative_to(root).with_suffix("").as_posix(): path for path in texts}
        self.names = [*self.rows, *sorted(images - set(self.rows))]
        self._files = [path for path in files if path.suffix.lower() in {*IMAGES, *OTHERS, ".txt"} or path in tables]
        self._check(images)

    @property
    def fingerprint(self) -> str:
        return files_fingerprint(self.root, self._files)

    def parts(self, size: int) -> Sequence[Part]:
        return in_parts([len(self.names)], size)

    def read(self, part: Part) -> Iterator[Original]:
        for name in self.names[part.start : part.start + part.count]:
            yield self._original(name)

    def _original(self, name: str) -> Original:
        path = self.root / name
        if path.suffix.lower() in OTHERS:
            return Original(name, problem=f"a {path.suffix.lower()} file; {', '.join(sorted(IMAGES))} are read")
        try:
            regular_file(path, MAX_BYTES)
        except FileNotFoundError:
            return Original(name, problem="named in the table, and not there")
        except ValueError as error:
            return Original(name, problem=str(error).removeprefix(f"{path}: "))
        fields = dict(self.rows.get(name, {}))
        if (sidecar := self.sidecars.get(PurePosixPath(name).with_suffix("").as_posix())) is not None:
            try:
                fields["text"] = read_text(sidecar)
            except (ValueError, OSError) as error:
                return Original(name, problem=f"its .txt is no text ({error})")
        return Original(name, path.read_bytes(), fields)

    def _check(self, images: set[str]) -> None:
        if not images:
            raise FileNotFoundError(
                f"{self.root} holds no pictures ({', '.join(sorted(IMAGES))}), tars or parquet files"
            )
        stems = [PurePosixPath(name).with_suffix("").as_posix() for name in self.names]
        captioned = [stem in self.sidecars for stem in stems]
        if not self.rows and not any(captioned):
            raise ValueError(
                f"{self.root} holds {len(images)} pictures and no captions: put NAME.txt beside each, or one of"
                f" {', '.join(TABLES)} with a file_name and a caption a row"
            )
        if both := [name for name, has in zip(self.names, captioned) if has and name in self.rows]:
            raise ValueError(f"two captions for {both[0]}: a row of the table and a .txt beside it; remove one of them")
        if len(set(shared := [stem for stem, has in zip(stems, captioned) if has])) < len(shared):
            twice = next(stem for place, stem in enumerate(shared) if stem in shared[:place])
            raise ValueError(f"two pictures are named {twice}, and one {twice}.txt is beside them; rename one picture")


def _files(root: Path) -> Iterator[Path]:
    """The files under a folder, those behind links too; a folder that leads back into itself is gone into once."""
    seen: set[str] = set()
    for folder, inner, names in os.walk(root, followlinks=True):
        inner.sort()
        if (real := os.path.realpath(folder)) in seen:
            inner.clear()
            continue
        seen.add(real)
        yield from (Path(folder) / name for name in names)


def _rows_of(root: Path, tables: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """{picture's name under root: its row} of all tables; a table names pictures from its own folder on."""
    found: dict[str, dict[str, Any]] = {}
    for table in tables:
        for number, row in enumerate(_read_table(table), start=1):
            where = f"{table}, row {number}"
            name = _place(where, row)
            inside = os.path.normpath(os.path.relpath(table.parent, root) + "/" + name)
            if os.path.isabs(name) or inside.startswith(".."):
                raise ValueError(f"{where}: {name!r} lies outside of {root}; name pictures inside of it")
            if inside in found:
                raise ValueError(
                    f"{where}: two captions for {inside}; keep one row a picture, or list them in one field"
                )
            found[inside] = row
    return found


def _place(where: str, row: Mapping[str, Any]) -> str:
    names = [row[field] for field in FILE_FIELDS if isinstance(row.get(field), str)]
    if not names:
        raise ValueError(f"{where}: names no picture; give a column {', '.join(FILE_FIELDS[:-1])} or {FILE_FIELDS[-1]}")
    return names[0]


def _read_table(table: Path) -> list[dict[str, Any]]:
    if table.suffix == ".jsonl":
        return read_rows(table)
    if table.suffix == ".csv":
        try:
            lines = io.StringIO(read_text(table).removeprefix("\ufeff"), newline="")
            return [{name: _number(value) for name, value in row.items() if name} for row in csv.DictReader(lines)]
        except csv.Error as error:
            raise ValueError(f"{table} is no CSV table ({error})") from None
    from lightgen.data.image_tables import read_parquet

    return read_parquet(table)


def _number(text: Any) -> Any:
    """The number that a cell of a CSV table holds, or its text."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return text
