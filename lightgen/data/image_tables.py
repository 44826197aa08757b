"""Pictures inside tables: parquet files as the hub has them, and folders that `datasets` saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightgen.data.originals import Original, Part, files_fingerprint, in_parts
from lightgen.disk.json_files import read_object
from lightgen.disk.regular import LARGEST, regular_file

INSTALL = "pip install 'lightgen-bench[data]'"


class ImageTables:
    """The rows of parquet files; one row group is held at a time."""

    kind = "parquet"

    def __init__(self, root: Path, files: Sequence[Path]):
        self.root, self.files = root, list(files)

    @property
    def fingerprint(self) -> str:
        return files_fingerprint(self.root, self.files)

    def parts(self, size: int) -> list[Part]:
        return in_parts([_parquet(path).metadata.num_rows for path in self.files], size)

    def read(self, part: Part) -> Iterator[Original]:
        path = self.files[part.file]
        where, table = path.relative_to(self.root).as_posix(), _parquet(path)
        first = 0
        for group in range(table.num_row_groups):
            count = table.metadata.row_group(group).num_rows
            last = first + count
            if first < part.start + part.count and last > part.start:
                inside = range(max(part.start, first), min(part.start + part.count, last))
                rows = _group(path, table, group).slice(inside.start - first, len(inside))
                for number, row in zip(inside, _rows(rows)):
                    yield _original(f"{where}:{number}", row)
            first = last


class SavedTables:
    """A data set that `datasets.Dataset.save_to_disk` wrote, mapped from disk."""

    kind = "datasets folder"

    def __init__(self, root: Path):
        try:
            from datasets import Image, load_from_disk
        except ImportError:
            raise ImportError(f"{root} was saved by the datasets library, which is not installed: {INSTALL}") from None
        if (root / "dataset_dict.json").is_file():
            splits = ", ".join(sorted(path.name for path in root.iterdir() if path.is_dir()))
            raise ValueError(f"{root} holds several splits ({splits}); give one of these folders")
        self.root = root
        for path in sorted(root.rglob("*")):
            if path.suffix == ".json":
                read_object(path)
            elif not path.is_dir():
                regular_file(path, LARGEST)
        try:
            table = load_from_disk(str(root))
            for name, feature in table.features.items():
                if isinstance(feature, Image):
                    table = table.cast_column(name, Image(decode=False))
            table.data.table.validate(full=True)  # places in the mapped file: what lies outside would end the process
        except Exception as error:  # damaged files raise anything from KeyError to ArrowInvalid
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise ValueError(f"{root}: its {_named(root)} are torn or no saved data set ({reason})") from None
        self.table = table

    @property
    def fingerprint(self) -> str:
        return files_fingerprint(self.root, sorted(path for path in self.root.rglob("*") if path.is_file()))

    def parts(self, size: int) -> list[Part]:
        return in_parts([len(self.table)], size)

    def read(self, part: Part) -> Iterator[Original]:
        for number in range(part.start, part.start + part.count):
            yield _original(str(number), self.table[number])


def _named(root: Path) -> str:
    return ", ".join(sorted(path.name for path in root.iterdir())[:8])


def read_parquet(path: Path) -> list[dict[str, Any]]:
    """All rows of a parquet file."""
    table = _parquet(path)
    return [row for group in range(table.num_row_groups) for row in _group(path, table, group).to_pylist()]


def holds_images(path: Path) -> bool:
    """Whether a parquet file has a column of pictures."""
    return any(_is_bytes(field.type) for field in _parquet(path).schema_arrow)


def _parquet(path: Path) -> Any:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ImportError(f"{path} is a parquet file, and pyarrow is not installed: {INSTALL}") from None
    try:
        return parquet.ParquetFile(regular_file(path, LARGEST), page_checksum_verification=True)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path}: torn or no parquet file ({error}); fetch it again") from None


def _group(path: Path, table: Any, group: int) -> Any:
    """The rows of a group, whose pages' checksums are compared where it has them."""
    import pyarrow

    try:
        return table.read_row_group(group)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path}, row group {group}: torn ({error}); fetch it again") from None


def _is_bytes(kind: Any) -> bool:
    """Bytes, or the hub's {"bytes", "path"}."""
    from pyarrow import types

    if types.is_struct(kind):
        return any(kind.field(place).name == "bytes" for place in range(kind.num_fields))
    return types.is_binary(kind) or types.is_large_binary(kind)


def _rows(table: Any) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=64):
        yield from batch.to_pylist()


def _original(name: str, row: Mapping[str, Any]) -> Original:
    pictures = [data for data in map(_picture, row.values()) if data is not None]
    fields = {key: value for key, value in row.items() if _picture(value) is None}
    if len(pictures) != 1:
        return Original(name, problem=f"needs one picture, has {len(pictures)}", fields=fields)
    return Original(name, pictures[0], fields)


def _picture(value: Any) -> bytes | None:
    value = value.get("bytes") if isinstance(value, dict) else value
    return value if isinstance(value, bytes) else None
