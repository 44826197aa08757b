"""What a safetensors file says of its own length, read before it is hashed: one of any length would be hashed to its
end."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geneval.json_files import parse_json, read_text
from geneval.regular import regular_file

LARGEST = 2**44  # bytes of a file of weights
_LENGTH = 8  # bytes that say how long the header is
_LARGEST_HEADER = 100_000_000  # the format's own limit
_LENGTH_NAME = ""  # no tensor's
_DEPTH = re.compile("layer|depth|block")  # what is built so many times
_WIDTH = re.compile("(width|dim|size|grid|channels|d_model|d_ff|d_kv|context_length)$")  # sides of matrices
_LEAST_DEPTH, _LEAST_SIZE = 4096, 2**24  # what any network may have, however small its weights
_LARGEST_TORN = 2**30  # bytes of a file that does not say how long it is; whoever loads it refuses it


def weight_file(path: Path) -> Path:
    """`path`, if it is a regular file no longer than its header and tensors; ValueError for any other."""
    path = regular_file(path, LARGEST)
    size, stated = path.stat().st_size, _stated_size(path)
    if stated is None and size > _LARGEST_TORN:
        raise ValueError(f"{path}: {size:,} bytes, and no header of a safetensors file; copy it again")
    if stated is not None and size > stated:
        raise ValueError(f"{path}: {size:,} bytes, and its header tells of {stated:,}; copy it again")
    return path


def check_sizes(folder: Path) -> None:
    """ValueError for a config of a network that no weights as these could fill: a library would build it all the same,
    until time or memory is gone."""
    files = sorted(folder.glob("*.safetensors"))
    size = sum(weight_file(path).stat().st_size for path in files)
    tensors = sum(len(_header(path) or ()) for path in files)
    for path in (folder / "config.json", folder / "open_clip_config.json"):
        for name, number in _numbers("", parse_json(read_text(path), str(path))) if path.is_file() else ():
            is_deep = _DEPTH.search(name) and not _WIDTH.search(name) and number > max(tensors, _LEAST_DEPTH)
            is_wide = _WIDTH.search(name) and "vocab" not in name and number**2 > max(size, _LEAST_SIZE)
            if is_deep or is_wide or number > max(size, _LEAST_SIZE):
                raise ValueError(f"{path}: {name} is {number:,}: more than its {size:,} bytes of weights can be of")


def _numbers(name: str, value: Any) -> Iterator[tuple[str, int]]:
    """(field, number) of each whole number; those of a list have the list's name."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(key, inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(name, inner)
    elif isinstance(value, int) and not name.endswith("token_id"):
        yield name, value


def _header(path: Path) -> dict[str, Any] | None:
    """A safetensors file's header; None where it cannot be read."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        text = file.read(length) if length <= _LARGEST_HEADER else b""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return {**found, _LENGTH_NAME: length} if isinstance(found, dict) else None


def _stated_size(path: Path) -> int | None:
    """The bytes of header and tensors, as the header has them; None for a header that cannot be read."""
    header = _header(path)
    if header is None:
        return None
    length = header.pop(_LENGTH_NAME)
    try:
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return _LENGTH + length + int(max(ends, default=0))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError):
        return None
