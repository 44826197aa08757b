"""What a safetensors file says of its own length, read before it is hashed: one of any length would be hashed to its
end."""

import json
from pathlib import Path

from geneval.regular import regular_file

LARGEST = 2**44  # bytes of a file of weights
_LENGTH = 8  # bytes that say how long the header is
_LARGEST_HEADER = 100_000_000  # the format's own limit
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


def _stated_size(path: Path) -> int | None:
    """The bytes of header and tensors, as the header has them; None for a header that cannot be read."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        text = file.read(length) if length <= _LARGEST_HEADER else b""
    try:
        ends = [entry["data_offsets"][1] for name, entry in json.loads(text).items() if name != "__metadata__"]
        return _LENGTH + length + int(max(ends, default=0))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError):
        return None
